//! Events of a run, for progress output and logs. No decision depends on them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

use parking_lot::Mutex;

use super::{outcome::Outcome, setting_change::SettingChange};

/// A counter without a lock: transfers add to it, an observer samples it.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Relaxed);
    }

    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The number of operations that run at the moment.
#[derive(Debug, Default)]
pub struct Gauge(AtomicUsize);

impl Gauge {
    /// Counts one more until the guard is dropped.
    pub(crate) fn enter(&self) -> GaugeGuard<'_> {
        self.0.fetch_add(1, Relaxed);
        GaugeGuard(self)
    }

    pub(crate) fn value(&self) -> usize {
        self.0.load(Relaxed)
    }
}

/// An operation that runs.
#[derive(Debug)]
pub(crate) struct GaugeGuard<'a>(&'a Gauge);

impl Drop for GaugeGuard<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

/// The progress of one image, or of the tag listing of one repository.
#[derive(Debug, Default)]
pub struct Progress {
    /// Blob bytes to push, as far as known.
    pub(crate) expected: Counter,
    /// Blob bytes pushed, including those of failed attempts.
    pub(crate) pushed: Counter,
    /// Manifests to push; 0 until the image is compared with its destinations.
    pub(crate) manifests: Counter,
    pub(crate) pushed_manifests: Counter,
    /// Requests that a rate limit delays.
    pub(crate) waits: Gauge,
    pub(crate) mounts: Gauge,
    /// By host.
    failing: Mutex<BTreeMap<usize, Failing>>,
}

/// Attempts at one host that have failed since the last success.
#[derive(Debug, Clone)]
pub(crate) struct Failing {
    pub(crate) since: Instant,
    /// The last error.
    pub(crate) error: String,
}

impl Progress {
    /// Records an attempt at this host that failed and is repeated.
    pub(crate) fn record_retry(&self, host: usize, error: String) {
        self.record_retry_at(host, error, Instant::now());
    }

    pub(crate) fn record_retry_at(&self, host: usize, error: String, now: Instant) {
        let mut failing = self.failing.lock();
        let since = failing.get(&host).map_or(now, |failing| failing.since);
        failing.insert(host, Failing { since, error });
    }

    /// Records that an attempt at this host succeeded.
    pub(crate) fn record_success(&self, host: usize) {
        self.failing.lock().remove(&host);
    }

    /// The failed attempts at the host that has failed for the longest time.
    pub(crate) fn failing(&self) -> Option<Failing> {
        self.failing.lock().values().min_by_key(|failing| failing.since).cloned()
    }
}

#[derive(Debug, Clone)]
pub enum Event {
    /// The run has selected images.
    Started {
        /// Images times destinations, besides those of earlier `Started` events.
        rows: usize,
    },
    /// An image, or the listing of a repository, is in progress until the run drops its counters.
    Working {
        /// The reference, or the repository.
        subject: String,
        /// The rows of the report that it ends in, at least.
        rows: usize,
        progress: Arc<Progress>,
    },
    /// A row of the report is complete.
    Finished {
        image: String,
        destination: String,
        outcome: Outcome,
        /// Blob bytes pushed.
        bytes: u64,
        /// The error with its causes.
        error: Option<String>,
    },
    Changed(SettingChange),
    /// A warning. It affects no outcome.
    Warning {
        /// The image, repository or registry.
        subject: String,
        text: String,
        /// Set if the row of an image has it, too.
        is_in_report: bool,
    },
}

/// Receives the events of a run. Called from the data path: must not block.
pub trait Observer: Send + Sync {
    fn observe(&self, event: &Event);
}

/// Ignores every event.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn observe(&self, _event: &Event) {}
}
