//! Who carries which blob: one placement per destination, repository and digest.
//!
//! An image enters once, with every blob it needs, and is told for each of
//! them whether it is there, whether an earlier image carries it, or whether
//! it is to carry it itself, and then from which repositories it may be
//! mounted.
//!
//! Why waits cannot cycle: an image is given its number and all its claims in
//! one step under the lock, so whatever it finds claimed belongs to an image
//! with a smaller number, and it waits only for those, be it for a blob or for
//! a home to mount it from. When a carrier fails, its claim is dropped and
//! whoever waited claims again; if a *later* image took the blob over
//! meanwhile, the earlier one does not wait for it but carries the blob a
//! second time. So every wait points from a larger number to a smaller one. A
//! claim that is dropped, for whatever reason, wakes its waiters: the sending
//! half of its channel closes.
//!
//! Whatever else a run waits for lies below, and no wait leads back up:
//!
//! 1. claims and homes, as above: nobody holds a permit meanwhile;
//! 2. a manifest that another image is putting: that one has all its blobs;
//! 3. the room for a transfer's buffers, then its permit: first come, first served;
//! 4. a download that another transfer is opening (`download.rs`): it waits for
//!    the source only;
//! 5. a connection. Uploads fed by one download move at one pace and so wait
//!    for each other while they hold theirs: a transfer has at most one upload
//!    to each destination, and every registry must have as many connections as
//!    there are transfers, then each upload finds one.

use std::collections::HashMap;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use crate::{
    model::{DestinationId, Digest, Repository},
    remote::Mounting,
};

/// A blob in a repository of a destination.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PlacementKey {
    /// The destination.
    pub destination: DestinationId,
    /// The repository there.
    pub repository: Repository,
    /// The blob.
    pub blob: Digest,
}

/// How far a blob is; a later state includes the earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum BlobState {
    Carried,
    Placed,
    Committed,
}

/// An image's number: those that entered earlier have smaller ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ImageSeq(u64);

/// What an image is to do about a blob.
#[derive(Debug)]
pub(crate) enum Claim {
    /// Nothing: it is there.
    Placed,
    /// An earlier image carries it.
    Wait(Waiter),
    /// It carries the blob itself.
    Carry(Carrier),
}

/// Waits for a blob that an earlier image carries.
#[derive(Debug)]
pub(crate) struct Waiter(watch::Receiver<BlobState>);

impl Waiter {
    /// Whether the blob was placed; `false` when its carrier gave up.
    pub(crate) async fn placed(mut self) -> bool {
        self.0.wait_for(|state| *state >= BlobState::Placed).await.is_ok()
    }
}

/// The duty to place one blob; dropping it unplaced wakes those who wait.
#[derive(Debug)]
pub(crate) struct Carrier {
    state: watch::Sender<BlobState>,
    /// Repositories of the destination that have the blob or will have it.
    pub mount_sources: Vec<MountSource>,
}

/// A repository that has a blob, or will have it once an earlier image is done.
#[derive(Debug)]
pub(crate) struct MountSource {
    /// The repository.
    pub repository: Repository,
    state: watch::Receiver<BlobState>,
}

impl MountSource {
    /// A repository that an earlier run filled.
    pub(crate) fn committed(repository: Repository) -> Self {
        let (_, state) = watch::channel(BlobState::Committed);
        Self { repository, state }
    }

    /// Waits until the blob can be mounted from here; `false` when that will never be.
    pub(crate) async fn ready(&mut self, mounting: Mounting) -> bool {
        let enough = match mounting {
            Mounting::Never => return false,
            Mounting::OnceUploaded => BlobState::Placed,
            Mounting::OnceCommitted => BlobState::Committed,
        };
        self.state.wait_for(|state| *state >= enough).await.is_ok()
    }
}

impl Carrier {
    /// Tells everyone that the blob is there; the rest of the image may still be under way.
    pub(crate) fn placed(self) -> PlacedBlob {
        self.state.send_replace(BlobState::Placed);
        PlacedBlob(self.state)
    }
}

/// A blob this image placed; tells those who want to mount it when a manifest holds it.
#[derive(Debug)]
pub(crate) struct PlacedBlob(watch::Sender<BlobState>);

impl PlacedBlob {
    /// The manifest that names the blob is committed.
    pub(crate) fn committed(self) {
        self.0.send_replace(BlobState::Committed);
    }
}

/// Where a blob is, or is coming to, at one destination.
#[derive(Debug)]
struct Placement {
    repository: Repository,
    seq: ImageSeq,
    state: watch::Receiver<BlobState>,
}

impl Placement {
    /// Neither there nor on its way any more.
    fn is_abandoned(&self) -> bool {
        *self.state.borrow() == BlobState::Carried && self.state.has_changed().is_err()
    }
}

/// Keeps the claims of a run.
#[derive(Debug, Default)]
pub(crate) struct Placements(Mutex<PlacementState>);

#[derive(Debug, Default)]
struct PlacementState {
    images: u64,
    placements: HashMap<(DestinationId, Digest), Vec<Placement>>,
}

