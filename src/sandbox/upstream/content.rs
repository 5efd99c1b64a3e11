//! The content of the upstream registries, made on first request.
//!
//! A repository starts with the catalogue's images; content that tests add overlays them. Listing
//! names makes no image; a request for a tag makes its image; a request for an unknown digest makes
//! all listed images of its repository. Nothing is kept on disk: every process makes the same
//! bytes. So images of the catalogue are forgotten when many others were made after them, and made
//! again when they are asked for.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    catalogue::{self, Planned},
    synthesis::{self, Blob, Layers, Manifest},
};
use crate::model::{Digest, TagOrDigest};

#[derive(Debug, Default)]
pub struct Content {
    layers: Layers,
    repositories: Mutex<HashMap<(String, String), Shared>>,
    recent: Mutex<RecentRepositories>,
}

/// The repositories whose images are made, in the order of their last use.
#[derive(Debug, Default)]
struct RecentRepositories {
    order: VecDeque<(Shared, usize)>,
    bytes: usize,
}

impl RecentRepositories {
    /// Bytes of made images that are kept.
    const KEPT: usize = 32 << 20;

    /// Moves the repository to the end. Returns those to forget.
    fn record(&mut self, used: &Shared, bytes: usize) -> Vec<Shared> {
        if let Some(at) = self.order.iter().position(|(known, _)| Arc::ptr_eq(known, used))
            && let Some((_, known)) = self.order.remove(at)
        {
            self.bytes -= known;
        }
        self.bytes += bytes;
        self.order.push_back((Arc::clone(used), bytes));
        let mut surplus = Vec::new();
        while self.bytes > Self::KEPT
            && self.order.len() > 1
            && let Some((oldest, bytes)) = self.order.pop_front()
        {
            self.bytes -= bytes;
            surplus.push(oldest);
        }
        surplus
    }
}

type Shared = Arc<Mutex<Repository>>;

#[derive(Debug, Clone)]
pub struct Tagged {
    pub name: String,
    pub manifest: Manifest,
    pub pushed: SystemTime,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    Public,
    Private,
    /// Does not exist, unless a test added content.
    Missing,
}

#[derive(Debug)]
struct Repository {
    host: String,
    name: String,
    /// True if a test added content: then only the catalogue's tables are synthesised.
    has_added: bool,
    /// True once all listed images are made.
    is_complete: bool,
    tags: HashMap<String, (Digest, SystemTime)>,
    removed: HashSet<String>,
    generations: HashMap<String, u32>,
    /// The tags that are not listed and whose images were made.
    on_demand: BTreeSet<String>,
    /// The bytes of the images that were made.
    bytes: usize,
    manifests: HashMap<Digest, Manifest>,
    blobs: HashMap<Digest, Blob>,
}

