//! Limits requests to 80 % of ECR's published quotas.
//!
//! Requests of the API and of the registry protocol share a quota, and therefore a rate limiter.

use std::{collections::HashMap, sync::Arc};

use crate::registry::{RateLimiter, RateLimiters};

/// Requests per second of an account in a region. Other actions have no published rate.
///
/// Source: ECR user guide, "Service quotas".
pub(crate) const PUBLISHED: [(&str, u32); 8] = [
    ("GetAuthorizationToken", 500),
    ("BatchCheckLayerAvailability", 1000),
    ("BatchGetImage", 2000),
    ("GetDownloadUrlForLayer", 3000),
    ("PutImage", 10),
    ("InitiateLayerUpload", 100),
    ("CompleteLayerUpload", 100),
    ("UploadLayerPart", 500),
];

/// The steady share of a quota, and the share that a burst may add.
const STEADY: f64 = 0.8;
const BURST: f64 = 0.2;

/// The requests of the action that a run sends a second; `None` without a published rate.
pub(crate) fn steady_rate(action: &str) -> Option<f64> {
    let (_, rate) = PUBLISHED.into_iter().find(|(published, _)| *published == action)?;
    Some(f64::from(rate) * STEADY)
}

/// The rate limiter of each action, for one identity in one region.
#[derive(Debug)]
pub(crate) struct Quotas(HashMap<&'static str, Arc<RateLimiter>>);

impl Default for Quotas {
    fn default() -> Self {
        let limiter = |(action, rate)| {
            let rate = f64::from(rate);
            (action, Arc::new(RateLimiter::new(rate * STEADY, (rate * BURST) as u32)))
        };
        Self(PUBLISHED.into_iter().map(limiter).collect())
    }
}

impl Quotas {
    /// Waits until the quota allows one more request.
    pub(crate) async fn acquire(&self, action: &str) {
        if let Some(limiter) = self.0.get(action) {
            limiter.acquire().await;
        }
    }

    /// Slows the action down after AWS throttled it.
    pub(crate) fn throttled(&self, action: &str) {
        if let Some(limiter) = self.0.get(action) {
            limiter.slow_down();
        }
    }

    /// The rate limiters of the registry protocol's requests.
    ///
    /// A blob's PUT counts as one CompleteLayerUpload and as several UploadLayerParts, whose quota
    /// is five times larger.
    pub(crate) fn of_registry(&self) -> RateLimiters {
        let limiter = |action| self.0.get(action).cloned();
        RateLimiters {
            open: limiter("InitiateLayerUpload"),
            upload: limiter("CompleteLayerUpload"),
            commit: limiter("PutImage"),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_actions_with_a_quota_are_limited_and_stay_below_it() {
        for (action, quota) in [("PutImage", 10), ("BatchGetImage", 2000), ("ListImages", u32::MAX)]
        {
            let quotas = Quotas::default();
            let begun = Instant::now();
            let mut admitted = 0;
            while begun.elapsed().as_secs_f64() < 1.0 && admitted < 3000 {
                quotas.acquire(action).await;
                admitted += 1;
            }
            assert!(admitted <= quota.min(3000) + 1, "{action}: {admitted}");
            assert!(admitted >= quota.min(3000) * 7 / 10, "{action}: {admitted}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_api_and_the_registry_protocol_share_a_quota() {
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
