//! What a run knows of its source and destination repositories: queried in bulk, and once.
//!
//! The images of a repository share its state. The state lives as long as the last of them, so
//! memory follows the running images, not the whole run.

use std::{
    cmp::Reverse,
    collections::HashMap,
    fmt,
    future::pending,
    sync::{Arc, OnceLock, Weak},
};

use parking_lot::Mutex;
use tokio::sync::{OnceCell, SetOnce};

use super::source::{Reader, SourceRegistry};
use crate::{
    engine::{
        context::RunContext,
        options::{Endpoint, Mode},
    },
    model::{DestinationId, Digest, Error, RawManifest, Repository, Result, Tag, event::Event},
    remote::{Apply, ArchivedImage, Destination, Presence, Source},
};

pub(crate) struct SourceRepository<S> {
    pub(crate) registry: Arc<SourceRegistry<S>>,
    pub(crate) repository: Repository,
    /// The tags of the run's images.
    pub(crate) tags: Vec<Tag>,
    hints: OnceCell<HashMap<Tag, Digest>>,
    /// The digests of the tags whose manifests were read.
    read: Mutex<HashMap<Tag, Arc<OnceCell<Digest>>>>,
}

impl<S: Source> SourceRepository<S> {
    pub(crate) fn new(registry: Arc<SourceRegistry<S>>, repository: Repository) -> Self {
        let (tags, hints, read) = Default::default();
        Self { registry, repository, tags, hints, read }
    }

    /// The tag's digest in a listing: reliable enough to skip the image, not to copy it.
    pub(crate) async fn hint(&self, tag: &Tag) -> Option<Digest> {
        let list = || self.registry.source.digests(&self.repository, &self.tags);
        self.hints.get_or_init(list).await.get(tag).cloned()
    }

    /// Reads the manifest that the tag points to now, once for all images; returns its digest.
    pub(crate) async fn read(&self, reader: &Reader<S>, tag: &Tag) -> Result<Digest> {
        let cell = Arc::clone(self.read.lock().entry(tag.clone()).or_default());
        cell.get_or_try_init(|| reader.read_tag(tag)).await.cloned()
    }

    /// The digest that the tag points to now.
    pub(crate) async fn resolve(&self, tag: &Tag) -> Result<Digest> {
        let read = self.read.lock().get(tag).and_then(|cell| cell.get().cloned());
        match read {
            Some(digest) => Ok(digest),
            None => self.registry.source.resolve(&self.repository, tag).await,
        }
    }
}

/// A destination repository.
pub(crate) struct TargetRepository<D> {
    pub(crate) id: DestinationId,
    pub(crate) endpoint: Arc<Endpoint<D>>,
    pub(crate) repository: Repository,
    /// The tags of the run's images.
    pub(crate) tags: Vec<Tag>,
    /// The tags whose manifest must be read to decide whether they are up to date.
    pub(crate) filtered: Vec<Tag>,
    /// `true` if it existed before this run. Shared with the siblings, which can outlive this state.
    existed: Arc<OnceLock<bool>>,
    siblings: OnceLock<Arc<[Sibling<D>]>>,
    /// The indexes of some siblings: with thousands, comparing the names takes long.
    nearest: OnceLock<Vec<usize>>,
    current: OnceCell<Result<Option<HashMap<Tag, Digest>>>>,
    /// Set for each tag once it is known to exist.
    found: OnceLock<HashMap<Tag, SetOnce<()>>>,
    /// Set once [`Self::current`] is.
    is_queried: SetOnce<()>,
    archived: OnceCell<Result<HashMap<Tag, ArchivedImage>>>,
    manifests: OnceCell<Result<HashMap<Digest, RawManifest>>>,
    reconciled: OnceCell<Result<()>>,
    ensured: OnceCell<Result<()>>,
    pub(crate) pushed: PushedManifests,
}

impl<D: Destination> TargetRepository<D> {
    pub(crate) fn new(
        id: DestinationId,
        endpoint: Arc<Endpoint<D>>,
        repository: Repository,
    ) -> Self {
        Self {
            id,
            endpoint,
            repository,
            tags: Vec::new(),
            filtered: Vec::new(),
            existed: Arc::default(),
            siblings: OnceLock::new(),
            nearest: OnceLock::new(),
            current: OnceCell::new(),
            found: OnceLock::new(),
            is_queried: SetOnce::new(),
            archived: OnceCell::new(),
            manifests: OnceCell::new(),
            reconciled: OnceCell::new(),
            ensured: OnceCell::new(),
            pushed: PushedManifests::default(),
        }
    }

