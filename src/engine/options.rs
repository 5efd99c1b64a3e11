//! What a run works with: its registries, its mode and its limits.

use std::{collections::HashMap, sync::Arc};

use crate::model::Location;

/// A destination, and where it is.
#[derive(Debug)]
pub struct Endpoint<D> {
    /// The registry, or the layout.
    pub location: Location,
    /// What accepts the content.
    pub destination: D,
}

/// The registries of a run.
pub struct Endpoints<S, D> {
    /// Every source of the images, and how many of its pulls are left to others.
    pub sources: HashMap<Location, (Arc<S>, u64)>,
    /// The destinations, by [`DestinationId`].
    pub destinations: Vec<Arc<Endpoint<D>>>,
}

/// What a run is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
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
    pub mode: Mode,
    /// Blob transfers at once, at least one. No registry of the run may have fewer
    /// connections: see the [ledger](crate::engine::blob::placements) for why.
    pub transfers: usize,
}
