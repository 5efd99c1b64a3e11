//! Shares one download of a blob among all transfers that need it at the same time.
//!
//! The first transfer to ask leads: it opens the download and waits for its first bytes. Transfers
//! that ask before these arrive share the download; later ones open their own.
//!
//! Until it distributes the bodies, a leader waits for the source only, never for its followers.
//! So a wait for a leader cannot cycle. After that, all of them move at the pace of the slowest
//! and wait for each other's sessions and connections, and for nothing else; each finds a
//! connection (see [`placements`](super::placements)). A dropped body is no longer fed. A dropped
//! leader leaves an error in the bodies, and the followers start again.

use std::{collections::HashMap, mem};

use futures::{
    FutureExt,
    future::{BoxFuture, ready},
};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::{
    model::{Digest, Location, Result},
    remote::body::{self, Body},
};

/// The content of a download. Each registry is read for itself: none vouches for another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct DownloadKey {
    pub(crate) location: Location,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// The downloads without a first byte yet, and the transfers that wait for each.
#[derive(Default)]
pub(crate) struct Downloads(Mutex<HashMap<DownloadKey, Vec<BlobWaiter>>>);

/// A transfer that shares a download and needs this many bodies.
struct BlobWaiter {
    consumers: usize,
    /// Receives `None` if the leader's source fails.
    sender: oneshot::Sender<Option<Vec<Body>>>,
}

/// The bodies of a download, and the future that feeds them: poll it while they are read.
pub(crate) struct SharedDownload {
    pub(crate) bodies: Vec<Body>,
    pub(crate) feed: BoxFuture<'static, ()>,
}

impl Downloads {
    /// Returns one body per consumer. Calls `open` unless another transfer is opening the blob.
    pub(crate) async fn share(
        &self,
        key: &DownloadKey,
        consumers: usize,
        open: impl Fn() -> Body,
    ) -> Result<SharedDownload> {
        while let Some(receiver) = self.join(key, consumers) {
            match receiver.await {
                Ok(Some(bodies)) => {
                    return Ok(SharedDownload { bodies, feed: ready(()).boxed() });
                }
                // the leader's source failed; this image's source may not
                Ok(None) => return Ok(distribute(open().begin().await?, consumers, Vec::new())),
                // the leader was dropped: ask again
                Err(_) => {}
            }
        }
        let leader = Leader { downloads: self, key };
        let started = open().begin().await;
        let waiters = leader.downloads.0.lock().get_mut(key).map(mem::take).unwrap_or_default();
        drop(leader);
        match started {
            Ok(body) => Ok(distribute(body, consumers, waiters)),
            Err(error) => {
                waiters.into_iter().for_each(|waiter| drop(waiter.sender.send(None)));
                Err(error)
            }
        }
    }

    /// Waits with the leader's other followers; `None` makes the caller the leader.
    fn join(
        &self,
        key: &DownloadKey,
        consumers: usize,
    ) -> Option<oneshot::Receiver<Option<Vec<Body>>>> {
        let mut downloads = self.0.lock();
        let Some(waiters) = downloads.get_mut(key) else {
            downloads.insert(key.clone(), Vec::new());
            return None;
        };
        let (sender, receiver) = oneshot::channel();
        waiters.push(BlobWaiter { consumers, sender });
        Some(receiver)
    }
}

/// The duty to distribute a download. Dropping it lets the next transfer lead, and wakes the
/// followers that have not received their bodies.
struct Leader<'a> {
    downloads: &'a Downloads,
    key: &'a DownloadKey,
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        self.downloads.0.lock().remove(self.key);
    }
}

/// Sends each waiter its share of the bodies; the caller keeps the rest.
fn distribute(body: Body, consumers: usize, waiters: Vec<BlobWaiter>) -> SharedDownload {
    let all = consumers + waiters.iter().map(|waiter| waiter.consumers).sum::<usize>();
    if all == 1 {
        return SharedDownload { bodies: vec![body], feed: ready(()).boxed() };
    }
    let (mut bodies, feed) = body::tee(body, all);
    for waiter in waiters {
        let share = bodies.split_off(bodies.len() - waiter.consumers);
        // a dropped receiver drops its bodies, which are then no longer fed
        drop(waiter.sender.send(Some(share)));
    }
    SharedDownload { bodies, feed: feed.boxed() }
}
