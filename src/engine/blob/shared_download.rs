//! One reading of a blob for all who want it at the same time.
//!
//! Whoever asks first leads: it opens the download and waits for its first
//! bytes. Those who ask before they come share the reading; those who come
//! later read for themselves. Until it hands the bodies over, a leader waits
//! for the source only, never for those it leads, so that waiting for a leader
//! cannot cycle. From then on all of them move at the pace of the slowest and
//! wait for each other's sessions and connections: none of them waits for
//! anything else any more, and there is a connection for each (see the ledger).
//! Whoever goes away is fed no longer; a leader that goes away leaves an error
//! in the bodies, and the others begin again.

use std::collections::HashMap;

use futures::{
    FutureExt,
    future::{BoxFuture, ready},
};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;

use crate::{
    model::{Digest, Location, Result},
    remote::body::{self, Body},
};

/// What is read: registries vouch for nothing of each other's, so each is asked for itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct DownloadKey {
    pub(crate) location: Location,
    pub(crate) blob: Digest,
    pub(crate) size: u64,
}

/// The downloads whose first bytes have not come yet, and who waits for them.
#[derive(Default)]
pub(crate) struct Downloads(Mutex<HashMap<DownloadKey, Vec<BlobWaiter>>>);

/// Someone who shares a download, with so many consumers.
struct BlobWaiter {
    consumers: usize,
    sender: oneshot::Sender<Result<Vec<Body>>>,
}

/// Bodies of one reading, and the work that feeds them: to be polled while they are read.
pub(crate) type Shared = (Vec<Body>, BoxFuture<'static, ()>);

impl Downloads {
    /// As many bodies of the blob as there are `seats`, opened by `open` unless someone is at it.
    ///
    /// # Errors
    /// The source's.
    pub(crate) async fn share(
        &self,
        blob: &DownloadKey,
        seats: usize,
        open: impl Fn() -> Body,
    ) -> Result<Shared> {
        loop {
            let Some(shared) = self.join(blob, seats) else {
                let leader = Leader { downloads: self, blob, handed_over: false };
                return leader.lead(seats, open()).await;
            };
            match shared.await {
                Ok(Ok(bodies)) => return Ok((bodies, ready(()).boxed())),
                // another image's source failed, ours may not
                Ok(Err(_)) => return distribute(open().begin().await?, seats, Vec::new()),
                // a leader that was dropped hands nothing over: ask again
                Err(_) => {}
            }
        }
    }

    /// Waits for whoever leads; `None` makes the caller the leader.
    fn join(
        &self,
        blob: &DownloadKey,
        seats: usize,
    ) -> Option<oneshot::Receiver<Result<Vec<Body>>>> {
        let mut waiting = self.waiting();
        let Some(riders) = waiting.get_mut(blob) else {
            waiting.insert(blob.clone(), Vec::new());
            return None;
        };
        let (hand, shared) = oneshot::channel();
        riders.push(BlobWaiter { consumers: seats, sender: hand });
        Some(shared)
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<DownloadKey, Vec<BlobWaiter>>> {
        self.0.lock()
    }
}

/// The duty to hand the download over; dropping it frees those who wait.
struct Leader<'a> {
    downloads: &'a Downloads,
    blob: &'a DownloadKey,
    /// The next one who asks is a leader, too: what waits then is no business of this one.
    handed_over: bool,
}

impl Leader<'_> {
    async fn lead(mut self, seats: usize, body: Body) -> Result<Shared> {
        let begun = body.begin().await;
        let riders = self.downloads.waiting().remove(self.blob).unwrap_or_default();
        self.handed_over = true;
        let body = match begun {
            Ok(body) => body,
            Err(error) => {
                riders.into_iter().for_each(|rider| drop(rider.sender.send(Err(error.clone()))));
                return Err(error);
            }
        };
        distribute(body, seats, riders)
    }
}

/// Gives every rider its share of the bodies; the rest are the caller's.
fn distribute(body: Body, seats: usize, riders: Vec<BlobWaiter>) -> Result<Shared> {
    let all = seats + riders.iter().map(|rider| rider.consumers).sum::<usize>();
    if all == 1 {
        return Ok((vec![body], ready(()).boxed()));
    }
    let (mut bodies, feed) = body::tee(body, all);
    for rider in riders {
        let share = bodies.split_off(bodies.len() - rider.consumers);
        // who has gone away drops its bodies, and is fed no longer
        drop(rider.sender.send(Ok(share)));
    }
    Ok((bodies, feed.boxed()))
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        if !self.handed_over {
            self.downloads.waiting().remove(self.blob);
        }
    }
}
