//! What a run works with: its registries, its mode and its limits.

use std::{collections::HashMap, sync::Arc};

use crate::model::Site;

/// A destination, and where it is.
#[derive(Debug)]
pub struct End<D> {
    /// The registry, or the layout.
    pub site: Site,
    /// What accepts the content.
    pub destination: D,
}

/// The registries of a run.
pub struct Sides<S, D> {
    /// Every source of the images, and how many of its pulls are left to others.
    pub sources: HashMap<Site, (Arc<S>, u64)>,
    /// The destinations, by [`DestinationId`].
    pub destinations: Vec<Arc<End<D>>>,
}

/// What a run is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// To mirror.
    Mirror,
    /// To tell what mirroring would do.
    Plan,
    /// The same, without spending pulls where they are metered.
    PlanWithoutPulls,
}

/// How a run goes about it.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// What it is for.
    pub intent: Intent,
    /// Blob transfers at once, at least one. No registry of the run may have fewer
    /// connections: see the [ledger](crate::engine::blob::placements) for why.
    pub transfers: usize,
}
