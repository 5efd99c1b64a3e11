//! Decides which image carries which blob: one placement per destination, repository and digest.
//!
//! An image claims all its blobs in one step. For each blob it learns one of three things: the
//! repository has the blob, an earlier image carries it, or this image must carry it. In the third
//! case it also learns the repositories that it can mount the blob from.
//!
//! # Why a run cannot deadlock
//!
//! **Images wait for earlier images only.** Each image has a number. Every wait for another image
//! points from a larger number to a smaller one:
//!
//! - An image receives its number and all its claims in one step under the lock. So a claim that
//!   it finds belongs to an image with a smaller number.
//! - An image waits only for claims that it finds: for the blob itself, or for a repository to
//!   mount the blob from.
//! - If a carrier fails, it drops its claim, and each waiter claims the blob again. A later image
//!   may be the first to do so. Then the earlier image does not wait for it: it carries the blob
//!   a second time.
//! - A dropped claim wakes its waiters, whatever the reason: the sending half of its channel
//!   closes.
//!
//! So a chain of these waits never returns to its start, and every wait in it ends.
//!
//! **All other waits are below.** They have an order, and a wait never leads back up:
//!
//! 1. Claims and mount sources, as above. A task that waits for one holds no transfer permit.
//! 2. A manifest that another image is pushing. All blobs of that image are placed, so it no
//!    longer waits on level 1.
//! 3. The memory for a transfer's buffers, then the transfer permit. Both are granted first come,
//!    first served.
//! 4. A download that another transfer is opening ([`shared_download`](super::shared_download)).
//!    That transfer waits for the source only.
//! 5. A connection. Uploads that share a download move at the pace of the slowest, so they wait
//!    for each other while each holds its connection. This ends if every one of them finds a
//!    connection. A transfer has at most one upload to each destination, and every registry must
//!    have as many connections as there are transfers, so each upload finds one.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    model::{DestinationId, Digest, Repository},
    remote::Mounting,
};

/// A blob in a repository of a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlacementKey {
    pub(crate) destination: DestinationId,
    pub(crate) repository: Repository,
    pub(crate) digest: Digest,
    /// Its size in bytes, as its descriptor states it: a wrong one must not pass as placed because
    /// a right one is.
    pub(crate) size: u64,
}

/// The progress of a blob; a later state includes the earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum BlobState {
    Carried,
    Placed,
    Committed,
}

/// The number of an image: an image that claimed earlier has a smaller one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ImageSeq(u64);

#[derive(Debug)]
pub(crate) enum Claim {
    /// None: the repository has the blob.
    Placed,
    /// Wait for an earlier image that carries it.
    Wait(Waiter),
    Carry(Carrier),
}

/// Waits for a blob that an earlier image carries.
#[derive(Debug)]
pub(crate) struct Waiter(watch::Receiver<BlobState>);

impl Waiter {
    /// Returns `true` once the blob is placed, `false` if its carrier fails.
    pub(crate) async fn placed(mut self) -> bool {
        self.0.wait_for(|state| *state >= BlobState::Placed).await.is_ok()
    }
}

/// The duty to place one blob. Dropping it wakes the waiters.
#[derive(Debug)]
pub(crate) struct Carrier {
    state: watch::Sender<BlobState>,
    /// Repositories of the destination that have the blob, or will have it.
    pub(crate) mount_sources: Vec<MountSource>,
}

impl Carrier {
    /// Tells the waiters that the blob is placed; the rest of the image may not be.
    pub(crate) fn placed(self) -> Self {
        self.state.send_replace(BlobState::Placed);
        self
    }

    /// Tells the waiters that a manifest that names the blob is committed.
    pub(crate) fn committed(self) {
        self.state.send_replace(BlobState::Committed);
    }
}

/// A repository that has a blob, or will have it once an earlier image is done.
#[derive(Debug)]
pub(crate) struct MountSource {
    pub(crate) repository: Repository,
    state: watch::Receiver<BlobState>,
}

impl MountSource {
    /// A repository that an earlier run filled.
    pub(crate) fn committed(repository: Repository) -> Self {
        let (_, state) = watch::channel(BlobState::Committed);
        Self { repository, state }
    }

    /// Returns `true` once the blob can be mounted from here, `false` if it never can.
    pub(crate) async fn ready(&mut self, mounting: Mounting) -> bool {
        let required = match mounting {
            Mounting::Never => return false,
            Mounting::OnceUploaded => BlobState::Placed,
            Mounting::OnceCommitted => BlobState::Committed,
        };
        self.state.wait_for(|state| *state >= required).await.is_ok()
    }
}

