//! ECR's published request quotas, kept from this side.
//!
//! Requests of the API and of the registry protocol draw on the same quotas;
//! so both are paced here, at 80 % of what is published.

use std::{collections::HashMap, sync::Arc};

use crate::registry::{RateLimiter, RateLimiters};

/// Requests a second that an account has in a region; what is not listed has no published rate.
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

/// The share of a quota that is used steadily, and the share that may come at once on top of it.
const STEADY: f64 = 0.8;
const BURST: f64 = 0.2;

/// The pace of each action, of one identity in one region.
#[derive(Debug)]
pub struct Quotas(HashMap<&'static str, Arc<RateLimiter>>);

impl Default for Quotas {
    fn default() -> Self {
        let pace = |(action, rate)| {
            let rate = f64::from(rate);
            (action, Arc::new(RateLimiter::new(rate * STEADY, (rate * BURST) as u32)))
        };
        Self(PUBLISHED.into_iter().map(pace).collect())
    }
}

impl Quotas {
    /// Waits until one more request of this action fits its quota.
    pub async fn acquire(&self, action: &str) {
        if let Some(pace) = self.0.get(action) {
            pace.acquire().await;
        }
    }

    /// Slows the action down, because AWS said that it is too fast.
    pub fn throttled(&self, action: &str) {
        if let Some(pace) = self.0.get(action) {
            pace.slow_down();
        }
    }

    /// The same quotas for the registry protocol's requests.
    ///
    /// A PUT of a blob is a CompleteLayerUpload and, as its body comes,
    /// UploadLayerParts, whose quota is five times as wide.
    pub fn of_registry(&self) -> RateLimiters {
        let pace = |action| self.0.get(action).cloned();
        RateLimiters {
            open: pace("InitiateLayerUpload"),
            upload: pace("CompleteLayerUpload"),
            commit: pace("PutImage"),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_has_a_quota_stays_below_it_and_the_rest_is_not_held_up() {
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
    async fn both_halves_draw_on_the_same_quota() {
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
