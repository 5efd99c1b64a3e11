//! A token bucket: calls per second with a burst, slower after throttled responses.
//!
//! A waiting call owns its slot and holds nothing else. A cancelled call wastes its slot.

use std::{sync::Arc, time::Duration};

use parking_lot::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep_until};

use crate::remote::current;

/// The lowest rate, as a part of the full rate.
const SLOWEST: f64 = 1.0 / 16.0;

/// The part of the full rate that returns per second.
const RECOVERY: f64 = 0.02;

/// Throttled responses within this time count as one.
const INCIDENT: Duration = Duration::from_secs(1);

/// The rate limit of one kind of call.
#[derive(Debug)]
pub struct RateLimiter {
    full: f64,
    burst: f64,
    state: Mutex<BucketState>,
}

#[derive(Debug)]
struct BucketState {
    /// The current rate, in calls per second.
    rate: f64,
    /// When the next call is due at an even rate.
    due: Instant,
    /// When the rate was last updated.
    updated: Instant,
    throttled: Option<Instant>,
}

impl RateLimiter {
    /// Allows `per_second` calls per second on average, and `burst` calls at once; both above zero.
    pub fn new(per_second: f64, burst: u32) -> Self {
        let now = Instant::now();
        let burst = f64::from(burst.max(1));
        let due = earlier(now, (burst - 1.0) / per_second);
        let state = BucketState { rate: per_second, due, updated: now, throttled: None };
        Self { full: per_second, burst, state: Mutex::new(state) }
    }

    /// Waits until a call is due.
    pub async fn acquire(&self) {
        let at = {
            let mut state = self.recovered();
            let now = Instant::now();
            // keeps unused slots, at most a burst
            state.due = state.due.max(earlier(now, (self.burst - 1.0) / state.rate));
            let at = state.due;
            state.due = at + Duration::from_secs_f64(1.0 / state.rate);
            at
        };
        if at > Instant::now() {
            current::counted(|progress| &progress.waits, sleep_until(at)).await;
        }
    }

    /// Halves the rate after a throttled response. It recovers over time.
    pub fn slow_down(&self) {
        let mut state = self.recovered();
        let now = Instant::now();
        if state.throttled.is_some_and(|at| now.duration_since(at) < INCIDENT) {
            return;
        }
        state.throttled = Some(now);
        state.rate = (state.rate / 2.0).max(self.full * SLOWEST);
        state.due = state.due.max(now);
    }

    fn recovered(&self) -> MutexGuard<'_, BucketState> {
        let mut state = self.state.lock();
        let now = Instant::now();
        let gained = self.full * RECOVERY * now.duration_since(state.updated).as_secs_f64();
        state.rate = (state.rate + gained).min(self.full);
        state.updated = now;
        state
    }
}

/// The rate limits of a registry's writes; each attempt counts.
#[derive(Debug, Clone, Default)]
pub struct RateLimiters {
    /// POSTs that open an upload or mount a blob.
    pub open: Option<Arc<RateLimiter>>,
    /// PUTs of a blob.
    pub upload: Option<Arc<RateLimiter>>,
    /// PUTs of a manifest.
    pub commit: Option<Arc<RateLimiter>>,
}

/// The time this many seconds before; `now` if the clock does not reach back that far.
fn earlier(now: Instant, seconds: f64) -> Instant {
    now.checked_sub(Duration::from_secs_f64(seconds)).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn seconds_for(limiter: &RateLimiter, calls: u32) -> f64 {
        let started = Instant::now();
        for _ in 0..calls {
            limiter.acquire().await;
        }
        started.elapsed().as_secs_f64()
    }

    fn about(actual: f64, expected: f64) -> bool {
        (actual - expected).abs() < 0.1
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_at_once_and_later_calls_at_the_rate() {
        let limiter = RateLimiter::new(10.0, 5);
        for _ in 0..2 {
            assert!(about(seconds_for(&limiter, 5).await, 0.0));
            assert!(about(seconds_for(&limiter, 20).await, 2.0));
            tokio::time::advance(Duration::from_secs(60)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn throttling_halves_the_rate_once_per_incident_and_the_rate_recovers() {
        let limiter = RateLimiter::new(10.0, 1);
        limiter.slow_down();
        limiter.slow_down();
        let slow = seconds_for(&limiter, 10).await;
        assert!((1.5..2.1).contains(&slow), "{slow}");
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(about(seconds_for(&limiter, 11).await, 1.0));
        for _ in 0..20 {
            tokio::time::advance(Duration::from_secs(2)).await;
            limiter.slow_down();
        }
        assert!(seconds_for(&limiter, 2).await <= 1.6);
    }
}
