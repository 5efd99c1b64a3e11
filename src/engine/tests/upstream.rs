//! A source in memory: serves what its repositories hold, counts what is read.

use std::{collections::HashMap, future::pending, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::fault_injection::{FaultInjection, InjectedFault};
use crate::{
    model::{Descriptor, Digest, Error, Kind, RawManifest, Repository, Result, Tag, TagOrDigest},
    remote::{Allowance, ByteStream, PullLimits, Source},
};

/// One repository.
#[derive(Default)]
pub(crate) struct StoredContent {
    pub(crate) manifests: HashMap<Digest, RawManifest>,
    pub(crate) blobs: HashMap<Digest, Bytes>,
}

/// What changes while it is asked.
#[derive(Default)]
pub(crate) struct ReadCounts {
    pub(crate) tags: HashMap<(Repository, Tag), Digest>,
    /// Pulls of manifests that are left, where they are metered.
    pub(crate) pulls: Option<u64>,
    /// Blobs that were asked for from their first byte on.
    pub(crate) reads: HashMap<Digest, u64>,
}

pub(crate) struct FakeUpstream {
    pub(crate) shelves: HashMap<Repository, StoredContent>,
    pub(crate) books: Mutex<ReadCounts>,
    pub(crate) connections: Arc<Semaphore>,
    /// Whether it tells many digests at once.
    pub(crate) lists: bool,
    pub(crate) sky: Arc<FaultInjection>,
}

impl FakeUpstream {
    fn shelf(&self, repository: &Repository) -> Result<&StoredContent> {
        let none = || Error::new(Kind::RepositoryMissing, format!("no repository {repository}"));
        self.shelves.get(repository).ok_or_else(none)
    }

    async fn connection(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.connections).acquire_owned().await.unwrap()
    }

    fn tagged(&self, repository: &Repository, tag: &Tag) -> Option<Digest> {
        self.books.lock().tags.get(&(repository.clone(), tag.clone())).cloned()
    }

    /// Takes a pull from what is left.
    fn pull(&self) -> Result<()> {
        match &mut self.books.lock().pulls {
            Some(0) => Err(Error::new(Kind::PullLimit, "no pulls are left")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

fn absent(what: &dyn std::fmt::Display) -> Error {
    Error::new(Kind::NotFound, format!("no {what} here"))
}

impl Source for FakeUpstream {
    async fn digests(&self, repository: &Repository, tags: &[Tag]) -> HashMap<Tag, Digest> {
        let _connection = self.connection().await;
        self.sky.lag().await;
        if !self.lists || self.sky.refuse().is_err() {
            return HashMap::new();
        }
        let known = tags.iter().filter(|_| self.sky.chance(900));
        known.filter_map(|tag| Some((tag.clone(), self.tagged(repository, tag)?))).collect()
    }

    async fn resolve(&self, repository: &Repository, tag: &Tag) -> Result<Digest> {
        let _connection = self.connection().await;
        self.sky.lag().await;
        self.sky.refuse()?;
        self.tagged(repository, tag).ok_or_else(|| absent(tag))
    }

    async fn manifest(&self, repository: &Repository, at: &TagOrDigest) -> Result<RawManifest> {
        let _connection = self.connection().await;
        self.sky.lag().await;
        self.sky.refuse()?;
        let digest = match at {
            TagOrDigest::Tag(tag) => self.tagged(repository, tag).ok_or_else(|| absent(tag))?,
            TagOrDigest::Digest(digest) => digest.clone(),
        };
        self.pull()?;
        let found = self.shelf(repository)?.manifests.get(&digest).cloned();
        found.ok_or_else(|| absent(&digest))
    }

    async fn blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        from: u64,
    ) -> Result<ByteStream> {
        let connection = self.connection().await;
        self.sky.lag().await;
        self.sky.refuse_once()?;
        let bytes = self.shelf(repository)?.blobs.get(&blob.digest);
        let left = bytes.ok_or_else(|| absent(&blob.digest))?.slice(from as usize..);
        if from == 0 {
            *self.books.lock().reads.entry(blob.digest.clone()).or_default() += 1;
        }
        let download = FakeDownload { left, sky: Arc::clone(&self.sky), _connection: connection };
        Ok(stream::unfold(download, FakeDownload::next).boxed())
    }

    async fn referrers(&self, _: &Repository, _: &Digest) -> Result<Vec<Descriptor>> {
        Ok(Vec::new())
    }
}

impl PullLimits for FakeUpstream {
    fn pulls_spent(&self) -> u64 {
        0
    }

    fn is_metered(&self) -> bool {
        false
    }

    fn allowance(&self) -> Option<Allowance> {
        let remaining = self.books.lock().pulls?;
        Some(Allowance { limit: 100, remaining, window: std::time::Duration::from_secs(21_600) })
    }
}

/// A blob on its way; holds its connection, as an HTTP answer does.
struct FakeDownload {
    left: Bytes,
    sky: Arc<FaultInjection>,
    _connection: OwnedSemaphorePermit,
}

impl FakeDownload {
    async fn next(mut self) -> Option<(Result<Bytes>, Self)> {
        if self.left.is_empty() {
            return None;
        }
        self.sky.lag().await;
        let length = 1 + self.sky.below(self.left.len() as u64);
        let chunk = self.left.split_to(length as usize);
        match self.sky.fortune() {
            InjectedFault::Well => Some((Ok(chunk), self)),
            InjectedFault::Ends => None,
            InjectedFault::Fails(error) => Some((Err(error), self)),
            InjectedFault::Stalls => pending().await,
            InjectedFault::Damaged => {
                let damaged: Vec<u8> = chunk.iter().map(|byte| !byte).collect();
                Some((Ok(damaged.into()), self))
            }
        }
    }
}
