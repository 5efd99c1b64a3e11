//! Events of a run, for progress output and logs. No decision depends on them.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

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

/// The progress of one image, in blob bytes.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes to push, as far as known.
    pub(crate) expected: Counter,
    /// Bytes pushed, including those of failed attempts.
    pub(crate) pushed: Counter,
}

#[derive(Debug, Clone)]
pub enum Event {
    /// The run has selected images.
    Started {
        /// Images times destinations, besides those of earlier `Started` events.
        rows: usize,
    },
    Copying {
        image: String,
        /// Updated during the copy.
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