    pub(crate) fn destination(&self) -> &D {
        &self.endpoint.destination
    }

    async fn current_tags(&self) -> Result<&Option<HashMap<Tag, Digest>>> {
        let query = || async {
            let announce = |tag: &Tag| {
                if let Some(found) = self.found().get(tag) {
                    found.set(()).ok();
                }
            };
            let destination = self.destination();
            let current =
                destination.announce_current_tags(&self.repository, &self.tags, &announce).await;
            let current = current
                .map_err(|error| error.context(format!("cannot query the tags of {self}")))?;
            self.existed.get_or_init(|| current.is_some());
            Ok(current)
        };
        let current = self.current.get_or_init(query).await;
        self.is_queried.set(()).ok();
        current.as_ref().map_err(Error::clone)
    }

    fn found(&self) -> &HashMap<Tag, SetOnce<()>> {
        let unknown = || self.tags.iter().map(|tag| (tag.clone(), SetOnce::new())).collect();
        self.found.get_or_init(unknown)
    }

    /// Waits until the query of the tags shows whether this tag is missing; sends no request itself.
    /// Returns `false` also if the query fails.
    pub(crate) async fn becomes_missing(&self, tag: &Tag) -> bool {
        let is_found = async {
            // a bulk query announces no tags
            let found = (!self.destination().asks_in_bulk()).then(|| self.found());
            match found.and_then(|found| found.get(tag)) {
                Some(found) => *found.wait().await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            () = is_found => false,
            _ = self.is_queried.wait() => match self.current.get() {
                Some(Ok(Some(current))) => !current.contains_key(tag),
                Some(Ok(None)) => true,
                Some(Err(_)) | None => false,
            },
        }
    }

    /// The tag's digest now; `None` if the tag is missing.
    pub(crate) async fn current(&self, tag: &Tag) -> Result<Option<Digest>> {
        Ok(self.current_tags().await?.as_ref().and_then(|tags| tags.get(tag)).cloned())
    }

    /// The archived image of a tag that is missing otherwise. Sends no request before a tag is
    /// missing.
    pub(crate) async fn archived(&self, tag: &Tag) -> Result<Option<ArchivedImage>> {
        let Some(current) = self.current_tags().await? else { return Ok(None) };
        let query = || async {
            let missing = self.tags.iter().filter(|tag| !current.contains_key(*tag));
            let missing: Vec<Tag> = missing.cloned().collect();
            let archived = self.destination().archived_tags(&self.repository, &missing).await;
            archived.map_err(|error| {
                error.context(format!("cannot query the archived images of {self}"))
            })
        };
        let archived = self.archived.get_or_init(query).await.as_ref().map_err(Error::clone)?;
        Ok(archived.get(tag).cloned())
    }

    /// The manifest that a filtered tag points to.
    pub(crate) async fn manifest(&self, digest: &Digest) -> Result<Option<RawManifest>> {
        let read = || async {
            let current = self.current_tags().await?.as_ref();
            let mut digests: Vec<Digest> = (self.filtered.iter())
                .filter_map(|tag| current.and_then(|tags| tags.get(tag)).cloned())
                .collect();
            digests.sort();
            digests.dedup();
            let manifests = self.destination().manifests(&self.repository, &digests).await;
            manifests.map_err(|error| error.context(format!("cannot read the indexes of {self}")))
        };
        let manifests = self.manifests.get_or_init(read).await.as_ref().map_err(Error::clone)?;
        Ok(manifests.get(digest).cloned())
    }

    /// Reconciles the repository's settings, or compares them in a plan, and records the changes.
    pub(crate) async fn reconcile(&self, context: &RunContext) -> Result<()> {
        let reconcile = || async {
            let presence = match self.current_tags().await? {
                None => Presence::Missing,
                Some(tags) if tags.is_empty() => Presence::Empty,
                Some(_) => Presence::NonEmpty,
            };
            let is_mirror = context.mode == Mode::Mirror;
            let apply = if is_mirror { Apply::Change } else { Apply::DryRun };
            let result = self.destination().reconcile(&self.repository, presence, apply).await?;
            result.warnings.into_iter().for_each(|text| context.warn(self.to_string(), text));
            for change in result.changes.iter().filter(|_| is_mirror) {
                context.observer.observe(&Event::Changed(change.clone()));
            }
            context.changes.lock().extend(result.changes);
            Ok(())
        };
        self.reconciled.get_or_init(reconcile).await.clone()
    }

    /// Creates the repository if it is missing.
    pub(crate) async fn ensure(&self) -> Result<()> {
        let create = || async {
            if self.existed_before().await? {
                return Ok(());
            }
            let created = self.destination().ensure(&self.repository).await;
            created.map_err(|error| error.context(format!("cannot create repository {self}")))
        };
        self.ensured.get_or_init(create).await.clone()
    }

    /// Returns `false` if the repository holds only what this run pushed.
    pub(crate) async fn existed_before(&self) -> Result<bool> {
        self.current_tags().await.map(Option::is_some)
    }

    /// The repositories of the destination that existed before this run and have the most similar
    /// names, at most [`SIBLINGS`].
    pub(crate) async fn siblings(&self) -> Vec<Repository> {
        let all = self.siblings.get().map_or(&[][..], |all| all);
        let mut found = Vec::new();
        for at in self.nearest.get_or_init(|| self.nearest(all)) {
            if found.len() < SIBLINGS && all[*at].existed_before().await {
                found.push(all[*at].repository.clone());
            }
        }
        found
    }

    /// The indexes of the siblings with the most similar names, the most similar first.
    fn nearest(&self, all: &[Sibling<D>]) -> Vec<usize> {
        let own = &self.repository;
        let siblings = all.iter().enumerate();
        let siblings = siblings.filter(|(_, it)| it.id == self.id && it.repository != *own);
        let mut by_similarity: Vec<(Reverse<usize>, usize)> = siblings
            .map(|(at, sibling)| {
                let bytes = sibling.repository.as_str().bytes().zip(own.as_str().bytes());
                (Reverse(bytes.take_while(|(a, b)| a == b).count()), at)
            })
            .collect();
        by_similarity.sort_unstable();
        by_similarity.into_iter().map(|(_, at)| at).take(3 * SIBLINGS).collect()
    }
}

impl<D> fmt::Display for TargetRepository<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.endpoint.location.repository(&self.repository))
    }
}

