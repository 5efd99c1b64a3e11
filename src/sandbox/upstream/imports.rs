//! What ECR sees of these registries when it imports for its pull-through cache.
//!
//! It comes by AWS's own addresses and connections: no client's pull limit counts it, and no
//! request of it is in the journal. Guards that it is shown no more than its credentials allow,
//! and that faults of the upstreams strike it, too.

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

/// Why a registry gives ECR nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sandbox) enum Closed {
    /// It does not answer, or with a failure of its own.
    Unavailable,
    /// It wants fewer requests.
    Busy,
    /// It does not take the credentials, or hides the repository from them.
    Denied,
    /// It has no such image.
    Absent,
}

/// A repository of an upstream, and what ECR shows there.
#[derive(Debug, Clone)]
pub(in crate::sandbox) struct ImportedImages {
    /// The registry's host.
    pub host: String,
    /// The repository's name there.
    pub repository: String,
    /// The access token; none: ECR comes as nobody in particular.
    pub token: Option<String>,
}

impl Upstream {
    /// Whether the registries answer and take the token.
    pub(in crate::sandbox) fn greet(&self, host: &str, token: Option<&str>) -> Result<(), Closed> {
        self.answers(quirks::canonical(host), "/v2/")?;
        accepted(token)
    }

    /// The manifest that a tag points to or a digest names; for threads that may block.
    pub(in crate::sandbox) fn show(
        &self,
        shelf: &ImportedImages,
        at: &TagOrDigest,
    ) -> Result<Manifest, Closed> {
        let ImportedImages { host, repository, token } = shelf;
        let host = quirks::canonical(host);
        self.answers(host, &format!("/v2/{repository}/manifests/{}", at.as_str()))?;
        accepted(token.as_deref())?;
        // Docker Hub's own images are below `library`, and to Docker Hub a repository that is not
        // there is one that nobody may see. Source: containers-roadmap#2211, #2260.
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

    /// A blob of a repository that was shown; for threads that may block.
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

    /// Whether no fault stands between ECR and the upstreams.
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

/// Any token is taken but one: the word that the token services refuse, too.
fn accepted(token: Option<&str>) -> Result<(), Closed> {
    if token == Some("wrong") { Err(Closed::Denied) } else { Ok(()) }
}

/// What does not have its digest is not imported.
fn verified(digest: &Digest, bytes: &[u8]) -> Result<(), Closed> {
    if Digest::of(bytes) == *digest { Ok(()) } else { Err(Closed::Unavailable) }
}
