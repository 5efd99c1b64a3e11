//! Limits requests to the rates of an account in a region.
//!
//! Requests of the API and of the registry protocol share a rate, and therefore a rate limiter.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::{
    model::ecr_rates::{PUBLISHED, Rates},
    registry::{RateLimiter, RateLimiters},
};

/// The rate limiter of each action, for one identity in one region.
#[derive(Debug)]
pub(crate) struct Quotas {
    limiters: HashMap<&'static str, Arc<RateLimiter>>,
    is_lifted: AtomicBool,
}

/// A rate limiter that let requests wait.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LimitedAction {
    pub(crate) action: &'static str,
    /// The requests that the run sends a second.
    pub(crate) per_second: f64,
    /// The time in which at least one request waited.
    pub(crate) waited: Duration,
}

impl Default for Quotas {
    fn default() -> Self {
        let rates = Rates::default();
        let limiter = |action| {
            let (rate, burst) = limits(&rates, action);
            (action, Arc::new(RateLimiter::new(rate, burst)))
        };
        let limiters = PUBLISHED.iter().map(|it| limiter(it.action)).collect();
        Self { limiters, is_lifted: AtomicBool::new(false) }
    }
}

fn limits(rates: &Rates, action: &str) -> (f64, u32) {
    let limits = rates.steady(action).zip(rates.burst(action));
    limits.expect("every published action has a rate")
}

impl Quotas {
    /// Limits requests to these rates from now on.
    pub(crate) fn set(&self, rates: &Rates) {
        for (action, limiter) in &self.limiters {
            let (rate, burst) = limits(rates, action);
            limiter.set(rate, burst);
        }
    }

    /// Limits no request from now on: embedded registries have no rates.
    pub(crate) fn lift(&self) {
        self.is_lifted.store(true, Relaxed);
    }

    /// Waits until the rate allows one more request.
    pub(crate) async fn acquire(&self, action: &str) {
        if let Some(limiter) = self.limiter(action) {
            limiter.acquire().await;
        }
    }

    /// Slows the action down after AWS throttled it.
    pub(crate) fn throttled(&self, action: &str) {
        if let Some(limiter) = self.limiter(action) {
            limiter.slow_down();
        }
    }

    /// The actions that waited for their rate.
    pub(crate) fn limited(&self) -> Vec<LimitedAction> {
        let limited = self.limiters.iter().map(|(action, limiter)| {
            let (per_second, waited) = limiter.usage();
            LimitedAction { action, per_second, waited }
        });
        limited.filter(|it| !it.waited.is_zero()).collect()
    }

    /// The rate limiters of the registry protocol's requests.
    ///
    /// A blob's PUT counts as one CompleteLayerUpload and as several UploadLayerParts, whose
    /// published rate is five times higher.
    pub(crate) fn of_registry(&self) -> RateLimiters {
        let limiter = |action| self.limiter(action).cloned();
        let uploads = ["CompleteLayerUpload", "UploadLayerPart"].into_iter().filter_map(limiter);
        RateLimiters {
            open: limiter("InitiateLayerUpload"),
            upload: uploads.min_by(|a, b| a.usage().0.total_cmp(&b.usage().0)),
            commit: limiter("PutImage"),
        }
    }

    fn limiter(&self, action: &str) -> Option<&Arc<RateLimiter>> {
        self.limiters.get(action).filter(|_| !self.is_lifted.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    /// The requests of this action that are sent within a second, at most 3,000.
    async fn sent_in_a_second(quotas: &Quotas, action: &str) -> u32 {
        let begun = Instant::now();
        let mut sent = 0;
        while begun.elapsed().as_secs_f64() < 1.0 && sent < 3000 {
            quotas.acquire(action).await;
            sent += 1;
        }
        sent
    }

    #[tokio::test(start_paused = true)]
    async fn only_actions_with_a_rate_are_limited_and_stay_below_it() {
        for (action, rate) in [("PutImage", 10), ("BatchGetImage", 2000), ("ListImages", u32::MAX)]
        {
            let sent = sent_in_a_second(&Quotas::default(), action).await;
            assert!(sent <= rate.min(3000) + 1, "{action}: {sent}");
            assert!(sent >= rate.min(3000) * 7 / 10, "{action}: {sent}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_granted_rate_replaces_the_published_one_and_an_embedded_registry_has_none() {
        let quotas = Quotas::default();
        quotas.set(&Rates::granted([("PutImage", 100)]));
        let sent = sent_in_a_second(&quotas, "PutImage").await;
        assert!((90..=101).contains(&sent), "{sent}");
        let [limited] = quotas.limited()[..] else { panic!("{:?}", quotas.limited()) };
        assert_eq!((limited.action, limited.per_second), ("PutImage", 80.0));
        assert!((0.7..1.1).contains(&limited.waited.as_secs_f64()), "{limited:?}");
        quotas.lift();
        assert_eq!(sent_in_a_second(&quotas, "PutImage").await, 3000);
    }

    #[tokio::test(start_paused = true)]
    async fn the_api_and_the_registry_protocol_share_a_rate() {
        let quotas = Quotas::default();
        let commit = quotas.of_registry().commit.unwrap();
        let begun = Instant::now();
        for _ in 0..8 {
            quotas.acquire("PutImage").await;
            commit.acquire().await;
        }
        assert!(begun.elapsed().as_secs_f64() > 1.5);
    }
}
