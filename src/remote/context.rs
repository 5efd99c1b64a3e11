//! What a run costs, counted where the request or the byte passes.

use std::sync::Arc;

use super::{retry::Retry, retry_budget::RetryPolicy};
use crate::model::event::Counter;

/// The traffic of one side.
#[derive(Debug, Clone, Default)]
pub struct HostContext {
    /// Requests sent, every attempt counted.
    pub requests: Arc<Counter>,
    /// Those of them that repeated an earlier one.
    pub retries: Arc<Counter>,
    /// Answers that said "too many requests".
    pub throttled: Arc<Counter>,
    /// Blob bytes that passed.
    pub bytes: Arc<Counter>,
    /// How long it is put up with that nothing, or nothing good, passes.
    pub policy: RetryPolicy,
}

impl HostContext {
    /// The same counts, with retries on this host's share of the budget.
    pub fn for_host(&self, host: &str) -> Self {
        Self { policy: self.policy.for_host(host), ..self.clone() }
    }

    /// How often and how patiently something is tried again.
    pub fn retry(&self) -> Retry {
        self.policy.retry
    }
}

/// The three sides of a run.
#[derive(Debug, Clone)]
pub struct SideContexts {
    /// Sources, their token services and listings.
    pub source: Arc<HostContext>,
    /// Destinations' registries.
    pub destination: Arc<HostContext>,
    /// AWS APIs.
    pub ecr_api: Arc<HostContext>,
}

impl SideContexts {
    /// Nothing has passed yet; the three sides share this patience, and what it may cost.
    pub fn new(patience: &RetryPolicy) -> Self {
        let side = || Arc::new(HostContext { policy: patience.clone(), ..HostContext::default() });
        Self { source: side(), destination: side(), ecr_api: side() }
    }
}

impl Default for SideContexts {
    fn default() -> Self {
        Self::new(&RetryPolicy::default())
    }
}
