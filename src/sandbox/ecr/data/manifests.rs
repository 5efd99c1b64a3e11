//! Manifests: read, push, delete.

use axum::{
    body::Bytes,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
    response::Response,
};

use super::{DataRequest, EcrError, RegistryResult, header_text};
use crate::{
    model::{Digest, TagOrDigest},
    sandbox::{
        distribution::{self, no_body},
        ecr::{
            cache::CachedPull,
            images::{self, ImageId, Push, RepeatedPush},
        },
        fault::{Behaviour, Name, Side},
    },
};

impl DataRequest<'_> {
    /// Serves the stored manifest and ignores `Accept`. ECR counts a `HEAD` as a pull too, so
    /// either may import the tag first.
    pub(super) async fn manifest(&self, at: &TagOrDigest, request: Parts) -> RegistryResult {
        self.authorize("BatchGetImage")?;
        let DataRequest { ecr, registry, principal, .. } = self;
        let pull = CachedPull { ecr, registry, principal, repository: self.name() };
        pull.ensure_cached(at).await?;
        self.registry.settings(self.name())?;
        let digest = self.find(at)?;
        let missing = || EcrError::new("ImageNotFoundException", "Requested image not found");
        let found = self.registry.store.manifest(self.name(), &digest).ok_or_else(missing)?;
        let (media_type, bytes) = found;
        let is_head = request.method == Method::HEAD;
        if !(is_head && self.ecr.faults.otherwise(Behaviour::HeadPullsNothing)) {
            let pulled = std::slice::from_ref(&digest);
            self.registry.record_pulls(self.name(), pulled, &self.principal)?;
        }
        if let (TagOrDigest::Tag(_), Some((other, bytes))) =
            (at, self.translated(&request.headers, &media_type, &bytes))
        {
            let digest = Digest::of(&bytes);
            return Ok(distribution::manifest(&request.method, &digest, &other, bytes));
        }
        Ok(distribution::manifest(&request.method, &digest, &media_type, bytes))
    }

    /// The manifest in the other family of media types, if the fault `translate` is active and
    /// `Accept` excludes its own.
    ///
    /// Source: user guide, image manifest formats.
    fn translated(&self, headers: &HeaderMap, own: &str, bytes: &Bytes) -> Option<(String, Bytes)> {
        let accepted = headers.get_all(header::ACCEPT);
        let is_narrow = !accepted
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.contains(own) || value.contains("*/*"));
        if !is_narrow || self.ecr.faults.active(Name::Translate, Side::Ecr).is_none() {
            return None;
        }
        let text = std::str::from_utf8(bytes).ok()?;
        let to_docker = FAMILIES.iter().any(|(oci, _)| *oci == own);
        let pair = |&(oci, docker)| if to_docker { (oci, docker) } else { (docker, oci) };
        let replace = |text: String, (from, to): (&str, &str)| text.replace(from, to);
        let other = FAMILIES.iter().map(pair).fold(text.to_owned(), replace);
        let media_type = FAMILIES.iter().map(pair).fold(own.to_owned(), replace);
        Some((media_type, other.into()))
    }

    /// 201 without a `Location`.
    pub(super) async fn put_manifest(&self, at: &TagOrDigest, request: Request) -> RegistryResult {
        let (head, body) = request.into_parts();
        let bytes = distribution::read_manifest(body).await;
        let bytes = bytes.map_err(|error| EcrError::parameter("ImageManifest", error))?;
        self.authorize_push("PutImage")?;
        let bytes = bytes.ok_or_else(images::manifest_too_long)?;
        let (tag, digest) = match at {
            TagOrDigest::Tag(tag) => (Some(tag), None),
            TagOrDigest::Digest(digest) => (None, Some(digest)),
        };
        let media_type = header_text(&head.headers, header::CONTENT_TYPE);
        let (repeat, quota) = (RepeatedPush::TagImmutable, self.ecr.image_quota());
        let (repository, bytes) = (self.name(), &bytes);
        let push = Push { repository, tag, digest, media_type, bytes, repeat, quota };
        match images::push(&self.registry, &push, |blob| self.is_visible(blob)) {
            Ok(pushed) => {
                let digest = pushed.digest.to_string();
                let headers = [("docker-content-digest", digest)];
                let mut response = no_body(StatusCode::CREATED, headers);
                let is_silent = self.ecr.faults.otherwise(Behaviour::NoSubjectHeader);
                if let Some(subject) = pushed.subject.filter(|_| !is_silent) {
                    let subject =
                        HeaderValue::from_str(subject.as_str()).expect("a digest is ASCII");
                    let name = HeaderName::from_static("oci-subject");
                    response.headers_mut().insert(name, subject);
                }
                Ok(response)
            }
            Err(refusal) => Ok(self.refused_push(refusal)),
        }
    }

    /// Applies the fault `swap-missing-status` to a push that lacks content.
    fn refused_push(&self, refusal: EcrError) -> Response {
        let lacks_content =
            matches!(refusal.name, "LayersNotFoundException" | "ReferencedImagesNotFoundException");
        let mut response = refusal.into_registry_response();
        if lacks_content && self.ecr.faults.active(Name::SwapMissingStatus, Side::Ecr).is_some() {
            *response.status_mut() = StatusCode::BAD_REQUEST;
        }
        response
    }

    /// True if a push may count on a blob of this repository; the faults `late-blobs` and `vanish`
    /// hide some.
    fn is_visible(&self, blob: &Digest) -> bool {
        let (sessions, arn, faults) = (&self.ecr.sessions, self.arn(), &self.ecr.faults);
        if sessions.is_late(&arn, blob, faults) {
            return false;
        }
        let store = &self.registry.store;
        // ECR does not collect blobs that an image names
        if store.is_referenced(self.name(), blob) || !sessions.vanishes(&arn, blob, faults) {
            return true;
        }
        // removed: it must be uploaded again, as after ECR collected it
        store.unlink_blob(self.name(), blob).is_err()
    }

    pub(super) fn delete_manifest(&self, at: &TagOrDigest) -> RegistryResult {
        self.authorize_existing("BatchDeleteImage")?;
        let id = match at {
            TagOrDigest::Tag(tag) => ImageId { digest: None, tag: Some(tag.as_str()) },
            TagOrDigest::Digest(digest) => ImageId { digest: Some(digest.as_str()), tag: None },
        };
        match images::delete(&self.registry, self.name(), id) {
            Ok(_) => Ok(no_body(StatusCode::ACCEPTED, [])),
            Err(("ImageNotFound", reason)) => Err(EcrError::new("ImageNotFoundException", reason)),
            Err((_, reason)) => Err(EcrError::new("InvalidParameterException", reason)),
        }
    }
}

/// The media types that ECR translates between.
const FAMILIES: &[(&str, &str)] = &[
    (
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    ),
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    ),
    ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"),
    (
        "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
    ),
];