/// The manifests that this run pushed: each once, however many tags share it.
#[derive(Default)]
pub(crate) struct PushedManifests(Mutex<HashMap<Digest, Arc<OnceCell<()>>>>);

impl PushedManifests {
    pub(crate) fn cell(&self, digest: &Digest) -> Arc<OnceCell<()>> {
        Arc::clone(self.0.lock().entry(digest.clone()).or_default())
    }

    pub(crate) fn contains(&self, digest: &Digest) -> bool {
        self.0.lock().get(digest).is_some_and(|cell| cell.initialized())
    }
}

/// Repositories that are searched for a blob that another repository lacks.
const SIBLINGS: usize = 8;

/// A repository as the others of its destination see it. Does not keep its state alive.
struct Sibling<D> {
    id: DestinationId,
    repository: Repository,
    state: Weak<TargetRepository<D>>,
    existed: Arc<OnceLock<bool>>,
}

impl<D: Destination> Sibling<D> {
    async fn existed_before(&self) -> bool {
        match self.state.upgrade() {
            // the run sends this query anyway, and once
            Some(state) => matches!(state.existed_before().await, Ok(true)),
            None => self.existed.get() == Some(&true),
        }
    }
}

/// Makes the repositories of each destination known to each other.
pub(crate) fn link_siblings<'a, D: 'a>(
    repositories: impl Iterator<Item = &'a Arc<TargetRepository<D>>> + Clone,
) {
    let siblings = repositories.clone().map(|repository| Sibling {
        id: repository.id,
        repository: repository.repository.clone(),
        state: Arc::downgrade(repository),
        existed: Arc::clone(&repository.existed),
    });
    let mut siblings: Vec<Sibling<D>> = siblings.collect();
    // among equally similar names, each run asks the same
    siblings.sort_unstable_by(|a, b| (a.id.0, &a.repository).cmp(&(b.id.0, &b.repository)));
    let siblings: Arc<[Sibling<D>]> = siblings.into();
    for repository in repositories {
        repository.siblings.get_or_init(|| Arc::clone(&siblings));
    }
}
