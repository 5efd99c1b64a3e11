//! The upstream registries as ECR's pull-through cache reads them.
//!
//! ECR uses AWS's own addresses: no client's pull limit counts its requests, and the journal does
//! not record them. The credentials limit its access, and the upstreams' faults apply to it too.

use axum::http::{HeaderMap, Method, StatusCode};
use bytes::Bytes;

use super::{
    Upstream,
    content::Visibility,
    quirks::{self, Hidden},
    synthesis::Manifest,
};
use crate::{
    model::{Digest, TagOrDigest},
    sandbox::fault::{Name, Side, Target, apply},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sandbox) enum ImportError {
    /// Does not respond, or responds with a server error.
    Unavailable,
    /// Throttles the requests.
    Throttled,
    /// Rejects the credentials, or hides the repository from them.
    Denied,
    /// Has no such image.
    NotFound,
}

/// A repository of an upstream, and ECR's credentials for it.
#[derive(Debug, Clone)]
pub(in crate::sandbox) struct UpstreamRepository {
    pub host: String,
    pub repository: String,
    /// The access token; `None` for an anonymous request.
    pub token: Option<String>,
}

impl Upstream {
    /// Checks that the registry responds and accepts the token.
    pub(in crate::sandbox) fn check_credentials(
        &self,
        host: &str,
        token: Option<&str>,
    ) -> Result<(), ImportError> {
        self.check_faults(quirks::canonical(host), "/v2/")?;
        check_token(token)
    }

    /// The manifest of a tag or digest. Blocks.
    pub(in crate::sandbox) fn import_manifest(
        &self,
        source: &UpstreamRepository,
        at: &TagOrDigest,
    ) -> Result<Manifest, ImportError> {
        let UpstreamRepository { host, repository, token } = source;
        let host = quirks::canonical(host);
        self.check_faults(host, &format!("/v2/{repository}/manifests/{}", at.as_str()))?;
        check_token(token.as_deref())?;
        // Docker Hub's official images are below `library`, and Docker Hub reports a missing
        // repository as one without access. Source: containers-roadmap#2211, #2260.
        if host == "docker.io" && !repository.contains('/') {
            return Err(ImportError::Denied);
        }
        let hidden = self.quirks(host, repository).hidden;
        match (self.content.visibility(host, repository), hidden) {
            (Visibility::Public, _) => {}
            (Visibility::Private, _) if token.is_some() => {}
            (Visibility::Missing, Hidden::UnauthorizedOrMissing | Hidden::DeniedOrMissing) => {
                return Err(ImportError::NotFound);
            }
            (Visibility::Private | Visibility::Missing, _) => return Err(ImportError::Denied),
        }
        let manifest = self.content.manifest(host, repository, at).ok_or(ImportError::NotFound)?;
        verify(&manifest.digest, &manifest.bytes)?;
        Ok(manifest)
    }

    /// A blob of a repository. Blocks.
    pub(in crate::sandbox) fn import_blob(
        &self,
        source: &UpstreamRepository,
        digest: &Digest,
    ) -> Result<Bytes, ImportError> {
        let UpstreamRepository { host, repository, .. } = source;
        let host = quirks::canonical(host);
        self.check_faults(host, &format!("/v2/{repository}/blobs/{digest}"))?;
        let blob = self.content.blob(host, repository, digest);
        let bytes = self.content.bytes(&blob.ok_or(ImportError::NotFound)?);
        verify(digest, &bytes)?;
        Ok(bytes)
    }

    /// Fails if an upstream fault applies.
    fn check_faults(&self, host: &str, path: &str) -> Result<(), ImportError> {
        let target = Target { side: Side::Upstream, method: &Method::GET, host, path };
        if self.faults.hits(Name::Reset, &target).is_some() {
            return Err(ImportError::Unavailable);
        }
        match apply::replacement(&self.faults, &target, &HeaderMap::new())
            .map(|answer| answer.status())
        {
            None => Ok(()),
            Some(StatusCode::TOO_MANY_REQUESTS) => Err(ImportError::Throttled),
            Some(_) => Err(ImportError::Unavailable),
        }
    }
}

/// Accepts any token except the one that the token services refuse too.
fn check_token(token: Option<&str>) -> Result<(), ImportError> {
    if token == Some("wrong") { Err(ImportError::Denied) } else { Ok(()) }
}

fn verify(digest: &Digest, bytes: &[u8]) -> Result<(), ImportError> {
    if Digest::of(bytes) == *digest { Ok(()) } else { Err(ImportError::Unavailable) }
}
