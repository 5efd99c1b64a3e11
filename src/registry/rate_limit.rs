//! A token bucket: so many calls a second, some at once, slower when told to.
//!
//! Whoever waits owns its turn and holds nothing; one that goes away wastes it.

use std::{sync::Arc, time::Duration};

use parking_lot::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep_until};

/// Of the full rate, what is left at the slowest.
const SLOWEST: f64 = 1.0 / 16.0;

/// Of the full rate, what comes back in a second.
const RECOVERY: f64 = 0.02;

/// How long after one throttled answer others count as the same incident.
const INCIDENT: Duration = Duration::from_secs(1);

/// The pace of one kind of call.
#[derive(Debug)]
pub struct RateLimiter {
    full: f64,
    burst: f64,
    state: Mutex<BucketState>,
}

#[derive(Debug)]
struct BucketState {
    /// Calls a second, now.
    rate: f64,
    /// When the next turn is due if calls came evenly.
    due: Instant,
    /// When the rate was last brought up to date.
    seen: Instant,
    throttled: Option<Instant>,
}

impl RateLimiter {
    /// `per_second` calls a second in the long run, `burst` of them at once; both above zero.
    pub fn new(per_second: f64, burst: u32) -> Self {
        let now = Instant::now();
        let burst = f64::from(burst.max(1));
        let due = earlier(now, (burst - 1.0) / per_second);
        let state = BucketState { rate: per_second, due, seen: now, throttled: None };
        Self { full: per_second, burst, state: Mutex::new(state) }
    }

    /// Waits for a turn.
    pub async fn turn(&self) {
        let at = {
            let mut state = self.recovered();
            let now = Instant::now();
            // unused turns are kept, as many as a burst has
            state.due = state.due.max(earlier(now, (self.burst - 1.0) / state.rate));
            let at = state.due;
            state.due = at + Duration::from_secs_f64(1.0 / state.rate);
            at
        };
        sleep_until(at).await;
    }

    /// Halves the rate: the other side said "too many". It comes back by and by.
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
        let gained = self.full * RECOVERY * now.duration_since(state.seen).as_secs_f64();
        state.rate = (state.rate + gained).min(self.full);
        state.seen = now;
        state
    }
}

/// The paces of a registry's writes, where it has a quota for them; each attempt is paced.
#[derive(Debug, Clone, Default)]
pub struct RateLimiters {
    /// POSTs that open an upload or mount a blob.
    pub open: Option<Arc<RateLimiter>>,
    /// PUTs of a blob.
    pub upload: Option<Arc<RateLimiter>>,
    /// PUTs of a manifest.
    pub commit: Option<Arc<RateLimiter>>,
}

/// So many seconds before, as far back as the clock goes.
fn earlier(now: Instant, seconds: f64) -> Instant {
    now.checked_sub(Duration::from_secs_f64(seconds)).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn seconds_for(pace: &RateLimiter, turns: u32) -> f64 {
        let begun = Instant::now();
        for _ in 0..turns {
            pace.turn().await;
        }
        begun.elapsed().as_secs_f64()
    }

    fn about(actual: f64, expected: f64) -> bool {
        (actual - expected).abs() < 0.1
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_at_once_and_the_rest_in_turn() {
        let pace = RateLimiter::new(10.0, 5);
        for _ in 0..2 {
            assert!(about(seconds_for(&pace, 5).await, 0.0));
            assert!(about(seconds_for(&pace, 20).await, 2.0));
            tokio::time::advance(Duration::from_secs(60)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn throttling_halves_the_rate_once_an_incident_and_it_creeps_back() {
        let pace = RateLimiter::new(10.0, 1);
        pace.slow_down();
        pace.slow_down();
        let slow = seconds_for(&pace, 10).await;
        assert!((1.5..2.1).contains(&slow), "{slow}");
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(about(seconds_for(&pace, 11).await, 1.0));
        for _ in 0..20 {
            tokio::time::advance(Duration::from_secs(2)).await;
            pace.slow_down();
        }
        assert!(seconds_for(&pace, 2).await <= 1.6);
    }
}
