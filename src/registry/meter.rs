//! What a run costs, counted where the request or the byte passes.

use std::sync::Arc;

use crate::model::event::Counter;

/// The traffic of one side.
#[derive(Debug, Default)]
pub struct Meter {
    /// Requests sent, every attempt counted.
    pub requests: Counter,
    /// Those of them that repeated an earlier one.
    pub retries: Counter,
    /// Answers that said "too many requests".
    pub throttled: Counter,
    /// Blob bytes that passed.
    pub bytes: Counter,
}

/// The three sides of a run.
#[derive(Debug, Clone, Default)]
pub struct Meters {
    /// Sources, their token services and listings.
    pub source: Arc<Meter>,
    /// Destinations' registries.
    pub destination: Arc<Meter>,
    /// AWS APIs.
    pub ecr_api: Arc<Meter>,
}
