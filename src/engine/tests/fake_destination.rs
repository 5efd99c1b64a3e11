//! A destination in memory, as strict as the strictest registry, counting what is written.
//!
//! A manifest is refused while anything it names is absent, a session is good
//! for one attempt, a repository must be there, and a blob must be what its
//! digest says: so a tag that points somewhere points to a complete tree.

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
        Body, Destination, Mount, Mounting, Mutability, Provision, UploadSession,
        conformance_tests::{DigestCheck, check_destination},
    },
};

#[derive(Default)]
struct FakeRepository {
    blobs: HashSet<Digest>,
    /// Those of the blobs that a manifest holds.
    held: HashSet<Digest>,
    manifests: HashMap<Digest, RawManifest>,
    tags: HashMap<Tag, Digest>,
}

/// What was written since the books were opened.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// How often a blob was uploaded to a repository.
    pub(crate) uploads: HashMap<(Repository, Digest), u64>,
    /// The bytes of them.
    pub(crate) bytes: u64,
    /// Blobs that were mounted.
    pub(crate) mounts: u64,
    /// Manifests that were refused because something was absent.
    pub(crate) refused: u64,
    /// All requests that write.
    pub(crate) writes: u64,
}

#[derive(Default)]
struct StoredRepositories {
    berths: HashMap<Repository, FakeRepository>,
    sessions: HashSet<(Repository, String)>,
    opened: u64,
    log: Log,
}

impl StoredRepositories {
    fn berth(&mut self, repository: &Repository) -> Result<&mut FakeRepository> {
        let none = || Error::new(Kind::RepositoryMissing, format!("no repository {repository}"));
        self.berths.get_mut(repository).ok_or_else(none)
    }

    fn open(&mut self, repository: &Repository) -> Result<UploadSession> {
        self.berth(repository)?;
        self.opened += 1;
        let location = format!("https://harbour.example/{}", self.opened);
        self.sessions.insert((repository.clone(), location.clone()));
        Ok(UploadSession { location: location.parse().unwrap() })
    }
}

pub(crate) struct FakeDestination {
    store: Mutex<StoredRepositories>,
    pub(crate) mounting: Mounting,
    pub(crate) mutability: Mutability,
    /// Every request holds one while it lasts, an upload as long as its bytes take.
    pub(crate) connections: Semaphore,
    sky: Arc<FaultInjection>,
}

impl FakeDestination {
    pub(crate) fn new(
        mounting: Mounting,
        mutability: Mutability,
        connections: usize,
        sky: Arc<FaultInjection>,
    ) -> Self {
        let connections = Semaphore::new(connections);
        Self { store: Mutex::default(), mounting, mutability, connections, sky }
    }

    fn store(&self) -> MutexGuard<'_, StoredRepositories> {
        self.store.lock()
    }

    /// What was written since this was asked last.
    pub(crate) fn take_log(&self) -> Log {
        std::mem::take(&mut self.store().log)
    }

    /// What the tag points to, if everything below is there.
    pub(crate) fn complete(&self, repository: &Repository, tag: &Tag) -> Option<Digest> {
        let store = self.store();
        let berth = store.berths.get(repository)?;
        let root = berth.tags.get(tag)?;
        let mut open = vec![root.clone()];
        while let Some(digest) = open.pop() {
            match berth.manifests.get(&digest)?.read().unwrap() {
                Manifest::Image(image) => {
                    let there = |blob: &&Descriptor| berth.blobs.contains(&blob.digest);
                    image.blobs().iter().all(there).then_some(())?;
                }
                Manifest::Index(index) => {
                    open.extend(index.manifests.into_iter().map(|m| m.digest))
                }
            }
        }
        Some(root.clone())
    }

    /// One request: what is done may fail before, and its answer may be lost.
    async fn call<T>(&self, work: impl FnOnce(&mut StoredRepositories) -> Result<T>) -> Result<T> {
        let _connection = self.connections.acquire().await.unwrap();
        self.sky.lag().await;
        self.sky.refuse()?;
        let answer = work(&mut self.store());
        self.sky.lag().await;
        self.sky.refuse()?;
        answer
    }

    /// Removes a blob that nothing holds, as a registry's clean-up does.
    fn vanish(&self, berth: &mut FakeRepository) {
        let mut loose: Vec<&Digest> = berth.blobs.difference(&berth.held).collect();
        loose.sort();
        if let Some(at) = (loose.len() as u64).checked_sub(1) {
            let gone = loose[self.sky.below(at + 1) as usize].clone();
            berth.blobs.remove(&gone);
        }
    }

    fn commit(&self, store: &mut StoredRepositories, put: Put<'_>) -> Result<()> {
        let Put { repository, manifest, tag } = put;
        store.log.writes += 1;
        let berth = store.berth(repository)?;
        if self.sky.vanishes() {
            self.vanish(berth);
        }
        let (absent, held) = match manifest.read()? {
            Manifest::Image(image) => {
                let named: Vec<Digest> =
                    image.blobs().into_iter().map(|blob| blob.digest.clone()).collect();
                (named.iter().any(|blob| !berth.blobs.contains(blob)), named)
            }
            Manifest::Index(index) => {
                let there = |entry: &Descriptor| berth.manifests.contains_key(&entry.digest);
                (!index.manifests.iter().all(there), Vec::new())
            }
        };
        if absent {
            store.log.refused += 1;
            return Err(Error::new(Kind::ContentMissing, "the manifest names what is absent"));
        }
        let digest = manifest.digest();
        if let Some(tag) = tag
            && let Some(there) = berth.tags.get(tag)
            && there != digest
            && self.mutability == Mutability::Immutable
        {
            return Err(Error::new(Kind::TagImmutable, "the tag is there"));
        }
        berth.held.extend(held);
        berth.manifests.insert(digest.clone(), manifest.clone());
        berth.tags.extend(tag.map(|tag| (tag.clone(), digest.clone())));
        Ok(())
    }

    /// Takes the bytes; one attempt, which may end anywhere.
    async fn take(&self, body: Body) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut stream = body.into_stream();
        while let Some(chunk) = stream.next().await {
            bytes.extend_from_slice(&chunk?);
            self.sky.lag().await;
            self.sky.refuse_once()?;
        }
        Ok(bytes)
    }
}