/// A repository that has a blob or that an image carries it to.
#[derive(Debug)]
struct Placement {
    repository: Repository,
    seq: ImageSeq,
    /// `None` once the blob is committed: a channel takes as much memory as ten digests.
    running: Option<watch::Receiver<BlobState>>,
}

impl Placement {
    fn state(&self) -> BlobState {
        self.running.as_ref().map_or(BlobState::Committed, |state| *state.borrow())
    }

    /// Returns `true` if the blob is not placed and its carrier failed.
    fn is_abandoned(&self) -> bool {
        let is_dropped = |state: &watch::Receiver<_>| state.has_changed().is_err();
        self.state() == BlobState::Carried && self.running.as_ref().is_some_and(is_dropped)
    }

    fn mount_source(&self) -> MountSource {
        let repository = self.repository.clone();
        match &self.running {
            Some(state) => MountSource { repository, state: state.clone() },
            None => MountSource::committed(repository),
        }
    }
}

/// The claims after which the channels of committed blobs are freed.
const CLAIMS_BETWEEN_SWEEPS: usize = 1_024;

/// A blob of a destination. Its digest is in binary, because a run keeps one for each blob.
type BlobKey = (DestinationId, [u8; 32], u64);

/// The claims of a run. No code that can panic runs under the lock.
#[derive(Debug, Default)]
pub(crate) struct Placements(Mutex<PlacementState>);

#[derive(Debug, Default)]
struct PlacementState {
    images: u64,
    /// Not a hash map: that holds twice its memory while it grows.
    placements: BTreeMap<BlobKey, Vec<Placement>>,
    /// The blobs with a channel, and those that got one since the last sweep.
    running: Vec<BlobKey>,
    new: usize,
}

impl Placements {
    /// Claims all blobs of an image in one step; returns a claim per key, in order.
    pub(crate) fn claim_all(&self, keys: &[PlacementKey]) -> (ImageSeq, Vec<Claim>) {
        let mut state = self.0.lock();
        state.images += 1;
        let seq = ImageSeq(state.images);
        let claims = keys.iter().map(|key| state.claim(seq, key)).collect();
        (seq, claims)
    }

    /// Claims a blob again after its carrier failed.
    pub(crate) fn claim_again(&self, seq: ImageSeq, key: &PlacementKey) -> Claim {
        self.0.lock().claim(seq, key)
    }
}

impl PlacementState {
    fn claim(&mut self, seq: ImageSeq, key: &PlacementKey) -> Claim {
        let blob = (key.destination, key.digest.to_bytes(), key.size);
        if self.new >= CLAIMS_BETWEEN_SWEEPS {
            self.sweep();
        }
        // most blobs are in one repository
        let placements = self.placements.entry(blob).or_insert_with(|| Vec::with_capacity(1));
        placements.retain(|placement| !placement.is_abandoned());
        for placement in placements.iter().filter(|it| it.repository == key.repository) {
            match &placement.running {
                Some(state) if *state.borrow() < BlobState::Placed => {
                    if placement.seq < seq {
                        return Claim::Wait(Waiter(state.clone()));
                    }
                }
                _ => return Claim::Placed,
            }
        }
        let earlier =
            placements.iter().filter(|it| it.seq < seq && it.repository != key.repository);
        let mount_sources = earlier.map(Placement::mount_source).collect();
        let (sender, receiver) = watch::channel(BlobState::Carried);
        let repository = key.repository.clone();
        placements.push(Placement { repository, seq, running: Some(receiver) });
        self.running.push(blob);
        self.new += 1;
        Claim::Carry(Carrier { state: sender, mount_sources })
    }

