//! A clock that tests can advance.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_sdk_ecr::primitives::{DateTime, DateTimeFormat};

/// The time of all registries; clones share the offset.
#[derive(Debug, Clone, Default)]
pub(super) struct Clock(Arc<AtomicU64>);

impl Clock {
    /// Seconds since the epoch, in the API's format.
    pub(super) fn now(&self) -> f64 {
        now() + self.0.load(Ordering::Relaxed) as f64 / 1000.0
    }

    /// Advances the clock, in whole milliseconds.
    pub(super) fn advance(&self, by: Duration) {
        let milliseconds = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.0.fetch_add(milliseconds, Ordering::Relaxed);
    }
}

/// Seconds since the epoch with milliseconds, in the API's format.
pub(super) fn now() -> f64 {
    (since_epoch().as_millis() as f64) / 1000.0
}

/// The time `ahead` of now, as the header `Date` has it.
pub(super) fn http_date(ahead: Duration) -> String {
    let date = DateTime::from(SystemTime::now() + ahead).fmt(DateTimeFormat::HttpDate);
    date.expect("the year has four digits")
}

pub(super) fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970")
}
