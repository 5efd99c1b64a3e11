//! A destination in memory, as strict as the strictest registry. Counts the writes.
//!
//! Refuses a manifest whose content is missing, a second attempt in a session, a push to a missing
//! repository, and a blob with another digest. So a tag always points to a complete tree.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use futures::StreamExt;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Semaphore;

use super::{fault_injection::FaultInjection, rng::Rng};
use crate::{
    model::{Descriptor, Digest, Error, Kind, Manifest, RawManifest, Repository, Result, Tag},
    remote::{
        Body, Destination, FoundTag, Mount, Mounting, Mutability, Provision, UploadSession,
        conformance_tests::{DigestCheck, check_destination},
    },
};

#[derive(Default)]
struct FakeRepository {
    blobs: HashSet<Digest>,
    /// The blobs that a manifest names.
    referenced: HashSet<Digest>,
    manifests: HashMap<Digest, RawManifest>,
    tags: HashMap<Tag, Digest>,
}

/// The writes since the last log.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Uploads per repository and blob.
    pub(crate) uploads: HashMap<(Repository, Digest), u64>,
    /// The bytes of the uploads.
    pub(crate) bytes: u64,
    /// Mounted blobs.
    pub(crate) mounts: u64,
    /// Manifests refused because content was missing.
    pub(crate) refused: u64,
    /// All write requests.
    pub(crate) writes: u64,
}

#[derive(Default)]
struct StoredRepositories {
    repositories: HashMap<Repository, FakeRepository>,
    sessions: HashSet<(Repository, String)>,
    opened: u64,
    log: Log,
}

impl StoredRepositories {
    fn repository(&mut self, repository: &Repository) -> Result<&mut FakeRepository> {
        let missing = || Error::new(Kind::RepositoryMissing, format!("no repository {repository}"));
        self.repositories.get_mut(repository).ok_or_else(missing)
    }

    fn open(&mut self, repository: &Repository) -> Result<UploadSession> {
        self.repository(repository)?;
        self.opened += 1;
        let location = format!("https://destination.example/{}", self.opened);
        self.sessions.insert((repository.clone(), location.clone()));
        Ok(UploadSession { location: location.parse().unwrap(), min_chunk: 0 })
    }
}

pub(crate) struct FakeDestination {
    store: Mutex<StoredRepositories>,
    pub(crate) mounting: Mounting,
    pub(crate) mutability: Mutability,
    /// Every request holds one permit until its answer, an upload until its last byte.
    pub(crate) connections: Semaphore,
    faults: Arc<FaultInjection>,
}

impl FakeDestination {
    pub(crate) fn new(
        mounting: Mounting,
        mutability: Mutability,
        connections: usize,
        faults: Arc<FaultInjection>,
    ) -> Self {
        let connections = Semaphore::new(connections);
        Self { store: Mutex::default(), mounting, mutability, connections, faults }
    }

    /// Loses a blob or an image manifest below a tag, as a broken disk does. Returns `false` if
    /// it has no content.
    pub(crate) fn lose_content(&self, rng: &mut Rng) -> bool {
        let mut store = self.store();
        let mut all: Vec<_> = store.repositories.iter_mut().collect();
        all.sort_by_key(|(name, _)| (*name).clone());
        if all.is_empty() {
            return false;
        }
        let at = rng.range(0..=all.len() as u64 - 1) as usize;
        let stored = &mut all[at].1;
        let tagged: HashSet<&Digest> = stored.tags.values().collect();
        let is_lost = |digest: &&Digest| {
            !tagged.contains(*digest) && !stored.manifests[*digest].media_type().is_index()
        };
        let mut manifests: Vec<Digest> = stored.manifests.keys().filter(is_lost).cloned().collect();
        let mut blobs: Vec<Digest> = stored.blobs.iter().cloned().collect();
        manifests.sort();
        blobs.sort();
        let lost = if rng.chance(500) && !manifests.is_empty() { manifests } else { blobs };
        let Some(last) = (lost.len() as u64).checked_sub(1) else { return false };
        let lost = &lost[rng.range(0..=last) as usize];
        stored.blobs.remove(lost) || stored.manifests.remove(lost).is_some()
    }

