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
pub struct RateLimiter(Mutex<BucketState>);

#[derive(Debug)]
struct BucketState {
    /// The rate without throttled responses.
    full: f64,
    burst: f64,
    /// The current rate, in calls per second.
    rate: f64,
    /// When the next call is due at an even rate.
    due: Instant,
    /// When the rate was last updated.
    updated: Instant,
    throttled: Option<Instant>,
    /// When the last waiting call is due.
    waits_until: Instant,
    /// The time in which at least one call waited.
    limited: Duration,
}

impl RateLimiter {
    /// Allows `per_second` calls per second on average, and `burst` calls at once; both above zero.
    pub fn new(per_second: f64, burst: u32) -> Self {
        let now = Instant::now();
        let burst = f64::from(burst.max(1));
        Self(Mutex::new(BucketState {
            full: per_second,
            burst,
            rate: per_second,
            due: earlier(now, (burst - 1.0) / per_second),
            updated: now,
            throttled: None,
            waits_until: now,
            limited: Duration::ZERO,
        }))
    }

    /// Changes the rate and the burst. Calls that wait keep their slots.
    pub(crate) fn set(&self, per_second: f64, burst: u32) {
        let mut state = self.recovered();
        let burst = f64::from(burst.max(1));
        if (state.full, state.burst) != (per_second, burst) {
            (state.full, state.rate, state.burst) = (per_second, per_second, burst);
        }
    }

    /// The calls per second without throttled responses, and the time in which a call waited.
    pub(crate) fn usage(&self) -> (f64, Duration) {
        let state = self.0.lock();
        (state.full, state.limited)
    }

    /// Waits until a call is due.
    pub async fn acquire(&self) {
        let at = {
            let mut state = self.recovered();
            let now = Instant::now();
            // keeps unused slots, at most a burst
            state.due = state.due.max(earlier(now, (state.burst - 1.0) / state.rate));
            let at = state.due;
            state.due = at + Duration::from_secs_f64(1.0 / state.rate);
            let since = state.waits_until.max(now);
            state.limited += at.saturating_duration_since(since);
            state.waits_until = at.max(since);
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
        state.rate = (state.rate / 2.0).max(state.full * SLOWEST);
        state.due = state.due.max(now);
    }

    fn recovered(&self) -> MutexGuard<'_, BucketState> {
        let mut state = self.0.lock();
        let now = Instant::now();
        let gained = state.full * RECOVERY * now.duration_since(state.updated).as_secs_f64();
        state.rate = (state.rate + gained).min(state.full);
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
    async fn the_time_in_which_calls_wait_is_counted_once_for_all_of_them() {
        let limiter = RateLimiter::new(10.0, 5);
        seconds_for(&limiter, 5).await;
        assert_eq!(limiter.usage().1, Duration::ZERO, "a burst does not wait");
        let calls = std::iter::repeat_with(|| limiter.acquire());
        futures::future::join_all(calls.take(20)).await;
        assert!(about(limiter.usage().1.as_secs_f64(), 2.0));
        limiter.set(100.0, 1);
        assert!(about(seconds_for(&limiter, 100).await, 1.0));
        assert_eq!(limiter.usage().0, 100.0);
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
