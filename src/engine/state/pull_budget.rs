//! Keeps a run within pull limits: an image that needs more pulls than are left is deferred before
//! it starts.
//!
//! The registry's headers tell how many pulls are left. The budget subtracts those that the run
//! has promised to images and not spent yet. A reservation that ends returns its unused pulls.
//! Images reserve in the order of the configuration, so the last ones are deferred.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    model::{Error, Kind, Result},
    remote::Allowance,
};

/// The pulls of one registry.
#[derive(Debug, Default)]
pub(crate) struct PullBudget {
    /// Pulls that are left to others.
    reserved: u64,
    promised: Mutex<u64>,
    waiting: watch::Sender<WaitingImages>,
}

/// The images that have not reserved yet, by position, with the pulls that each is known to need.
#[derive(Debug, Default)]
struct WaitingImages {
    needs: BTreeMap<usize, u64>,
    total: u64,
}

impl PullBudget {
    pub(crate) fn new(reserved: u64) -> Self {
        Self { reserved, ..Self::default() }
    }

    /// Adds the image at this position of the configuration, which needs at least `needs` pulls.
    pub(crate) fn queue(self: &Arc<Self>, position: usize, needs: u64) -> PullQueue {
        self.waiting.send_modify(|waiting| {
            waiting.needs.insert(position, needs);
            waiting.total += needs;
        });
        PullQueue { budget: Arc::clone(self), position }
    }

    /// The pulls that can still be promised.
    fn free(&self, allowance: Allowance, promised: u64) -> u64 {
        allowance.remaining.saturating_sub(promised + self.reserved)
    }
}

/// The place of an image in the queue for pulls. Dropping it releases the place.
///
/// A waiting image waits for earlier images only, and holds nothing that those need.
#[derive(Debug)]
pub(crate) struct PullQueue {
    budget: Arc<PullBudget>,
    position: usize,
}

impl PullQueue {
    /// Resolves when no earlier image waits, or enough pulls are left for all that wait. So an
    /// image with a slow source delays the others only if pulls are scarce.
    pub(crate) async fn wait(&self, allowance: impl Fn() -> Option<Allowance>) {
        let mut waiting = self.budget.waiting.subscribe();
        let is_enough = |total| {
            let promised = *self.budget.promised.lock();
            allowance().is_none_or(|it| total <= self.budget.free(it, promised))
        };
        let resolved = waiting.wait_for(|waiting| {
            let first = waiting.needs.first_key_value();
            first.is_none_or(|(first, _)| *first >= self.position) || is_enough(waiting.total)
        });
        resolved.await.expect("the budget holds the sender");
    }

    /// Leaves the queue: the image has reserved its pulls, or needs none.
    pub(crate) fn release(&self) {
        self.budget.waiting.send_if_modified(|waiting| {
            let needs = waiting.needs.remove(&self.position);
            waiting.total -= needs.unwrap_or_default();
            needs.is_some()
        });
    }
}

impl Drop for PullQueue {
    fn drop(&mut self) {
        self.release();
    }
}

/// Pulls promised to one image. Dropping it returns the unused ones.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<PullBudget>,
    left: u64,
}

impl Reservation {
    pub(crate) fn new(budget: Arc<PullBudget>) -> Self {
        Self { budget, left: 0 }
    }

    /// Extends the reservation to this many unused pulls.
    ///
    /// # Errors
    /// [`Kind::PullLimit`] if they are not left now; [`Kind::Quota`] if the limit is too low.
    pub(crate) fn extend_to(&mut self, pulls: u64, allowance: Option<Allowance>) -> Result<()> {
        let Some(allowance) = allowance else { return Ok(()) };
        let (limit, reserved) = (allowance.limit, self.budget.reserved);
        if pulls > limit.saturating_sub(reserved) {
            return Err(Error::new(
                Kind::Quota,
                format!("the image needs {pulls} pulls; the limit is {limit} per window, {reserved} of them reserved"),
            )
            .hint("narrow `platforms`, lower `reserve_pulls`, or authenticate with a plan that allows more"));
        }
        let more = pulls.saturating_sub(self.left);
        let mut promised = self.budget.promised.lock();
        let free = self.budget.free(allowance, *promised);
        if more > free {
            return Err(Error::new(
                Kind::PullLimit,
                format!("the image needs {more} pulls; {free} are left in this window"),
            )
            .hint("run again in the next window, or authenticate for a higher limit"));
        }
        *promised += more;
        self.left += more;
        Ok(())
    }

    /// Spends one promised pull.
    pub(crate) fn spend(&mut self) {
        self.release(1);
    }

    fn release(&mut self, pulls: u64) {
        let pulls = pulls.min(self.left);
        self.left -= pulls;
        *self.budget.promised.lock() -= pulls;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.release(self.left);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;

    use super::*;

    fn allowance(remaining: u64) -> Option<Allowance> {
        Some(Allowance { limit: 100, remaining, window: Duration::from_secs(21_600) })
    }

    #[test]
    fn a_pull_is_promised_once_and_an_unused_one_is_returned() {
        let budget = Arc::new(PullBudget::new(20));
        let mut first = Reservation::new(Arc::clone(&budget));
        let mut second = Reservation::new(Arc::clone(&budget));
        first.extend_to(5, allowance(30)).unwrap();
        let error = second.extend_to(6, allowance(30)).unwrap_err();
        assert_eq!(error.kind(), Kind::PullLimit);
        first.spend();
        assert!(second.extend_to(6, allowance(29)).is_err());
        drop(first);
        second.extend_to(6, allowance(29)).unwrap();
    }

    #[tokio::test]
    async fn images_reserve_in_order_unless_enough_pulls_are_left_for_all() {
        let budget = Arc::new(PullBudget::new(20));
        let [first, second, third] = [0, 1, 2].map(|position| budget.queue(position, 3));
        let is_first =
            |queue: &PullQueue, left| queue.wait(|| allowance(left)).now_or_never().is_some();
        assert!(is_first(&first, 28) && !is_first(&second, 28) && !is_first(&third, 28));
        assert!(is_first(&third, 29), "enough pulls are left for all");
        second.release();
        assert!(!is_first(&third, 25), "the first image has not reserved yet");
        assert!(is_first(&third, 26), "enough pulls are left for both");
        drop(first);
        assert!(is_first(&third, 0));
    }

    #[test]
    fn a_reservation_above_the_whole_limit_fails() {
        let mut reservation = Reservation::new(Arc::new(PullBudget::new(20)));
        let error = reservation.extend_to(81, allowance(100)).unwrap_err();
        assert_eq!(error.kind(), Kind::Quota);
        reservation.extend_to(80, allowance(100)).unwrap();
    }

    #[test]
    fn free_pulls_are_not_counted() {
        let budget = Arc::new(PullBudget::new(20));
        let mut reservation = Reservation::new(Arc::clone(&budget));
        reservation.extend_to(1_000_000, None).unwrap();
        reservation.spend();
        assert_eq!(*budget.promised.lock(), 0);
    }
}
