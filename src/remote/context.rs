//! What a run costs, counted where the request or the byte passes.

use std::sync::Arc;

use super::{retry::Retry, retry_budget::Patience};
use crate::model::event::Counter;

/// The traffic of one side.
#[derive(Debug, Clone, Default)]
pub struct Meter {
    /// Requests sent, every attempt counted.
    pub requests: Arc<Counter>,
    /// Those of them that repeated an earlier one.
    pub retries: Arc<Counter>,
    /// Answers that said "too many requests".
    pub throttled: Arc<Counter>,
    /// Blob bytes that passed.
    pub bytes: Arc<Counter>,
    /// How long it is put up with that nothing, or nothing good, passes.
    pub patience: Patience,
}

impl Meter {
    /// The same counts, with retries on this host's share of the budget.
    pub fn of(&self, host: &str) -> Self {
        Self { patience: self.patience.share(host), ..self.clone() }
    }

    /// How often and how patiently something is tried again.
    pub fn retry(&self) -> Retry {
        self.patience.retry
    }
}

/// The three sides of a run.
#[derive(Debug, Clone)]
pub struct Meters {
    /// Sources, their token services and listings.
    pub source: Arc<Meter>,
    /// Destinations' registries.
    pub destination: Arc<Meter>,
    /// AWS APIs.
    pub ecr_api: Arc<Meter>,
}

impl Meters {
    /// Nothing has passed yet; the three sides share this patience, and what it may cost.
    pub fn new(patience: &Patience) -> Self {
        let side = || Arc::new(Meter { patience: patience.clone(), ..Meter::default() });
        Self { source: side(), destination: side(), ecr_api: side() }
    }
}

impl Default for Meters {
    fn default() -> Self {
        Self::new(&Patience::default())
    }
}
