//! Limits the retries of a run, one budget per host.
//!
//! A run against a dead host ends in minutes, however many images it has, and leaves the budgets
//! of other hosts alone.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The initial and the largest balance.
const ALLOWANCE: u64 = 1_000;
/// The price of a retry.
const COST: u64 = 2;
/// The reward for a success.
const GAIN: u64 = 1;

/// The retries that a run may still make at one host.
///
/// Starts with 500 retries: a hundred operations with all their attempts. Two successes pay for
/// one more retry. An intermittent host never exhausts the budget; a dead host exhausts it
/// quickly, and further errors are not retried. The AWS SDKs and Finagle work the same way; the
/// numbers are larger here, because giving up means to repeat the work in another run.
#[derive(Debug)]
pub(crate) struct RetryBudget(AtomicU64);

impl Default for RetryBudget {
    fn default() -> Self {
        Self(AtomicU64::new(ALLOWANCE))
    }
}

impl RetryBudget {
    /// Pays for one retry; returns `false` if the balance is too low.
    pub(crate) fn spend(&self) -> bool {
        self.0.fetch_update(Relaxed, Relaxed, |balance| balance.checked_sub(COST)).is_ok()
    }

    pub(crate) fn record_success(&self) {
        let earned = |balance: u64| (balance < ALLOWANCE).then_some(balance + GAIN);
        // a full budget stays as it is
        let _ = self.0.fetch_update(Relaxed, Relaxed, earned);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts the granted retries, each asked for after this many successes.
    fn granted(retries: usize, successes: usize) -> usize {
        let budget = RetryBudget::default();
        (0..retries)
            .filter(|_| {
                (0..successes).for_each(|_| budget.record_success());
                budget.spend()
            })
            .count()
    }

    #[test]
    fn an_intermittent_host_is_always_retried_and_a_dead_one_is_not() {
        assert_eq!(granted(10_000, 2), 10_000);
        assert_eq!(granted(10_000, 0), 500);
        // a host that fails half of the time
        assert_eq!(granted(10_000, 1), 5_499);
    }

    #[test]
    fn the_budget_does_not_grow_beyond_the_allowance() {
        let budget = RetryBudget::default();
        (0..10_000).for_each(|_| budget.record_success());
        assert_eq!((0..1_000).filter(|_| budget.spend()).count(), 500);
    }
}
