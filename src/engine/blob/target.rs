//! One destination of an image that is being copied.

use std::sync::Arc;

use super::placements::PlacementKey;
use crate::{
    engine::state::repository::TargetRepository,
    model::{DestinationId, Digest, Error, Tag, event::Counter},
    remote::{Destination, Mounting},
};
use parking_lot::Mutex;

/// One destination of an image that is being copied. The first error ends it; the others go on.
pub(crate) struct CopyTarget<D> {
    pub(crate) id: DestinationId,
    pub(crate) repository: Arc<TargetRepository<D>>,
    /// What the root is to be called; `None` for what is found by its digest alone.
    pub(crate) tag: Option<Tag>,
    pub(crate) mounting: Mounting,
    /// Blob bytes pushed here on account of this image.
    pub(crate) pushed: Counter,
    failure: Mutex<Option<Error>>,
}

impl<D: Destination> CopyTarget<D> {
    pub(crate) fn new(
        id: DestinationId,
        group: Arc<TargetRepository<D>>,
        tag: Option<Tag>,
        mounting: Mounting,
    ) -> Self {
        let (pushed, failure) = Default::default();
        Self { id, repository: group, tag, mounting, pushed, failure }
    }

    pub(crate) fn destination(&self) -> &D {
        &self.repository.endpoint.destination
    }

    pub(crate) fn key(&self, blob: &Digest) -> PlacementKey {
        let repository = self.repository.repository.clone();
        PlacementKey { destination: self.id, repository, blob: blob.clone() }
    }

    pub(crate) fn fail(&self, error: Error) {
        self.failure.lock().get_or_insert(error);
    }

    pub(crate) fn failure(&self) -> Option<Error> {
        self.failure.lock().clone()
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.failure().is_none()
    }
}
