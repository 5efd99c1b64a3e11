//! The number of attempts of an operation, and the wait before each retry.
//!
//! The error's [`Kind`](crate::model::Kind) decides whether to retry. The wait is the one that the
//! other side asked for, else exponential with full jitter.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use crate::model::Error;

/// The attempts of one operation.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// Attempts in all, at least one.
    pub attempts: u32,
    /// Upper bound of the first wait; it doubles with each further one.
    pub first: Duration,
    /// Upper bound of every wait; a longer `Retry-After` ends the attempts.
    pub longest: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 6, first: Duration::from_secs(1), longest: Duration::from_secs(30) }
    }
}

impl Retry {
    /// The wait after this failed attempt; `None` if it was the last.
    pub(crate) fn wait(&self, error: &Error, attempt: u32) -> Option<Duration> {
        if !error.is_transient() || attempt >= self.attempts {
            return None;
        }
        match error.retry_after() {
            Some(wait) => (wait <= self.longest).then_some(wait),
            None => {
                let ceiling = self.first.saturating_mul(1 << (attempt - 1).min(16));
                Some(ceiling.min(self.longest).mul_f64(random_fraction()))
            }
        }
    }
}

/// A random number in `0.0..1.0`.
fn random_fraction() -> f64 {
    // the standard library's per-instance hash keys are random enough to spread retries
    let bits = RandomState::new().hash_one(()) >> 11;
    bits as f64 / (1_u64 << 53) as f64
}
