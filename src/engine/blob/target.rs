//! One destination of a copy.

use std::sync::Arc;

use parking_lot::Mutex;

use super::placements::PlacementKey;
use crate::{
    engine::state::repository::TargetRepository,
    model::{DestinationId, Digest, Error, Tag, event::Counter},
    remote::{Destination, Mounting},
};

/// One destination of a copy. Its first error ends it; the other destinations continue.
pub(crate) struct CopyTarget<D> {
    pub(crate) id: DestinationId,
    pub(crate) repository: Arc<TargetRepository<D>>,
    /// The root's tag; `None` if the root is found by its digest only.
    pub(crate) tag: Option<Tag>,
    pub(crate) mounting: Mounting,
    /// Blob bytes pushed here for this image, or in a plan to push.
    pub(crate) pushed: Counter,
    failure: Mutex<Option<Error>>,
}

impl<D: Destination> CopyTarget<D> {
    pub(crate) async fn new(
        id: DestinationId,
        repository: Arc<TargetRepository<D>>,
        tag: Option<Tag>,
    ) -> Self {
        let mounting = repository.destination().mounting().await;
        let (pushed, failure) = Default::default();
        Self { id, repository, tag, mounting, pushed, failure }
    }

    pub(crate) fn destination(&self) -> &D {
        self.repository.destination()
    }

    pub(crate) fn key(&self, digest: &Digest) -> PlacementKey {
        let repository = self.repository.repository.clone();
        PlacementKey { destination: self.id, repository, digest: digest.clone() }
    }

    pub(crate) fn fail(&self, error: Error) {
        self.failure.lock().get_or_insert(error);
    }

    pub(crate) fn failure(&self) -> Option<Error> {
        self.failure.lock().clone()
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.failure.lock().is_none()
    }
}
