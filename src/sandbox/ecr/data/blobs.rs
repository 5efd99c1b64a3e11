//! Layers: `HEAD` is answered here, `GET` is redirected to S3.

use axum::{http::StatusCode, response::Response};

use super::{DataRequest, EcrError, RegistryResult};
use crate::{
    model::Digest,
    sandbox::{distribution::no_body, ecr::images, fault::Behaviour},
};

impl DataRequest<'_> {
    /// 200 with the layer's media type from an image, or a default before any image names it.
    pub(super) fn blob_head(&self, digest: &Digest) -> RegistryResult {
        self.authorize_existing("BatchCheckLayerAvailability")?;
        let size = self.registry.store.blob_size(self.name(), digest);
        let size = size.ok_or_else(|| self.no_layer(digest))?;
        self.ecr.sessions.record_report(&self.arn(), digest);
        let media_type = match self.registry.store.is_referenced(self.name(), digest) {
            true if !self.ecr.faults.otherwise(Behaviour::BlobType) => {
                images::blob_types(&self.registry, self.name()).remove(digest)
            }
            _ => None,
        };
        let media_type = media_type.unwrap_or_else(|| "application/octet-stream".to_owned());
        let response: Response = no_body(
            StatusCode::OK,
            [
                ("content-type", media_type),
                ("content-length", size.to_string()),
                ("docker-content-digest", digest.to_string()),
            ],
        );
        Ok(response)
    }

    /// 307 to S3, for a layer that a committed image names.
    pub(super) fn blob(&self, digest: &Digest) -> RegistryResult {
        self.authorize_existing("GetDownloadUrlForLayer")?;
        images::check_readable(&self.registry, self.name(), digest).map_err(|refusal| {
            let layer_is_missing = refusal.name == "LayersNotFoundException";
            if layer_is_missing { self.no_layer(digest) } else { refusal }
        })?;
        let url = self.ecr.storage_url(&self.registry, self.name(), digest, self.host);
        Ok(no_body(StatusCode::TEMPORARY_REDIRECT, [("location", url)]))
    }

    fn no_layer(&self, digest: &Digest) -> EcrError {
        images::layer_not_found("LayerUnknown", &self.registry, self.name(), digest)
    }
}