impl Placements {
    fn state(&self) -> MutexGuard<'_, PlacementState> {
        // no code that can panic runs under the lock
        self.0.lock()
    }

    /// Enters an image with everything it needs, in one step: a claim per key, in order.
    pub(crate) fn claim_all(&self, keys: &[PlacementKey]) -> (ImageSeq, Vec<Claim>) {
        let mut book = self.state();
        book.images += 1;
        let turn = ImageSeq(book.images);
        let claims = keys.iter().map(|key| book.claim(turn, key)).collect();
        (turn, claims)
    }

    /// Claims a blob again whose carrier gave up.
    pub(crate) fn claim_again(&self, turn: ImageSeq, key: &PlacementKey) -> Claim {
        self.state().claim(turn, key)
    }
}

impl PlacementState {
    fn claim(&mut self, turn: ImageSeq, key: &PlacementKey) -> Claim {
        let places = self.placements.entry((key.destination, key.blob.clone())).or_default();
        places.retain(|place| !place.is_abandoned());
        for place in places.iter().filter(|place| place.repository == key.repository) {
            if *place.state.borrow() >= BlobState::Placed {
                return Claim::Placed;
            }
            if place.seq < turn {
                return Claim::Wait(Waiter(place.state.clone()));
            }
        }
        let homes = places
            .iter()
            .filter(|place| place.seq < turn && place.repository != key.repository)
            .map(|place| MountSource {
                repository: place.repository.clone(),
                state: place.state.clone(),
            })
            .collect();
        let (sender, receiver) = watch::channel(BlobState::Carried);
        places.push(Placement { repository: key.repository.clone(), seq: turn, state: receiver });
        Claim::Carry(Carrier { state: sender, mount_sources: homes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(repository: &str, blob: u8) -> PlacementKey {
        PlacementKey {
            destination: DestinationId(0),
            repository: repository.parse().unwrap(),
            blob: Digest::of(&[blob]),
        }
    }

    fn only(claims: (ImageSeq, Vec<Claim>)) -> Claim {
        let [claim] = <[Claim; 1]>::try_from(claims.1).unwrap();
        claim
    }

    #[tokio::test]
    async fn a_blob_is_carried_once_and_the_others_wait_for_it() {
        let ledger = Placements::default();
        let Claim::Carry(carrier) = only(ledger.claim_all(&[key("a", 1)])) else { panic!() };
        let Claim::Wait(waiter) = only(ledger.claim_all(&[key("a", 1)])) else { panic!() };
        let placed = carrier.placed();
        assert!(waiter.placed().await);
        assert!(matches!(only(ledger.claim_all(&[key("a", 1)])), Claim::Placed));
        drop(placed);
        assert!(matches!(only(ledger.claim_all(&[key("a", 1)])), Claim::Placed), "it stays there");
    }

    #[tokio::test]
    async fn a_failed_carrier_frees_its_waiters_and_one_of_them_carries() {
        let ledger = Placements::default();
        let Claim::Carry(carrier) = only(ledger.claim_all(&[key("a", 1)])) else { panic!() };
        let (second, claims) = ledger.claim_all(&[key("a", 1)]);
        let Claim::Wait(waiter) = only((second, claims)) else { panic!() };
        let (third, claims) = ledger.claim_all(&[key("a", 1)]);
        let Claim::Wait(other) = only((third, claims)) else { panic!() };
        drop(carrier);
        assert!(!waiter.placed().await && !other.placed().await);
        let late = ledger.claim_again(third, &key("a", 1));
        assert!(matches!(late, Claim::Carry(_)));
        let early = ledger.claim_again(second, &key("a", 1));
        assert!(matches!(early, Claim::Carry(_)), "an earlier image never waits for a later one");
    }

    #[tokio::test]
    async fn another_repository_is_a_home_once_its_state_suffices() {
        let ledger = Placements::default();
        let Claim::Carry(carrier) = only(ledger.claim_all(&[key("a", 1)])) else { panic!() };
        let Claim::Carry(mut second) = only(ledger.claim_all(&[key("b", 1)])) else { panic!() };
        assert_eq!(second.mount_sources.len(), 1);
        let placed = carrier.placed();
        assert!(second.mount_sources[0].ready(Mounting::OnceUploaded).await);
        placed.committed();
        assert!(second.mount_sources[0].ready(Mounting::OnceCommitted).await);
        let Claim::Carry(mut third) = only(ledger.claim_all(&[key("c", 1)])) else { panic!() };
        assert_eq!(third.mount_sources.len(), 2);
        drop(second);
        assert!(third.mount_sources[0].ready(Mounting::OnceCommitted).await);
        assert!(
            !third.mount_sources[1].ready(Mounting::OnceCommitted).await,
            "its carrier gave up"
        );
    }

    #[tokio::test]
    async fn a_home_whose_image_never_commits_is_none() {
        let ledger = Placements::default();
        let Claim::Carry(carrier) = only(ledger.claim_all(&[key("a", 1)])) else { panic!() };
        let Claim::Carry(mut second) = only(ledger.claim_all(&[key("b", 1)])) else { panic!() };
        drop(carrier.placed());
        assert!(second.mount_sources[0].ready(Mounting::OnceUploaded).await);
        assert!(!second.mount_sources[0].ready(Mounting::OnceCommitted).await);
    }
}
