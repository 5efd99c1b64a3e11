//! A source in memory. Counts the reads.

use std::{collections::HashMap, future::pending, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::fault_injection::{ChunkFault, FaultInjection};
use crate::{
    model::{
        Descriptor, Digest, Error, Kind, ListedImage, RawManifest, Repository, Result, Tag,
        TagOrDigest,
    },
    remote::{Allowance, ByteStream, PullLimits, Source},
};

#[derive(Default)]
pub(crate) struct StoredContent {
    pub(crate) manifests: HashMap<Digest, RawManifest>,
    pub(crate) blobs: HashMap<Digest, Bytes>,
}

#[derive(Default)]
pub(crate) struct UpstreamState {
    pub(crate) tags: HashMap<(Repository, Tag), Digest>,
    /// Pulls left; `None` without a pull limit.
    pub(crate) pulls: Option<u64>,
    /// Pulls per window.
    pub(crate) limit: u64,
    /// Pulls so far.
    pub(crate) spent: u64,
    /// Pulls after which the answers show the limit.
    pub(crate) shows_limit_after: u64,
    /// The entries of indexes, if a listing names them.
    pub(crate) listed: HashMap<Digest, Arc<[ListedImage]>>,
    /// Questions for the digest of a tag.
    pub(crate) resolved: u64,
    /// Reads per blob from its first byte.
    pub(crate) reads: HashMap<Digest, u64>,
}

pub(crate) struct FakeUpstream {
    pub(crate) repositories: HashMap<Repository, StoredContent>,
    pub(crate) state: Mutex<UpstreamState>,
    pub(crate) connections: Arc<Semaphore>,
    /// Lists many digests at once.
    pub(crate) lists_digests: bool,
    pub(crate) faults: Arc<FaultInjection>,
}

impl FakeUpstream {
    fn repository(&self, repository: &Repository) -> Result<&StoredContent> {
        let missing = || Error::new(Kind::RepositoryMissing, format!("no repository {repository}"));
        self.repositories.get(repository).ok_or_else(missing)
    }

    async fn connection(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.connections).acquire_owned().await.unwrap()
    }

    fn tagged(&self, repository: &Repository, tag: &Tag) -> Option<Digest> {
        self.state.lock().tags.get(&(repository.clone(), tag.clone())).cloned()
    }

    /// Spends a pull.
    fn pull(&self) -> Result<()> {
        let mut state = self.state.lock();
        state.spent += 1;
        match &mut state.pulls {
            Some(0) => Err(Error::new(Kind::PullLimit, "no pulls are left")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

fn not_found(content: &dyn std::fmt::Display) -> Error {
    Error::new(Kind::NotFound, format!("{content} is missing"))
}

impl Source for FakeUpstream {
    async fn digests(&self, repository: &Repository, tags: &[Tag]) -> HashMap<Tag, Digest> {
        let _connection = self.connection().await;
        self.faults.latency().await;
        if !self.lists_digests || self.faults.fail_call().is_err() {
            return HashMap::new();
        }
        let known = tags.iter().filter(|_| self.faults.chance(900));
        known.filter_map(|tag| Some((tag.clone(), self.tagged(repository, tag)?))).collect()
    }

    async fn listed_images(
        &self,
        repository: &Repository,
        tag: &Tag,
        index: &Digest,
    ) -> Option<Arc<[ListedImage]>> {
        let tagged = self.tagged(repository, tag)?;
        self.state.lock().listed.get(index).filter(|_| tagged == *index).cloned()
    }

    async fn resolve(&self, repository: &Repository, tag: &Tag) -> Result<Digest> {
        let _connection = self.connection().await;
        self.faults.latency().await;
        self.faults.fail_call()?;
        self.state.lock().resolved += 1;
        self.tagged(repository, tag).ok_or_else(|| not_found(tag))
    }

    async fn manifest(&self, repository: &Repository, at: &TagOrDigest) -> Result<RawManifest> {
        let _connection = self.connection().await;
        self.faults.latency().await;
        self.faults.fail_call()?;
        let digest = match at {
            TagOrDigest::Tag(tag) => self.tagged(repository, tag).ok_or_else(|| not_found(tag))?,
            TagOrDigest::Digest(digest) => digest.clone(),
        };
        self.pull()?;
        let found = self.repository(repository)?.manifests.get(&digest).cloned();
        found.ok_or_else(|| not_found(&digest))
    }

    async fn blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        from: u64,
    ) -> Result<ByteStream> {
        let connection = self.connection().await;
        self.faults.latency().await;
        self.faults.fail_attempt()?;
        let bytes = self.repository(repository)?.blobs.get(&blob.digest);
        let left = bytes.ok_or_else(|| not_found(&blob.digest))?.slice(from as usize..);
        if from == 0 {
            *self.state.lock().reads.entry(blob.digest.clone()).or_default() += 1;
        }
        let download =
            FakeDownload { left, faults: Arc::clone(&self.faults), _connection: connection };
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
        self.allowance().is_some()
    }

    fn starts_slowly(&self) -> bool {
        self.lists_digests
    }

    fn allowance(&self) -> Option<Allowance> {
        let state = self.state.lock();
        let (limit, remaining) = (state.limit, state.pulls?);
        (state.spent >= state.shows_limit_after).then_some(Allowance {
            limit,
            remaining,
            window: Duration::from_secs(21_600),
        })
    }
}

/// A download. Holds its connection, as an HTTP response does.
struct FakeDownload {
    left: Bytes,
    faults: Arc<FaultInjection>,
    _connection: OwnedSemaphorePermit,
}

impl FakeDownload {
    async fn next(mut self) -> Option<(Result<Bytes>, Self)> {
        if self.left.is_empty() {
            return None;
        }
        self.faults.latency().await;
        let length = 1 + self.faults.below(self.left.len() as u64);
        let chunk = self.left.split_to(length as usize);
        match self.faults.fail_chunk() {
            ChunkFault::None => Some((Ok(chunk), self)),
            ChunkFault::Ends => None,
            ChunkFault::Fails(error) => Some((Err(error), self)),
            ChunkFault::Stalls => pending().await,
            ChunkFault::Corrupt => {
                let damaged: Vec<u8> = chunk.iter().map(|byte| !byte).collect();
                Some((Ok(damaged.into()), self))
            }
        }
    }
}