    fn store(&self) -> MutexGuard<'_, StoredRepositories> {
        self.store.lock()
    }

    /// The writes since the last call.
    pub(crate) fn take_log(&self) -> Log {
        std::mem::take(&mut self.store().log)
    }

    /// The tag's digest, if its whole tree is stored.
    pub(crate) fn complete(&self, repository: &Repository, tag: &Tag) -> Option<Digest> {
        let store = self.store();
        let stored = store.repositories.get(repository)?;
        let root = stored.tags.get(tag)?;
        let mut open = vec![root.clone()];
        while let Some(digest) = open.pop() {
            match stored.manifests.get(&digest)?.read().unwrap() {
                Manifest::Image(image) => {
                    let is_stored = |blob: &&Descriptor| stored.blobs.contains(&blob.digest);
                    image.blobs().iter().all(is_stored).then_some(())?;
                }
                Manifest::Index(index) => {
                    open.extend(index.manifests.into_iter().map(|m| m.digest))
                }
            }
        }
        Some(root.clone())
    }

    /// One request: it can fail before `work`, and the answer can be lost after it.
    async fn call<T>(&self, work: impl FnOnce(&mut StoredRepositories) -> Result<T>) -> Result<T> {
        let _connection = self.connections.acquire().await.unwrap();
        self.faults.latency().await;
        self.faults.fail_call()?;
        let answer = work(&mut self.store());
        self.faults.latency().await;
        self.faults.fail_call()?;
        answer
    }

    /// Removes an unreferenced blob, as the garbage collection of a registry does.
    fn vanish(&self, stored: &mut FakeRepository) {
        let mut unreferenced: Vec<&Digest> = stored.blobs.difference(&stored.referenced).collect();
        unreferenced.sort();
        if let Some(at) = (unreferenced.len() as u64).checked_sub(1) {
            let lost = unreferenced[self.faults.below(at + 1) as usize].clone();
            stored.blobs.remove(&lost);
        }
    }

    fn commit(&self, store: &mut StoredRepositories, put: ManifestPush<'_>) -> Result<()> {
        let ManifestPush { repository, manifest, tag } = put;
        store.log.writes += 1;
        let stored = store.repository(repository)?;
        if self.faults.loses_blob() {
            self.vanish(stored);
        }
        let (is_incomplete, referenced) = match manifest.read()? {
            Manifest::Image(image) => {
                let named: Vec<Digest> =
                    image.blobs().into_iter().map(|blob| blob.digest.clone()).collect();
                (named.iter().any(|blob| !stored.blobs.contains(blob)), named)
            }
            Manifest::Index(index) => {
                let is_stored = |entry: &Descriptor| stored.manifests.contains_key(&entry.digest);
                (!index.manifests.iter().all(is_stored), Vec::new())
            }
        };
        if is_incomplete {
            store.log.refused += 1;
            return Err(Error::new(Kind::ContentMissing, "the manifest names missing content"));
        }
        let digest = manifest.digest();
        if let Some(tag) = tag
            && let Some(current) = stored.tags.get(tag)
            && current != digest
            && self.mutability == Mutability::Immutable
        {
            return Err(Error::new(Kind::TagImmutable, "the tag exists"));
        }
        stored.referenced.extend(referenced);
        stored.manifests.insert(digest.clone(), manifest.clone());
        stored.tags.extend(tag.map(|tag| (tag.clone(), digest.clone())));
        Ok(())
    }

    /// Receives the bytes; the attempt can fail after any chunk.
    async fn receive(&self, body: Body) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut stream = body.into_stream();
        while let Some(chunk) = stream.next().await {
            bytes.extend_from_slice(&chunk?);
            self.faults.latency().await;
            self.faults.fail_attempt()?;
        }
        Ok(bytes)
    }
}

struct ManifestPush<'a> {
    repository: &'a Repository,
    manifest: &'a RawManifest,
    tag: Option<&'a Tag>,
}

impl Destination for FakeDestination {
    async fn current_tags(
        &self,
        repository: &Repository,
        tags: &[Tag],
    ) -> Result<Option<HashMap<Tag, Digest>>> {
        self.call(|store| {
            let Some(stored) = store.repositories.get(repository) else { return Ok(None) };
            let found =
                tags.iter().filter_map(|tag| Some((tag.clone(), stored.tags.get(tag)?.clone())));
            Ok(Some(found.collect()))
        })
        .await
    }

    /// Announces some tags before the answer.
    async fn announce_current_tags(
        &self,
        repository: &Repository,
        tags: &[Tag],
        found: FoundTag<'_>,
    ) -> Result<Option<HashMap<Tag, Digest>>> {
        let early = {
            let store = self.store();
            let stored = store.repositories.get(repository).map(|stored| &stored.tags);
            let exists = |tag: &&Tag| stored.is_some_and(|tags| tags.contains_key(*tag));
            tags.iter().filter(exists).cloned().collect::<Vec<Tag>>()
        };
        early.iter().filter(|_| self.faults.chance(500)).for_each(found);
        self.current_tags(repository, tags).await
    }

    async fn manifests(
        &self,
        repository: &Repository,
        digests: &[Digest],
    ) -> Result<HashMap<Digest, RawManifest>> {
        self.call(|store| {
            let stored = &store.repository(repository)?.manifests;
            let found = digests.iter().filter_map(|d| Some((d.clone(), stored.get(d)?.clone())));
            Ok(found.collect())
        })
        .await
    }

