//! What happens during a run, for those who watch it. A view, never the truth.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use super::{outcome::Outcome, setting_change::SettingChange};

/// Counts that a data path adds to and an observer samples; never a lock between them.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to the count.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Relaxed);
    }

    /// The count so far.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// How far one image is, in blob bytes.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes to push, as far as they are known by now.
    pub expected: Counter,
    /// Bytes pushed, those of failed attempts included.
    pub pushed: Counter,
}

/// One thing that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// The run knows its images, or some of them: how many rows there will be, besides those
    /// told before.
    Started {
        /// Images times destinations.
        rows: usize,
    },
    /// An image differs and is being copied.
    Copying {
        /// The source reference.
        image: String,
        /// Sampled by whoever draws it.
        progress: Arc<Progress>,
    },
    /// A row of the report is decided.
    Finished {
        /// The source reference.
        image: String,
        /// The destination reference.
        destination: String,
        /// How it ended.
        outcome: Outcome,
        /// Blob bytes pushed.
        bytes: u64,
        /// The error's chain, where it failed.
        error: Option<String>,
    },
    /// Settings were changed.
    Changed(SettingChange),
    /// Something a person should know that changes no outcome.
    Warning {
        /// What it is about.
        subject: String,
        /// The warning.
        text: String,
    },
}

/// Someone who watches a run. Called from the data path: must not block.
pub trait Observer: Send + Sync {
    /// Takes notice.
    fn observe(&self, event: &Event);
}

/// Watches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn observe(&self, _event: &Event) {}
}