impl Content {
    /// Runs `question` on a blocking thread, because it may have to make images.
    pub async fn run_blocking<T: Send + 'static>(
        self: &Arc<Self>,
        question: impl FnOnce(&Content) -> T + Send + 'static,
    ) -> T {
        let content = Arc::clone(self);
        let answer = tokio::task::spawn_blocking(move || question(&content)).await;
        answer.expect("making images does not panic")
    }

    pub fn manifest(&self, host: &str, name: &str, at: &TagOrDigest) -> Option<Manifest> {
        self.read(host, name, |repository| {
            let digest = match at {
                TagOrDigest::Digest(digest) => digest.clone(),
                TagOrDigest::Tag(tag) => repository.resolve(tag.as_str(), &self.layers)?.0,
            };
            repository.manifest(&digest, &self.layers)
        })
    }

    /// Forgets the images of every repository that was read.
    #[cfg(test)]
    pub(super) fn forget_all(&self) {
        let recent = std::mem::take(&mut *self.recent.lock());
        recent.order.iter().for_each(|(repository, _)| repository.lock().forget());
    }

    /// Asks a repository, which may make images, and forgets those of others if there are too many.
    fn read<T>(&self, host: &str, name: &str, ask: impl FnOnce(&mut Repository) -> T) -> T {
        let shared = self.repository(host, name);
        let mut repository = shared.lock();
        let answer = ask(&mut repository);
        let bytes = repository.bytes;
        // before the others are locked
        drop(repository);
        let surplus = self.recent.lock().record(&shared, bytes);
        surplus.iter().for_each(|repository| repository.lock().forget());
        answer
    }

    /// The blob, or its recipe. A repository has the blobs that its manifests name.
    pub fn blob(&self, host: &str, name: &str, digest: &Digest) -> Option<Blob> {
        self.read(host, name, |repository| {
            repository.ensure(&self.layers, |known| known.blobs.contains_key(digest));
            repository.blobs.get(digest).cloned()
        })
    }

    pub fn size(&self, blob: &Blob) -> usize {
        match blob {
            Blob::Bytes(bytes) => bytes.len(),
            Blob::Layer(layer) => self.layers.facts(layer).size,
        }
    }

    pub fn bytes(&self, blob: &Blob) -> Bytes {
        match blob {
            Blob::Bytes(bytes) => bytes.clone(),
            Blob::Layer(layer) => self.layers.bytes(layer),
        }
    }

    /// The names of the listed tags, in byte order. Makes no image.
    pub fn tag_names(&self, host: &str, name: &str) -> Vec<String> {
        let repository = self.repository(host, name);
        let repository = repository.lock();
        let listed = repository.listed().into_iter().flat_map(|planned| planned.tags);
        let mut names: Vec<String> = listed
            .filter(|tag| !repository.removed.contains(tag))
            .chain(repository.tags.keys().cloned())
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// The listed tags with their manifests, newest first, then by name.
    pub fn tags(&self, host: &str, name: &str) -> Vec<Tagged> {
        let names = self.tag_names(host, name);
        let mut tags: Vec<Tagged> = self.read(host, name, |repository| {
            let tagged = names.into_iter().filter_map(|name| {
                let (digest, pushed) = repository.resolve(&name, &self.layers)?;
                let manifest = repository.manifest(&digest, &self.layers)?;
                Some(Tagged { name, manifest, pushed })
            });
            tagged.collect()
        });
        tags.sort_by(|a, b| b.pushed.cmp(&a.pushed).then_with(|| a.name.cmp(&b.name)));
        tags
    }

    /// The tag with its manifest, also if no listing shows it.
    pub fn tag(&self, host: &str, name: &str, tag: &str) -> Option<Tagged> {
        self.read(host, name, |repository| {
            let (digest, pushed) = repository.resolve(tag, &self.layers)?;
            let manifest = repository.manifest(&digest, &self.layers)?;
            Some(Tagged { name: tag.to_owned(), manifest, pushed })
        })
    }

    /// The repository's manifests with this `subject`, sorted by digest.
    pub fn referrers(&self, host: &str, name: &str, subject: &Digest) -> Vec<Manifest> {
        let repository = self.repository(host, name);
        let repository = repository.lock();
        let refers = |manifest: &&Manifest| {
            serde_json::from_slice::<serde_json::Value>(&manifest.bytes)
                .is_ok_and(|content| content["subject"]["digest"] == subject.as_str())
        };
        let mut referrers: Vec<Manifest> =
            repository.manifests.values().filter(refers).cloned().collect();
        referrers.sort_by(|a, b| a.digest.cmp(&b.digest));
        referrers
    }

    /// The visibility, which the repository's name determines.
    pub fn visibility(&self, host: &str, name: &str) -> Visibility {
        let last = name.rsplit('/').next().unwrap_or_default();
        if last.starts_with("private") {
            Visibility::Private
        } else if (catalogue::is_missing(last) || host.ends_with(".invalid"))
            && !self.has_added(host, name)
        {
            Visibility::Missing
        } else {
            Visibility::Public
        }
    }

    /// The repositories of the host that a listing shows, sorted.
    pub(super) fn repositories(&self, host: &str) -> Vec<String> {
        let all = self.all_repositories().into_iter();
        all.filter(|(own, _)| own == host).map(|(_, name)| name).collect()
    }

    /// The host and the name of every repository that a listing shows, sorted.
    pub(super) fn all_repositories(&self) -> BTreeSet<(String, String)> {
        let listed = catalogue::repositories();
        let listed = listed.map(|(host, name)| (host.to_owned(), name.to_owned()));
        let known = self.repositories.lock().clone();
        let added = known.into_iter().filter(|(_, it)| it.lock().has_added).map(|(key, _)| key);
        listed.chain(added).collect()
    }

    fn has_added(&self, host: &str, name: &str) -> bool {
        let key = (host.to_owned(), name.to_owned());
        // release the outer lock first: the inner one is held while images are made
        let repository = self.repositories.lock().get(&key).cloned();
        repository.is_some_and(|repository| repository.lock().has_added)
    }

    /// Adds a manifest, and a tag that points to it if one is given.
    pub fn put_manifest(&self, host: &str, name: &str, tag: Option<&str>, manifest: Manifest) {
        self.edit(host, name, |repository| {
            if let Some(tag) = tag {
                repository.set_tag(tag, &manifest.digest);
            }
            repository.manifests.insert(manifest.digest.clone(), manifest);
        });
    }

    /// Adds a blob under this digest, right or wrong.
    pub fn put_blob(&self, host: &str, name: &str, digest: &Digest, blob: Blob) {
        self.edit(host, name, |repository| {
            repository.blobs.insert(digest.clone(), blob);
        });
    }

    /// Adds all content of the recipe, and points the tag to its root.
    pub fn put_image(
        &self,
        host: &str,
        name: &str,
        tag: Option<&str>,
        recipe: &synthesis::Recipe,
    ) -> Digest {
        let made = synthesis::make(recipe, &self.layers);
        let root = made.root.clone();
        self.edit(host, name, |repository| {
            if let Some(tag) = tag {
                repository.set_tag(tag, &root);
            }
            repository.insert(made);
        });
        root
    }

    /// Removes a tag; the image remains readable by its digest.
    pub fn remove_tag(&self, host: &str, name: &str, tag: &str) {
        let repository = self.repository(host, name);
        let mut repository = repository.lock();
        repository.tags.remove(tag);
        repository.removed.insert(tag.to_owned());
    }

    /// Points a tag of the catalogue to a newer build of its image.
    pub fn rebuild_tag(&self, host: &str, name: &str, tag: &str) {
        let repository = self.repository(host, name);
        let mut repository = repository.lock();
        if repository.plan(tag).is_some() {
            *repository.generations.entry(tag.to_owned()).or_default() += 1;
            repository.tags.remove(tag);
        }
    }

    fn edit(&self, host: &str, name: &str, change: impl FnOnce(&mut Repository)) {
        let repository = self.stored(host, name);
        let mut repository = repository.lock();
        repository.has_added = true;
        change(&mut repository);
    }

    /// The repository of this name, or the one that it mirrors.
    fn repository(&self, host: &str, name: &str) -> Shared {
        if self.has_added(host, name) {
            return self.stored(host, name);
        }
        let (host, name): (&str, Cow<'_, str>) = catalogue::canonical(host, name);
        self.stored(host, &name)
    }

    fn stored(&self, host: &str, name: &str) -> Shared {
        let mut repositories = self.repositories.lock();
        let key = (host.to_owned(), name.to_owned());
        Arc::clone(
            repositories
                .entry(key)
                .or_insert_with(|| Arc::new(Mutex::new(Repository::new(host, name)))),
        )
    }
}

impl Repository {
    fn new(host: &str, name: &str) -> Self {
        Self {
            host: host.to_owned(),
            name: name.to_owned(),
            has_added: false,
            is_complete: false,
            tags: HashMap::new(),
            removed: HashSet::new(),
            generations: HashMap::new(),
            on_demand: BTreeSet::new(),
            bytes: 0,
            manifests: HashMap::new(),
            blobs: HashMap::new(),
        }
    }

    fn listed(&self) -> Vec<Planned> {
        if self.has_added && !catalogue::is_listed(&self.host, &self.name) {
            return Vec::new();
        }
        catalogue::listed(&self.host, &self.name)
    }

    fn plan(&self, tag: &str) -> Option<Planned> {
        if self.removed.contains(tag) {
            return None;
        }
        let has_tag = |planned: &Planned| planned.tags.iter().any(|known| known == tag);
        let planned = match self.listed().into_iter().find(has_tag) {
            Some(planned) => planned,
            None if self.has_added => return None,
            None => catalogue::on_demand(&self.host, &self.name, tag)?,
        };
        Some(match self.generations.get(tag) {
            Some(&generation) => catalogue::rebuilt(planned, generation),
            None => planned,
        })
    }

    /// The tag's digest and push time.
    fn resolve(&mut self, tag: &str, layers: &Layers) -> Option<(Digest, SystemTime)> {
        if let Some(known) = self.tags.get(tag) {
            return Some(known.clone());
        }
        let planned = self.plan(tag)?;
        let made = synthesis::make(&planned.recipe, layers);
        let generation = self.generations.get(tag).copied().unwrap_or_default();
        let known = (made.root.clone(), pushed(&planned) + DAY * generation);
        self.insert(made);
        // only listed tags are stored: stored tags appear in listings
        if self.listed().iter().any(|planned| planned.tags.iter().any(|known| known == tag)) {
            self.tags.insert(tag.to_owned(), known.clone());
        } else {
            self.on_demand.insert(tag.to_owned());
        }
        Some(known)
    }

    fn manifest(&mut self, digest: &Digest, layers: &Layers) -> Option<Manifest> {
        self.ensure(layers, |known| known.manifests.contains_key(digest));
        self.manifests.get(digest).cloned()
    }

    /// Makes images until the content is known, at most all of them.
    fn ensure(&mut self, layers: &Layers, is_known: impl Fn(&Self) -> bool) {
        for tag in self.on_demand.clone() {
            if is_known(self) {
                return;
            }
            if let Some(planned) = self.plan(&tag) {
                self.insert(synthesis::make(&planned.recipe, layers));
            }
        }
        if !is_known(self) {
            self.complete(layers);
        }
    }

    /// Forgets the images that can be made again.
    fn forget(&mut self) {
        // an earlier build of a tag, and what a test added, cannot
        if self.has_added || !self.generations.is_empty() {
            return;
        }
        (self.manifests, self.blobs) = (HashMap::new(), HashMap::new());
        (self.is_complete, self.bytes) = (false, 0);
    }

    /// Makes all listed images.
    fn complete(&mut self, layers: &Layers) {
        if self.is_complete {
            return;
        }
        for planned in self.listed() {
            self.insert(synthesis::make(&planned.recipe, layers));
        }
        self.is_complete = true;
    }

    /// Adds what was made; keeps content that tests added under the same digest.
    fn insert(&mut self, made: synthesis::Made) {
        for manifest in made.manifests {
            self.bytes += manifest.bytes.len() + ENTRY;
            self.manifests.entry(manifest.digest.clone()).or_insert(manifest);
        }
        for (digest, blob) in made.blobs {
            self.bytes += ENTRY + if let Blob::Bytes(bytes) = &blob { bytes.len() } else { 0 };
            self.blobs.entry(digest).or_insert(blob);
        }
    }

    /// Later tags get later push times, one minute apart, from a fixed day.
    fn set_tag(&mut self, tag: &str, digest: &Digest) {
        let pushed = first_put() + Duration::from_secs(60) * self.tags.len() as u32;
        self.removed.remove(tag);
        self.tags.insert(tag.to_owned(), (digest.clone(), pushed));
    }
}

/// The bytes of a digest in a map, about.
const ENTRY: usize = 200;

const DAY: Duration = Duration::from_secs(86_400);

fn first_put() -> SystemTime {
    humantime::parse_rfc3339("2025-06-01T00:00:00Z").expect("the date is well written")
}

fn pushed(planned: &Planned) -> SystemTime {
    humantime::parse_rfc3339(&planned.pushed).expect("the catalogue's dates are well written")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repositories_that_were_used_least_recently_are_forgotten_first() {
        let mut recent = RecentRepositories::default();
        let repositories: Vec<Shared> = (0..4)
            .map(|number| Arc::new(Mutex::new(Repository::new("quay.io", &number.to_string()))))
            .collect();
        let half = RecentRepositories::KEPT / 2;
        let mut forgotten = |at: usize, bytes: usize| -> Vec<String> {
            let surplus = recent.record(&repositories[at], bytes);
            surplus.iter().map(|repository| repository.lock().name.clone()).collect()
        };
        assert_eq!(forgotten(0, half), [""; 0]);
        assert_eq!(forgotten(1, half), [""; 0]);
        assert_eq!(forgotten(0, half), [""; 0], "used again");
        assert_eq!(forgotten(2, 1), ["1"]);
        assert_eq!(forgotten(3, 3 * half), ["0", "2"], "the last one stays");
    }
}
