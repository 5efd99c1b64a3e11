//! The embedded ECR.

use std::{io, path::Path, sync::Arc};

use axum::response::Response;

use super::{BlobMounting, Call, Faults, Naming, Store, not_here};

/// Every ECR registry there is.
pub struct Ecr;

impl Ecr {
    /// Opens the registries whose content is kept in `directory`.
    pub fn open(
        _directory: &Path,
        _faults: Faults,
        _blob_mounting: BlobMounting,
        _naming: Naming,
    ) -> io::Result<Ecr> {
        Ok(Ecr)
    }

    /// Answers one request.
    pub async fn answer(&self, _call: Call) -> Response {
        not_here()
    }

    /// The content of one registry.
    pub fn store(&self, _account: &str, _region: &str) -> Arc<Store> {
        unreachable!("there is no registry yet")
    }
}
