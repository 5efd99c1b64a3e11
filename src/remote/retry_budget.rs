//! How long a run puts up with what is not well: one for all of its registries and AWS.
//!
//! Owns what all retries of a run draw on, so that a run against what is dead
//! ends in minutes, however many images it has. Each host draws on a share of
//! its own: what is dead leaves those that live theirs.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{
    circuit_breaker::{Breakers, OutagePolicy},
    retry::Retry,
};
use parking_lot::Mutex;

/// How long a run puts up with what is not well; clones and shares are one.
#[derive(Debug, Clone, Default)]
pub struct RetryPolicy {
    /// How often something is tried, and how long is waited in between.
    pub retry: Retry,
    /// How long nothing may move.
    pub stall: StallTimeouts,
    /// When a host counts as down.
    pub outage: OutagePolicy,
    /// What this one draws on: the share of whoever it was given to.
    pub(crate) budget: Arc<RetryBudget>,
    shares: Arc<HostBudgets>,
    pub(crate) breakers: Arc<Breakers>,
}

impl RetryPolicy {
    /// A patience of its own.
    pub fn new(retry: Retry, stall: StallTimeouts, outage: OutagePolicy) -> Self {
        Self { retry, stall, outage, ..Self::default() }
    }

    /// The same patience, drawing on this host's share: there is one a host in a run.
    pub fn for_host(&self, host: &str) -> Self {
        Self { budget: self.shares.for_host(host), ..self.clone() }
    }

    /// Something succeeded, which pays for later retries.
    pub fn record_success(&self) {
        self.budget.record_success();
    }
}

/// How long nothing may move before it is given up; what moves may take as long as it takes, a
/// list of tags aside.
#[derive(Debug, Clone, Copy)]
pub struct StallTimeouts {
    /// Until the head of an answer comes.
    pub answer: Duration,
    /// Until a source sends more of what it began to send.
    pub read: Duration,
    /// Until a registry takes more of what is ready for it.
    pub send: Duration,
    /// Until it answers once it has every byte of a blob: large ones are hashed first.
    pub completion: Duration,
    /// Until all tags of a repository are listed: a run knows its images only then.
    pub listing: Duration,
}

impl Default for StallTimeouts {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(60),
            read: Duration::from_secs(30),
            send: Duration::from_secs(60),
            completion: Duration::from_secs(300),
            listing: Duration::from_secs(600),
        }
    }
}

/// The budgets of a run, by the host whose operations draw on them.
///
/// As many as its configuration names: a registry's CDN, token service and
/// listing draw on the registry's, because it is its images that they hold up.
#[derive(Debug, Default)]
struct HostBudgets(Mutex<HashMap<String, Arc<RetryBudget>>>);

impl HostBudgets {
    fn for_host(&self, host: &str) -> Arc<RetryBudget> {
        let mut shares = self.0.lock();
        Arc::clone(shares.entry(host.to_owned()).or_default())
    }
}

/// What a budget has at first, and at most.
const ALLOWANCE: u64 = 1_000;
/// What a retry takes of it.
const COST: u64 = 2;
/// What a success gives back.
const GAIN: u64 = 1;

/// The retries that a run may still make at one host.
///
/// 500 of them at first, which is a hundred operations tried to the end. Every
/// two successes pay for one more, so that what fails a third of the time is
/// got over for ever, while what fails most of the time soon fails at the
/// first attempt. The shape is that of the AWS SDKs and Finagle; the numbers
/// are larger, because a mirror that gives up has its work done twice.
#[derive(Debug)]
pub(crate) struct RetryBudget(AtomicU64);

impl Default for RetryBudget {
    fn default() -> Self {
        Self(AtomicU64::new(ALLOWANCE))
    }
}

impl RetryBudget {
    /// Takes a retry out; `false` when there is none left.
    pub(crate) fn spend(&self) -> bool {
        self.0.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(COST)).is_ok()
    }

    /// Something succeeded.
    pub(crate) fn record_success(&self) {
        let earned = |left: u64| (left < ALLOWANCE).then_some(left + GAIN);
        // a full one stays as it is
        let _ = self.0.fetch_update(Relaxed, Relaxed, earned);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of so many retries are granted, after so many successes each.
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
    fn what_fails_a_third_of_the_time_is_retried_for_ever_and_what_is_dead_is_not() {
        assert_eq!(granted(10_000, 2), 10_000);
        assert_eq!(granted(10_000, 0), 500);
        // what fails half of the time is somewhere in between
        assert_eq!(granted(10_000, 1), 5_499);
    }

    #[test]
    fn a_host_spends_and_earns_for_itself_alone() {
        let run = RetryPolicy::default();
        // so many retries and then so many successes at a host, and how many retries were granted
        for (host, retries, successes, expected) in [
            ("dead", 10_000, 0, 500),
            ("live", 100, 0, 100),
            ("dead", 1, 200, 0),
            ("dead", 10_000, 0, 100),
            ("live", 10_000, 0, 400),
            ("late", 10_000, 0, 500),
        ] {
            let share = run.clone().for_host(host);
            let granted = (0..retries).filter(|_| share.budget.spend()).count();
            (0..successes).for_each(|_| share.record_success());
            assert_eq!(granted, expected, "{host}");
        }
    }

    #[test]
    fn successes_are_not_saved_beyond_the_allowance() {
        let budget = RetryBudget::default();
        (0..10_000).for_each(|_| budget.record_success());
        assert_eq!((0..1_000).filter(|_| budget.spend()).count(), 500);
    }
}
