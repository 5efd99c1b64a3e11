//! The upstream registries as ECR's pull-through cache reads them.
//!
//! ECR uses AWS's own addresses: no client's pull limit counts its requests, and the journal does
//! not record them. The credentials limit its access, and the upstreams' faults apply to it too.

use axum::http::{Method, StatusCode};
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

/// The reason why a registry gives ECR no content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sandbox) enum Closed {
    /// Does not respond, or responds with a server error.
    Unavailable,
    /// Throttles the requests.
    Busy,
    /// Rejects the credentials, or hides the repository from them.
    Denied,
    /// Has no such image.
    Absent,
}

/// A repository of an upstream, and ECR's credentials for it.
#[derive(Debug, Clone)]
pub(in crate::sandbox) struct ImportedImages {
    pub host: String,
    pub repository: String,
    /// The access token; `None` for an anonymous request.
    pub token: Option<String>,
}

impl Upstream {
    /// Checks that the registry responds and accepts the token.
    pub(in crate::sandbox) fn greet(&self, host: &str, token: Option<&str>) -> Result<(), Closed> {
        self.answers(quirks::canonical(host), "/v2/")?;
        accepted(token)
    }

    /// The manifest of a tag or digest. Blocks.
    pub(in crate::sandbox) fn show(
        &self,
        shelf: &ImportedImages,
        at: &TagOrDigest,
    ) -> Result<Manifest, Closed> {
        let ImportedImages { host, repository, token } = shelf;
        let host = quirks::canonical(host);
        self.answers(host, &format!("/v2/{repository}/manifests/{}", at.as_str()))?;
        accepted(token.as_deref())?;
        // Docker Hub's official images are below `library`, and Docker Hub reports a missing
        // repository as one without access. Source: containers-roadmap#2211, #2260.
        if host == "docker.io" && !repository.contains('/') {
            return Err(Closed::Denied);
        }
        let hidden = quirks::of(host, repository).hidden;
        match (self.content.visibility(host, repository), hidden) {
            (Visibility::Public, _) => {}
            (Visibility::Private, _) if token.is_some() => {}
            (Visibility::Missing, Hidden::Told | Hidden::Denied) => return Err(Closed::Absent),
            (Visibility::Private | Visibility::Missing, _) => return Err(Closed::Denied),
        }
        let manifest = self.content.manifest(host, repository, at).ok_or(Closed::Absent)?;
        verified(&manifest.digest, &manifest.bytes)?;
        Ok(manifest)
    }

    /// A blob of a repository. Blocks.
    pub(in crate::sandbox) fn hand_over(
        &self,
        shelf: &ImportedImages,
        digest: &Digest,
    ) -> Result<Bytes, Closed> {
        let ImportedImages { host, repository, .. } = shelf;
        let host = quirks::canonical(host);
        self.answers(host, &format!("/v2/{repository}/blobs/{digest}"))?;
        let blob = self.content.blob(host, repository, digest);
        let bytes = self.content.bytes(&blob.ok_or(Closed::Absent)?);
        verified(digest, &bytes)?;
        Ok(bytes)
    }

    /// Fails if an upstream fault applies.
    fn answers(&self, host: &str, path: &str) -> Result<(), Closed> {
        let target = Target { side: Side::Upstream, method: &Method::GET, host, path };
        if self.faults.hits(Name::Reset, &target).is_some() {
            return Err(Closed::Unavailable);
        }
        match apply::instead(&self.faults, &target).map(|answer| answer.status()) {
            None => Ok(()),
            Some(StatusCode::TOO_MANY_REQUESTS) => Err(Closed::Busy),
            Some(_) => Err(Closed::Unavailable),
        }
    }
}

/// Accepts any token except the one that the token services refuse too.
fn accepted(token: Option<&str>) -> Result<(), Closed> {
    if token == Some("wrong") { Err(Closed::Denied) } else { Ok(()) }
}

/// Refuses content with another digest.
fn verified(digest: &Digest, bytes: &[u8]) -> Result<(), Closed> {
    if Digest::of(bytes) == *digest { Ok(()) } else { Err(Closed::Unavailable) }
}