    async fn missing_manifests(
        &self,
        repository: &Repository,
        digests: &[Digest],
    ) -> Result<HashSet<Digest>> {
        self.call(|store| {
            let stored = &store.repository(repository)?.manifests;
            Ok(digests.iter().filter(|digest| !stored.contains_key(digest)).cloned().collect())
        })
        .await
    }

    async fn missing_blobs(
        &self,
        repository: &Repository,
        blobs: &[Descriptor],
    ) -> Result<HashSet<Digest>> {
        self.call(|store| {
            let stored = &store.repository(repository)?.blobs;
            let digests = blobs.iter().map(|blob| &blob.digest);
            Ok(digests.filter(|digest| !stored.contains(digest)).cloned().collect())
        })
        .await
    }

    async fn mount(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        from: &Repository,
    ) -> Result<Mount> {
        let answer = self.call(|store| {
            store.log.writes += 1;
            let from = store.repository(from)?;
            let is_available = match self.mounting {
                Mounting::Never => {
                    self.faults.record_violation(format!(
                        "{} was to be mounted, which this destination never does",
                        blob.digest
                    ));
                    false
                }
                Mounting::OnceUploaded => from.blobs.contains(&blob.digest),
                Mounting::OnceCommitted => from.referenced.contains(&blob.digest),
            };
            if !is_available {
                return store.open(repository).map(Mount::Session);
            }
            store.repository(repository)?.blobs.insert(blob.digest.clone());
            store.log.mounts += 1;
            Ok(Mount::Mounted)
        });
        answer.await
    }

    async fn open_upload(
        &self,
        repository: &Repository,
        _blob: &Descriptor,
    ) -> Result<UploadSession> {
        self.call(|store| {
            store.log.writes += 1;
            store.open(repository)
        })
        .await
    }

    /// Like a plain registry: a mount from the repository itself.
    async fn open_unless_stored(
        &self,
        repository: &Repository,
        blob: &Descriptor,
    ) -> Result<Mount> {
        self.call(|store| {
            store.log.writes += 1;
            match store.repository(repository)?.blobs.contains(&blob.digest) {
                true => Ok(Mount::Mounted),
                false => store.open(repository).map(Mount::Session),
            }
        })
        .await
    }

    async fn push_blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        session: UploadSession,
        body: Body,
    ) -> Result<()> {
        let _connection = self.connections.acquire().await.unwrap();
        if !self.store().sessions.remove(&(repository.clone(), session.location.to_string())) {
            self.faults
                .record_violation(format!("{} was pushed to an unknown session", blob.digest));
        }
        self.faults.latency().await;
        self.faults.fail_attempt()?;
        let bytes = self.receive(body).await?;
        if bytes.len() as u64 != blob.size || Digest::of(&bytes) != blob.digest {
            self.faults
                .record_violation(format!("{} was completed with another digest", blob.digest));
            return Err(Error::new(Kind::Corrupt, "another digest"));
        }
        {
            let mut store = self.store();
            store.repository(repository)?.blobs.insert(blob.digest.clone());
            let key = (repository.clone(), blob.digest.clone());
            *store.log.uploads.entry(key).or_default() += 1;
            store.log.bytes += blob.size;
            store.log.writes += 1;
        }
        self.faults.latency().await;
        self.faults.fail_attempt()
    }

    async fn push_manifest(
        &self,
        repository: &Repository,
        manifest: &RawManifest,
        tag: Option<&Tag>,
    ) -> Result<()> {
        self.call(|store| self.commit(store, ManifestPush { repository, manifest, tag })).await
    }
}

impl Provision for FakeDestination {
    async fn ensure(&self, repository: &Repository) -> Result<()> {
        self.call(|store| {
            store.log.writes += 1;
            store.repositories.entry(repository.clone()).or_default();
            Ok(())
        })
        .await
    }

    async fn mutability(&self, repository: &Repository, tag: &Tag) -> Result<Mutability> {
        self.call(|store| {
            if !store.repository(repository)?.tags.contains_key(tag) {
                self.faults
                    .record_violation(format!("mutability of the missing tag `{tag}` was queried"));
            }
            Ok(self.mutability)
        })
        .await
    }

    fn asks_in_bulk(&self) -> bool {
        self.mounting != Mounting::OnceUploaded
    }

    async fn mounting(&self) -> Mounting {
        self.mounting
    }
}

#[tokio::test]
async fn the_fake_destination_conforms_to_the_traits_of_the_seam() {
    for mounting in [Mounting::Never, Mounting::OnceUploaded, Mounting::OnceCommitted] {
        let faults = Arc::new(FaultInjection::new(Rng::new(1)));
        let destination = FakeDestination::new(mounting, Mutability::Mutable, 1, faults);
        check_destination(&destination, DigestCheck::ByDestination).await;
    }
}
