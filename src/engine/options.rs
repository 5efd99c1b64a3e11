//! The registries, the mode and the limits of a run.

use std::{collections::HashMap, num::NonZeroU32, sync::Arc};

use crate::model::Location;

#[derive(Debug)]
pub struct SourceEndpoint<S> {
    pub source: Arc<S>,
    /// Pulls of each window that the run leaves to others.
    pub reserved_pulls: u64,
    /// The processes that share the pulls.
    pub pull_shares: NonZeroU32,
}

impl<S> SourceEndpoint<S> {
    /// A source whose pulls this process has for itself.
    pub fn new(source: Arc<S>) -> Self {
        Self { source, reserved_pulls: 0, pull_shares: NonZeroU32::MIN }
    }
}

#[derive(Debug)]
pub struct Endpoint<D> {
    pub location: Location,
    pub destination: D,
}

pub struct Endpoints<S, D> {
    pub sources: HashMap<Location, SourceEndpoint<S>>,
    /// The destinations, by [`DestinationId`](crate::model::DestinationId).
    pub destinations: Vec<Arc<Endpoint<D>>>,
}

/// The purpose of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Mirror,
    /// Report what [`Mirror`](Self::Mirror) would do.
    Plan,
    /// Like [`Plan`](Self::Plan), but spend no pull of a registry that limits them.
    PlanWithoutPulls,
}

/// The content of a destination that a run asks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Check {
    /// The tags, and below a manifest that is missing. A destination that accepted a manifest is
    /// trusted to keep its content.
    #[default]
    Tags,
    /// Every manifest and blob of every image.
    Deep,
}

/// The end of an image whose source cannot be reached, or has no pulls left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WithoutSource {
    /// The image fails, or is deferred.
    #[default]
    Fail,
    /// The destination keeps the image that it has under the tag. Without one the image fails, or
    /// is deferred.
    Keep,
}

/// The order of the questions about a tag at a source that answers them without a pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Questions {
    /// The destinations first: the source is not asked for the digest of a tag that one of them lacks.
    #[default]
    Fewest,
    /// Both sides at once. A run with nothing to do is shorter by a round trip, and a tag that a
    /// destination lacks costs one request more.
    AtOnce,
}

/// Concurrent blob transfers, unless the user chooses another number.
pub const TRANSFERS: usize = 32;

#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub mode: Mode,
    pub check: Check,
    pub without_source: WithoutSource,
    pub questions: Questions,
    /// Concurrent blob transfers, at least one. Every registry of the run needs as many
    /// connections: [`placements`](crate::engine::blob::placements) tells why.
    pub transfers: usize,
}

impl Default for Options {
    fn default() -> Self {
        let (check, without_source, questions) = Default::default();
        Self { mode: Mode::Mirror, check, without_source, questions, transfers: TRANSFERS }
    }
}