    /// Frees the channels of blobs that are committed, and the placements of carriers that failed.
    fn sweep(&mut self) {
        let placements = &mut self.placements;
        self.running.retain(|blob| {
            let Some(all) = placements.get_mut(blob) else { return false };
            all.retain(|placement| !placement.is_abandoned());
            for placement in all.iter_mut().filter(|it| it.state() == BlobState::Committed) {
                placement.running = None;
            }
            let is_running = all.iter().any(|placement| placement.running.is_some());
            if all.is_empty() {
                placements.remove(blob);
            }
            is_running
        });
        self.new = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(repository: &str, blob: u8) -> PlacementKey {
        PlacementKey {
            destination: DestinationId(0),
            repository: repository.parse().unwrap(),
            digest: Digest::of(&[blob]),
            size: 1,
        }
    }

    fn only(claims: (ImageSeq, Vec<Claim>)) -> Claim {
        let [claim] = <[Claim; 1]>::try_from(claims.1).unwrap();
        claim
    }

    #[tokio::test]
    async fn a_blob_is_carried_once_and_the_others_wait_for_it() {
        let placements = Placements::default();
        let Claim::Carry(carrier) = only(placements.claim_all(&[key("a", 1)])) else { panic!() };
        let Claim::Wait(waiter) = only(placements.claim_all(&[key("a", 1)])) else { panic!() };
        let placed = carrier.placed();
        assert!(waiter.placed().await);
        assert!(matches!(only(placements.claim_all(&[key("a", 1)])), Claim::Placed));
        drop(placed);
        assert!(
            matches!(only(placements.claim_all(&[key("a", 1)])), Claim::Placed),
            "it stays placed"
        );
    }

    #[tokio::test]
    async fn waiters_take_over_a_blob_when_its_carrier_fails() {
        let placements = Placements::default();
        let Claim::Carry(carrier) = only(placements.claim_all(&[key("a", 1)])) else { panic!() };
        let (second, claims) = placements.claim_all(&[key("a", 1)]);
        let Claim::Wait(waiter) = only((second, claims)) else { panic!() };
        let (third, claims) = placements.claim_all(&[key("a", 1)]);
        let Claim::Wait(other) = only((third, claims)) else { panic!() };
        drop(carrier);
        assert!(!waiter.placed().await && !other.placed().await);
        let late = placements.claim_again(third, &key("a", 1));
        assert!(matches!(late, Claim::Carry(_)));
        let early = placements.claim_again(second, &key("a", 1));
        assert!(matches!(early, Claim::Carry(_)), "an earlier image never waits for a later one");
    }

    #[tokio::test]
    async fn a_blob_is_mountable_once_the_other_repository_has_it_uploaded_or_committed() {
        let placements = Placements::default();
        let Claim::Carry(carrier) = only(placements.claim_all(&[key("a", 1)])) else { panic!() };
        let Claim::Carry(mut second) = only(placements.claim_all(&[key("b", 1)])) else { panic!() };
        assert_eq!(second.mount_sources.len(), 1);
        let placed = carrier.placed();
        assert!(second.mount_sources[0].ready(Mounting::OnceUploaded).await);
        placed.committed();
        assert!(second.mount_sources[0].ready(Mounting::OnceCommitted).await);
        let Claim::Carry(mut third) = only(placements.claim_all(&[key("c", 1)])) else { panic!() };
        assert_eq!(third.mount_sources.len(), 2);
        drop(second);
        assert!(third.mount_sources[0].ready(Mounting::OnceCommitted).await);
        assert!(!third.mount_sources[1].ready(Mounting::OnceCommitted).await, "its carrier failed");
    }

    #[tokio::test]
    async fn a_mount_source_whose_image_never_commits_is_not_ready() {
        let placements = Placements::default();
        let Claim::Carry(carrier) = only(placements.claim_all(&[key("a", 1)])) else { panic!() };
        let Claim::Carry(mut second) = only(placements.claim_all(&[key("b", 1)])) else { panic!() };
        drop(carrier.placed());
        assert!(second.mount_sources[0].ready(Mounting::OnceUploaded).await);
        assert!(!second.mount_sources[0].ready(Mounting::OnceCommitted).await);
    }

    #[tokio::test]
    async fn committed_blobs_keep_no_channel_and_stay_placed_and_mountable() {
        let placements = Placements::default();
        let numbered = |repository: &str, number: u16| PlacementKey {
            digest: Digest::of(&number.to_le_bytes()),
            ..key(repository, 0)
        };
        let Claim::Carry(running) = only(placements.claim_all(&[key("a", 1)])) else { panic!() };
        for number in 0..3_000 {
            let claim = only(placements.claim_all(&[numbered("a", number)]));
            let Claim::Carry(carrier) = claim else { panic!("{number}") };
            match number % 2 {
                0 => carrier.placed().committed(),
                _ => drop(carrier),
            }
        }
        let counts = |state: &PlacementState| (state.running.len(), state.placements.len());
        let (channels, blobs) = counts(&placements.0.lock());
        assert!(channels <= 2 + CLAIMS_BETWEEN_SWEEPS, "{channels}");
        assert!((1_500..=1_502 + CLAIMS_BETWEEN_SWEEPS).contains(&blobs), "{blobs}");
        assert!(matches!(only(placements.claim_all(&[numbered("a", 0)])), Claim::Placed));
        let claim = only(placements.claim_all(&[numbered("b", 0)]));
        let Claim::Carry(mut other) = claim else { panic!("{claim:?}") };
        assert!(other.mount_sources[0].ready(Mounting::OnceCommitted).await);
        assert!(matches!(only(placements.claim_all(&[key("a", 1)])), Claim::Wait(_)));
        drop(running);
    }
}
