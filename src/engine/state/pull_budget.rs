//! Keeps a run within pull limits: an image that needs more pulls than are left is deferred.
//!
//! The registry's headers tell how many pulls are left. The budget subtracts those that the run
//! has promised to images and not spent yet. Images reserve in the order of the configuration
//! while pulls are scarce. An image that does not fit waits while other images hold promised pulls,
//! because they may return some. It is deferred only if no pull can be returned.
//!
//! So a run that defers an image has spent all but the last pulls of the window on images that it
//! completed: fewer are left than the deferred image needs.

use std::{collections::BTreeMap, mem, sync::Arc};

use tokio::sync::watch;

use crate::{
    model::{Error, Kind, Result, hints},
    remote::Allowance,
};

/// The pulls of an image about which nothing is known: an index, 16 platforms, and their
/// attestations. Only decides whether images may reserve at the same time.
pub(crate) const UNKNOWN_PULLS: u64 = 33;

/// The pulls of one registry.
#[derive(Debug, Default)]
pub(crate) struct PullBudget {
    /// Pulls that are left to others.
    reserved: u64,
    state: watch::Sender<BudgetState>,
}

#[derive(Debug, Default)]
struct BudgetState {
    /// Pulls that images hold.
    promised: u64,
    /// The promised pulls of images that wait for more.
    held_by_waiting: u64,
    /// The images that have not reserved all their pulls yet, by position, with the pulls that
    /// each is expected to need.
    queue: BTreeMap<usize, u64>,
    /// The sum of the expected pulls.
    queued: u64,
}

impl PullBudget {
    pub(crate) fn new(reserved: u64) -> Self {
        Self { reserved, ..Self::default() }
    }

    /// Adds the image at this position of the configuration.
    pub(crate) fn queue(self: &Arc<Self>, position: usize) -> PullQueue {
        let queue = PullQueue { budget: Arc::clone(self), position };
        self.state.send_modify(|state| {
            state.queue.insert(position, UNKNOWN_PULLS);
            state.queued += UNKNOWN_PULLS;
        });
        queue
    }

