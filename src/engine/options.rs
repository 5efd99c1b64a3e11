//! The registries, the mode and the limits of a run.

use std::{collections::HashMap, sync::Arc};

use crate::model::Location;

/// A source.
#[derive(Debug)]
pub struct SourceEndpoint<S> {
    /// The registry or layout.
    pub source: Arc<S>,
    /// Pulls of each window that the run leaves to others.
    pub reserved_pulls: u64,
}

/// A destination and its location.
#[derive(Debug)]
pub struct Endpoint<D> {
    /// The registry or layout.
    pub location: Location,
    /// The client that pushes to it.
    pub destination: D,
}

/// The registries of a run.
pub struct Endpoints<S, D> {
    /// Every source of the images.
    pub sources: HashMap<Location, SourceEndpoint<S>>,
    /// The destinations, by [`DestinationId`](crate::model::DestinationId).
    pub destinations: Vec<Arc<Endpoint<D>>>,
}

/// The purpose of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Mirror.
    Mirror,
    /// Report what [`Mirror`](Self::Mirror) would do.
    Plan,
    /// Like [`Plan`](Self::Plan), but spend no pull of a registry that limits them.
    PlanWithoutPulls,
}

/// The mode and the limits of a run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The purpose of the run.
    pub mode: Mode,
    /// Concurrent blob transfers, at least one. Every registry of the run needs as many
    /// connections: [`placements`](crate::engine::blob::placements) tells why.
    pub transfers: usize,
}
