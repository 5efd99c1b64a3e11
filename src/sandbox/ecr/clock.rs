//! The time, which tests let pass.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The time as registries see it; clones share how far it is ahead.
#[derive(Debug, Clone, Default)]
pub(super) struct Clock(Arc<AtomicU64>);

impl Clock {
    /// The time in seconds since the epoch, as the API writes it.
    pub(super) fn now(&self) -> f64 {
        now() + self.0.load(Ordering::Relaxed) as f64 / 1000.0
    }

    /// Goes ahead, by whole milliseconds.
    pub(super) fn advance(&self, by: Duration) {
        let milliseconds = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.0.fetch_add(milliseconds, Ordering::Relaxed);
    }
}

/// The time in seconds since the epoch, to the millisecond, as the API writes it.
pub(super) fn now() -> f64 {
    (since_epoch().as_millis() as f64) / 1000.0
}

/// The time since the epoch.
pub(super) fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970")
}