    /// The pulls of a window that the run may spend.
    pub(crate) fn window(&self, allowance: Allowance) -> u64 {
        allowance.limit.saturating_sub(self.reserved)
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
    /// Replaces the number of pulls that the image is expected to need.
    pub(crate) fn expect(&self, pulls: u64) {
        self.budget.state.send_if_modified(|state| {
            let Some(expected) = state.queue.get_mut(&self.position) else { return false };
            let before = mem::replace(expected, pulls);
            state.queued = state.queued - before + pulls;
            pulls < before
        });
    }

    /// Resolves when no earlier image waits, or enough pulls are left for all that wait. So an
    /// image with a slow source delays the others only if pulls are scarce.
    pub(crate) async fn wait(&self, allowance: impl Fn() -> Option<Allowance>) {
        let mut state = self.budget.state.subscribe();
        let resolved = state.wait_for(|state| {
            let first = state.queue.first_key_value();
            let is_enough = || {
                allowance().is_none_or(|it| state.queued <= self.budget.free(it, state.promised))
            };
            first.is_none_or(|(first, _)| *first >= self.position) || is_enough()
        });
        resolved.await.expect("the budget holds the sender");
    }

    /// Leaves the queue: the image has reserved its pulls, or needs none.
    pub(crate) fn release(&self) {
        self.budget.state.send_if_modified(|state| {
            let expected = state.queue.remove(&self.position);
            state.queued -= expected.unwrap_or_default();
            expected.is_some()
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
    /// Pulls taken since the last [`Self::release`].
    taken: u64,
    /// Set while the image waits for more.
    is_waiting: bool,
}

/// One promised pull. Dropping it ends the promise: the pull is spent, or was not needed.
#[derive(Debug)]
pub(crate) struct PromisedPull(Arc<PullBudget>);

impl Drop for PromisedPull {
    fn drop(&mut self) {
        self.0.state.send_modify(|state| state.promised -= 1);
    }
}

impl Reservation {
    pub(crate) fn new(budget: Arc<PullBudget>) -> Self {
        Self { budget, left: 0, taken: 0, is_waiting: false }
    }

    /// Changes the reservation to this many unused pulls, and waits for pulls that other images
    /// may return. Counts the pulls in each attempt.
    ///
    /// # Errors
    /// [`Kind::PullLimit`] if they are not left and no image can return them; [`Kind::Quota`] if
    /// the limit is too low.
    pub(crate) async fn resize(
        &mut self,
        pulls: impl Fn() -> u64,
        allowance: impl Fn() -> Option<Allowance>,
    ) -> Result<()> {
        let mut changes = self.budget.state.subscribe();
        loop {
            changes.mark_unchanged();
            let resized = match allowance() {
                Some(allowance) => self.try_resize(&pulls, allowance),
                None => Some(Ok(())),
            };
            if let Some(resized) = resized {
                return resized;
            }
            changes.changed().await.expect("the budget holds the sender");
        }
    }

    /// Takes one pull out of the reservation, and reserves it first if the reservation is empty.
    pub(crate) async fn take(
        &mut self,
        allowance: impl Fn() -> Option<Allowance>,
    ) -> Result<Option<PromisedPull>> {
        if self.left == 0 {
            self.resize(|| 1, allowance).await?;
        }
        // free pulls are not promised
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        self.taken += 1;
        Ok(Some(PromisedPull(Arc::clone(&self.budget))))
    }

    /// Returns the unused pulls.
    pub(crate) fn release(&mut self) {
        self.taken = 0;
        let budget = Arc::clone(&self.budget);
        budget.state.send_if_modified(|state| {
            self.stop_waiting(state);
            let left = mem::take(&mut self.left);
            state.promised -= left;
            left > 0
        });
    }

    /// One attempt of [`Self::resize`]; `None` if other images may return pulls.
    fn try_resize(&mut self, pulls: &impl Fn() -> u64, allowance: Allowance) -> Option<Result<()>> {
        let budget = Arc::clone(&self.budget);
        let (limit, window) = (allowance.limit, budget.window(allowance));
        let mut result = None;
        budget.state.send_if_modified(|state| {
            self.stop_waiting(state);
            // under the lock: a manifest is cached before its promised pull ends
            let pulls = pulls();
            let all = self.taken + pulls;
            let free = budget.free(allowance, state.promised);
            let more = pulls.saturating_sub(self.left);
            let before = self.left;
            let by_others = state.promised - state.held_by_waiting - self.left;
            let refused = if all > window {
                Some(quota(all, limit, budget.reserved))
            } else if more > free && by_others == 0 {
                Some(limit_reached(more, free))
            } else {
                None
            };
            if let Some(error) = refused {
                state.promised -= mem::take(&mut self.left);
                result = Some(Err(error));
            } else if more > free {
                self.is_waiting = true;
                state.held_by_waiting += self.left;
            } else {
                state.promised = state.promised - self.left + pulls;
                self.left = pulls;
                result = Some(Ok(()));
            }
            self.left < before
        });
        result
    }

    fn stop_waiting(&mut self, state: &mut BudgetState) {
        if mem::take(&mut self.is_waiting) {
            state.held_by_waiting -= self.left;
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.release();
    }
}

fn needs(pulls: u64) -> String {
    format!("the image needs {pulls} {}", if pulls == 1 { "pull" } else { "pulls" })
}

fn quota(pulls: u64, limit: u64, reserved: u64) -> Error {
    let rest = format!("the limit is {limit} per window, {reserved} of them reserved");
    Error::new(Kind::Quota, format!("{}; {rest}", needs(pulls))).hint(
        "narrow `platforms`, lower `reserve_pulls`, run fewer shards, or authenticate with a plan that allows more",
    )
}

fn limit_reached(pulls: u64, free: u64) -> Error {
    let problem = format!("{}; left in this window: {free}", needs(pulls));
    Error::new(Kind::PullLimit, problem).hint(hints::PULLS_SPENT)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU64, Ordering::Relaxed},
        time::Duration,
    };

    use futures::{FutureExt, future::join};
    use tokio::time::timeout;

    use super::*;

    fn allowance(remaining: u64) -> Option<Allowance> {
        Some(Allowance { limit: 100, remaining, window: Duration::from_secs(21_600) })
    }

    fn reservation(budget: &Arc<PullBudget>) -> Reservation {
        Reservation::new(Arc::clone(budget))
    }

    fn kind(result: Result<()>) -> Kind {
        result.unwrap_err().kind()
    }

    /// The result of a future that must resolve. The clock of the test is paused.
    async fn resolved<T>(future: impl Future<Output = T>) -> T {
        timeout(Duration::from_secs(1), future).await.expect("the image does not wait")
    }

    #[tokio::test(start_paused = true)]
    async fn a_pull_is_promised_once_and_an_unused_one_is_returned() {
        let budget = Arc::new(PullBudget::new(20));
        let (mut first, mut second) = (reservation(&budget), reservation(&budget));
        resolved(first.resize(|| 5, || allowance(30))).await.unwrap();
        assert!(second.resize(|| 6, || allowance(30)).now_or_never().is_none(), "it waits");
        drop(resolved(first.take(|| allowance(30))).await.unwrap());
        assert!(second.resize(|| 6, || allowance(29)).now_or_never().is_none(), "it still waits");
        resolved(first.resize(|| 3, || allowance(29))).await.unwrap();
        resolved(second.resize(|| 6, || allowance(29))).await.unwrap();
        drop((first, second));
        let mut third = reservation(&budget);
        resolved(third.resize(|| 9, || allowance(29))).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_image_waits_for_returned_pulls_and_is_deferred_when_none_can_be_returned() {
        let budget = Arc::new(PullBudget::new(0));
        let (mut first, mut second) = (reservation(&budget), reservation(&budget));
        resolved(first.resize(|| 8, || allowance(10))).await.unwrap();
        let mut waiting = Box::pin(second.resize(|| 4, || allowance(10)));
        assert!(waiting.as_mut().now_or_never().is_none());
        resolved(first.resize(|| 6, || allowance(10))).await.unwrap();
        resolved(waiting).await.unwrap();
        drop(first);
        assert_eq!(kind(resolved(second.resize(|| 11, || allowance(10))).await), Kind::PullLimit);
        assert_eq!(budget.state.borrow().promised, 0, "a deferred image holds nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn images_that_wait_for_each_others_pulls_do_not_wait_for_ever() {
        let budget = Arc::new(PullBudget::new(0));
        let (mut first, mut second) = (reservation(&budget), reservation(&budget));
        resolved(first.resize(|| 5, || allowance(10))).await.unwrap();
        resolved(second.resize(|| 5, || allowance(10))).await.unwrap();
        let mut waiting = Box::pin(first.resize(|| 6, || allowance(10)));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert_eq!(kind(resolved(second.resize(|| 6, || allowance(10))).await), Kind::PullLimit);
        resolved(waiting).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_image_that_stops_waiting_is_not_counted_as_waiting() {
        let budget = Arc::new(PullBudget::new(0));
        let (mut first, mut second) = (reservation(&budget), reservation(&budget));
        resolved(first.resize(|| 5, || allowance(10))).await.unwrap();
        resolved(second.resize(|| 5, || allowance(10))).await.unwrap();
        assert!(first.resize(|| 6, || allowance(10)).now_or_never().is_none());
        drop(first);
        assert_eq!(budget.state.borrow().held_by_waiting, 0);
        resolved(second.resize(|| 10, || allowance(10))).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn images_reserve_in_order_unless_enough_pulls_are_left_for_all() {
        let budget = Arc::new(PullBudget::new(20));
        let [first, second, third] = [0, 1, 2].map(|position| budget.queue(position));
        let is_first =
            |queue: &PullQueue, left| queue.wait(|| allowance(left)).now_or_never().is_some();
        assert!(!is_first(&second, 20 + 3 * UNKNOWN_PULLS - 1));
        assert!(is_first(&second, 20 + 3 * UNKNOWN_PULLS));
        [&first, &second, &third].into_iter().for_each(|queue| queue.expect(3));
        assert!(is_first(&first, 28) && !is_first(&second, 28) && !is_first(&third, 28));
        assert!(is_first(&third, 29), "enough pulls are left for all");
        second.release();
        assert!(!is_first(&third, 25), "the first image has not reserved yet");
        assert!(is_first(&third, 26), "enough pulls are left for both");
        drop(first);
        assert!(is_first(&third, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn an_image_reserves_as_soon_as_an_earlier_one_expects_fewer_pulls() {
        let budget = Arc::new(PullBudget::new(0));
        let [first, second] = [0, 1].map(|position| budget.queue(position));
        let enough = UNKNOWN_PULLS + 1;
        let earlier = async { first.expect(1) };
        join(resolved(second.wait(|| allowance(enough))), earlier).await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_image_that_waits_gets_the_pulls_that_another_image_returns() {
        let budget = Arc::new(PullBudget::new(0));
        let (mut first, mut second) = (reservation(&budget), reservation(&budget));
        resolved(first.resize(|| 8, || allowance(10))).await.unwrap();
        let returned = async { first.release() };
        join(resolved(second.resize(|| 4, || allowance(10))), returned).await.0.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_image_that_waits_tries_again_only_after_a_change() {
        let budget = Arc::new(PullBudget::new(0));
        let (mut first, mut second) = (reservation(&budget), reservation(&budget));
        resolved(first.resize(|| 8, || allowance(10))).await.unwrap();
        let attempts = AtomicU64::new(0);
        let pulls = || {
            attempts.fetch_add(1, Relaxed);
            4
        };
        let mut waiting = Box::pin(second.resize(pulls, || allowance(10)));
        for (held, expected) in [(8, 1), (7, 2), (7, 2)] {
            resolved(first.resize(|| held, || allowance(10))).await.unwrap();
            assert!(waiting.as_mut().now_or_never().is_none());
            assert_eq!(attempts.load(Relaxed), expected, "{held}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pull_that_fails_or_ends_leaves_the_other_promises() {
        let budget = Arc::new(PullBudget::new(0));
        let mut image = reservation(&budget);
        resolved(image.resize(|| 6, || allowance(10))).await.unwrap();
        let pull = resolved(image.take(|| allowance(10))).await.unwrap();
        assert_eq!(budget.state.borrow().promised, 6, "the pull is not spent yet");
        drop(pull);
        assert_eq!(budget.state.borrow().promised, 5);
        let mut other = reservation(&budget);
        resolved(other.resize(|| 4, || allowance(9))).await.unwrap();
        image.release();
        assert_eq!(budget.state.borrow().promised, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reservation_above_the_whole_limit_fails() {
        let budget = Arc::new(PullBudget::new(20));
        let mut image = reservation(&budget);
        assert_eq!(kind(resolved(image.resize(|| 81, || allowance(100))).await), Kind::Quota);
        resolved(image.resize(|| 80, || allowance(100))).await.unwrap();
        drop(resolved(image.take(|| allowance(100))).await.unwrap());
        assert_eq!(
            kind(resolved(image.resize(|| 80, || allowance(99))).await),
            Kind::Quota,
            "one was spent"
        );
        // the next image of the reader, such as a signature
        image.release();
        resolved(image.resize(|| 79, || allowance(99))).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_image_that_waits_counts_its_pulls_again() {
        let budget = Arc::new(PullBudget::new(0));
        let (mut first, mut second) = (reservation(&budget), reservation(&budget));
        let uncached = AtomicU64::new(9);
        resolved(first.resize(|| 9, || allowance(12))).await.unwrap();
        let pulls = || uncached.load(Relaxed);
        let mut waiting = Box::pin(second.resize(pulls, || allowance(3)));
        assert!(waiting.as_mut().now_or_never().is_none());
        // the first image reads what the second needs
        for left in (0..9).rev() {
            let pull = resolved(first.take(|| allowance(12))).await.unwrap();
            uncached.store(left, Relaxed);
            drop(pull);
        }
        resolved(waiting).await.unwrap();
        assert_eq!(budget.state.borrow().promised, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn free_pulls_are_not_counted() {
        let budget = Arc::new(PullBudget::new(20));
        let mut image = reservation(&budget);
        resolved(image.resize(|| 1_000_000, || None)).await.unwrap();
        assert!(resolved(image.take(|| None)).await.unwrap().is_none());
        assert_eq!(budget.state.borrow().promised, 0);
    }
}
