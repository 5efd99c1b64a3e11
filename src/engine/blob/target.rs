//! One destination of a copy.

use std::{mem, sync::Arc};

use parking_lot::Mutex;

use super::placements::{Carrier, PlacementKey};
use crate::{
    engine::state::repository::TargetRepository,
    model::{Descriptor, Error, Tag, event::Counter},
    remote::{Destination, Mounting},
};

/// One destination of a copy. Its first error ends it; the other destinations continue.
pub(crate) struct CopyTarget<D> {
    pub(crate) repository: Arc<TargetRepository<D>>,
    /// The root's tag; `None` if the root is found by its digest only.
    pub(crate) tag: Option<Tag>,
    pub(crate) mounting: Mounting,
    /// Blob bytes pushed here for this image, or in a plan to push.
    pub(crate) pushed: Counter,
    /// The blobs that this image placed here.
    placed: Mutex<Vec<Carrier>>,
    failure: Mutex<Option<Error>>,
}

impl<D: Destination> CopyTarget<D> {
    pub(crate) async fn new(repository: &Arc<TargetRepository<D>>, tag: Option<Tag>) -> Self {
        let mounting = repository.destination().mounting().await;
        let (pushed, placed, failure) = Default::default();
        Self { repository: Arc::clone(repository), tag, mounting, pushed, placed, failure }
    }

    pub(crate) fn destination(&self) -> &D {
        self.repository.destination()
    }

    /// The key of a blob here.
    pub(crate) fn blob_key(&self, blob: &Descriptor) -> PlacementKey {
        let TargetRepository { id, repository, .. } = &*self.repository;
        let (repository, digest) = (repository.clone(), blob.digest.clone());
        PlacementKey { destination: *id, repository, digest, size: blob.size }
    }

    /// Returns `true` if nothing can be mounted instead of a push.
    pub(crate) fn must_push(&self, carrier: &Carrier) -> bool {
        self.mounting == Mounting::Never || carrier.mount_sources.is_empty()
    }

    pub(crate) fn placed(&self, carrier: Carrier) {
        self.placed.lock().push(carrier.placed());
    }

    /// Ends the copy: other images can mount the placed blobs from here, unless it failed.
    pub(crate) fn finish(&self) {
        let placed = mem::take(&mut *self.placed.lock());
        // at a failed target a manifest may not hold the blob: it cannot be mounted from there
        if self.is_alive() {
            placed.into_iter().for_each(Carrier::committed);
        }
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
