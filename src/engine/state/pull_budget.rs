//! Pull limits as a budget: what does not fit is left for the next run, before it is begun.
//!
//! The registry's own headers are the truth; what this run has promised to
//! images and not spent yet is taken off. Reservations that end give back
//! what they did not use. Images take theirs in the order of the
//! configuration, so that what is left for later is what stands last.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    model::{Error, Kind, Result},
    remote::Allowance,
};

/// One registry's pulls, as far as this run spends them.
#[derive(Debug, Default)]
pub(crate) struct PullBudget {
    reserve: u64,
    promised: Mutex<u64>,
    waiting: watch::Sender<WaitingImages>,
}

/// The images that may still take pulls, by their place, and how many each is known to need.
#[derive(Debug, Default)]
struct WaitingImages {
    needs: BTreeMap<usize, u64>,
    total: u64,
}

impl PullBudget {
    /// A budget that leaves `reserve` pulls to others.
    pub(crate) fn new(reserve: u64) -> Self {
        Self { reserve, ..Self::default() }
    }

    /// The turn of the image at this place of the configuration, which is known to need this many.
    pub(crate) fn queue(self: &Arc<Self>, place: usize, needs: u64) -> PullQueue {
        self.waiting.send_modify(|waiting| {
            waiting.needs.insert(place, needs);
            waiting.total += needs;
        });
        PullQueue { budget: Arc::clone(self), place }
    }

    /// How many may still be promised.
    fn free(&self, allowance: Allowance) -> u64 {
        let promised = *self.promised.lock();
        allowance.remaining.saturating_sub(promised + self.reserve)
    }
}

/// An image's turn to take pulls; it passes when it is dropped, or before.
///
/// Whoever waits for it waits for images that stand earlier, which do not wait for it, and holds
/// nothing that those need.
#[derive(Debug)]
pub(crate) struct PullQueue {
    budget: Arc<PullBudget>,
    place: usize,
}

impl PullQueue {
    /// Resolves when no image that stands earlier may still take any, or there are enough for all:
    /// one that is slow to tell its digest holds up the others only where pulls are scarce.
    pub(crate) async fn wait(&self, allowance: impl Fn() -> Option<Allowance>) {
        let mut waiting = self.budget.waiting.subscribe();
        let is_enough = |total| allowance().is_none_or(|it| total <= self.budget.free(it));
        let come = waiting.wait_for(|waiting| {
            let first = waiting.needs.first_key_value();
            first.is_none_or(|(first, _)| *first >= self.place) || is_enough(waiting.total)
        });
        come.await.expect("the budget holds the sender");
    }

    /// The image has what it takes, or takes none.
    pub(crate) fn release(&self) {
        self.budget.waiting.send_if_modified(|waiting| {
            let passed = waiting.needs.remove(&self.place);
            waiting.total -= passed.unwrap_or_default();
            passed.is_some()
        });
    }
}

impl Drop for PullQueue {
    fn drop(&mut self) {
        self.release();
    }
}

/// Pulls promised to one image.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<PullBudget>,
    left: u64,
}

impl Reservation {
    /// No pulls yet.
    pub(crate) fn none(budget: Arc<PullBudget>) -> Self {
        Self { budget, left: 0 }
    }

    /// Sees to it that this many pulls are promised from now on.
    ///
    /// # Errors
    /// [`Kind::PullLimit`] when they do not fit now; [`Kind::Quota`] when they never will.
    pub(crate) fn extend_to(&mut self, pulls: u64, allowance: Option<Allowance>) -> Result<()> {
        let Some(allowance) = allowance else { return Ok(()) };
        let more = pulls.saturating_sub(self.left);
        if pulls > allowance.limit.saturating_sub(self.budget.reserve) {
            return Err(never(pulls, allowance.limit, self.budget.reserve));
        }
        let mut promised = self.budget.promised.lock();
        let free = allowance.remaining.saturating_sub(*promised + self.budget.reserve);
        if more > free {
            return Err(Error::new(
                Kind::PullLimit,
                format!("{more} pulls are needed and {free} are left in this window"),
            )
            .hint(
                "run again when the window has moved on; authenticated pulls have a higher limit",
            ));
        }
        *promised += more;
        self.left += more;
        Ok(())
    }

    /// One of the promised pulls was spent.
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

fn never(pulls: u64, limit: u64, reserve: u64) -> Error {
    Error::new(
        Kind::Quota,
        format!("{pulls} pulls are needed, the limit is {limit} a window of which {reserve} are reserved"),
    )
    .hint("narrow `platforms`, lower `reserve_pulls`, or authenticate with a plan that allows more")
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
    fn what_is_promised_is_not_promised_twice_and_what_is_not_used_comes_back() {
        let budget = Arc::new(PullBudget::new(20));
        let mut first = Reservation::none(Arc::clone(&budget));
        let mut second = Reservation::none(Arc::clone(&budget));
        first.extend_to(5, allowance(30)).unwrap();
        let error = second.extend_to(6, allowance(30)).unwrap_err();
        assert_eq!(error.kind(), Kind::PullLimit);
        first.spend();
        assert!(second.extend_to(6, allowance(29)).is_err());
        drop(first);
        second.extend_to(6, allowance(29)).unwrap();
    }

    #[tokio::test]
    async fn turns_come_in_order_unless_there_are_enough_for_all() {
        let budget = Arc::new(PullBudget::new(20));
        let [first, second, third] = [0, 1, 2].map(|place| budget.queue(place, 3));
        let is_come =
            |turn: &PullQueue, left| turn.wait(|| allowance(left)).now_or_never().is_some();
        assert!(is_come(&first, 28) && !is_come(&second, 28) && !is_come(&third, 28));
        assert!(is_come(&third, 29), "there are enough for all");
        second.release();
        assert!(!is_come(&third, 25), "the first may still take some");
        assert!(is_come(&third, 26), "there are enough for both");
        drop(first);
        assert!(is_come(&third, 0));
    }

    #[test]
    fn what_the_whole_limit_does_not_allow_fails() {
        let mut reservation = Reservation::none(Arc::new(PullBudget::new(20)));
        let error = reservation.extend_to(81, allowance(100)).unwrap_err();
        assert_eq!(error.kind(), Kind::Quota);
        reservation.extend_to(80, allowance(100)).unwrap();
    }

    #[test]
    fn where_pulls_are_free_nothing_is_counted() {
        let budget = Arc::new(PullBudget::new(20));
        let mut reservation = Reservation::none(Arc::clone(&budget));
        reservation.extend_to(1_000_000, None).unwrap();
        reservation.spend();
        assert_eq!(*budget.promised.lock(), 0);
    }
}