struct Put<'a> {
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
            let Some(berth) = store.berths.get(repository) else { return Ok(None) };
            let found =
                tags.iter().filter_map(|tag| Some((tag.clone(), berth.tags.get(tag)?.clone())));
            Ok(Some(found.collect()))
        })
        .await
    }

    async fn manifests(
        &self,
        repository: &Repository,
        digests: &[Digest],
    ) -> Result<HashMap<Digest, RawManifest>> {
        self.call(|store| {
            let there = &store.berth(repository)?.manifests;
            let found = digests.iter().filter_map(|d| Some((d.clone(), there.get(d)?.clone())));
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
            let there = &store.berth(repository)?.manifests;
            Ok(digests.iter().filter(|digest| !there.contains_key(digest)).cloned().collect())
        })
        .await
    }

    async fn missing_blobs(
        &self,
        repository: &Repository,
        digests: &[Digest],
    ) -> Result<HashSet<Digest>> {
        self.call(|store| {
            let there = &store.berth(repository)?.blobs;
            Ok(digests.iter().filter(|digest| !there.contains(digest)).cloned().collect())
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
            let from = store.berth(from)?;
            let given = match self.mounting {
                Mounting::Never => {
                    self.sky.complain(format!("asked in vain to mount {}", blob.digest));
                    false
                }
                Mounting::OnceUploaded => from.blobs.contains(&blob.digest),
                Mounting::OnceCommitted => from.held.contains(&blob.digest),
            };
            if !given {
                return store.open(repository).map(Mount::Session);
            }
            store.berth(repository)?.blobs.insert(blob.digest.clone());
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

    async fn push_blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        session: UploadSession,
        body: Body,
    ) -> Result<()> {
        let _connection = self.connections.acquire().await.unwrap();
        if !self.store().sessions.remove(&(repository.clone(), session.location.to_string())) {
            self.sky.complain(format!("{} went to a session that is none", blob.digest));
        }
        self.sky.lag().await;
        self.sky.refuse_once()?;
        let bytes = self.take(body).await?;
        if bytes.len() as u64 != blob.size || Digest::of(&bytes) != blob.digest {
            self.sky.complain(format!("{} was completed with other bytes", blob.digest));
            return Err(Error::new(Kind::Corrupt, "other bytes"));
        }
        {
            let mut store = self.store();
            store.berth(repository)?.blobs.insert(blob.digest.clone());
            let key = (repository.clone(), blob.digest.clone());
            *store.log.uploads.entry(key).or_default() += 1;
            store.log.bytes += blob.size;
            store.log.writes += 1;
        }
        self.sky.lag().await;
        self.sky.refuse_once()
    }

    async fn push_manifest(
        &self,
        repository: &Repository,
        manifest: &RawManifest,
        tag: Option<&Tag>,
    ) -> Result<()> {
        self.call(|store| self.commit(store, Put { repository, manifest, tag })).await
    }
}

impl Provision for FakeDestination {
    async fn ensure(&self, repository: &Repository) -> Result<()> {
        self.call(|store| {
            store.log.writes += 1;
            store.berths.entry(repository.clone()).or_default();
            Ok(())
        })
        .await
    }

    async fn mutability(&self, repository: &Repository, tag: &Tag) -> Result<Mutability> {
        self.call(|store| {
            if !store.berth(repository)?.tags.contains_key(tag) {
                self.sky.complain(format!("asked whether `{tag}` may be moved, which is absent"));
            }
            Ok(self.mutability)
        })
        .await
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
