//! Uploads: one body, or parts with ECR's restrictions.
//!
//! Implements the behaviour that breaks clients: a `PATCH` answers 201, its `Range` is right once
//! and then stale, a part at a wrong offset is 416, a short part fails only at the end, and a mount
//! requires a committed image in the other repository.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, StatusCode, Uri, header},
    response::Response,
};
use futures::StreamExt;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{DataRequest, EcrError, RegistryResult, authorize, header_text};
use crate::{
    model::{Digest, Repository},
    sandbox::{
        distribution::{no_body, query},
        ecr::rules,
        fault::{Arg, Behaviour, Faults, Name, Side},
        store::{AppendError, FinishError},
    },
};

/// Minimum bytes of every part but the last.
const LEAST_PART: u64 = 5 << 20;
const MOST_PARTS: usize = 4200;
/// The life of an upload with `otherwise=sessions-expire`, in seconds.
const SHORT_LIFE: f64 = 300.0;

/// The state of uploads and uploaded blobs beside their bytes.
#[derive(Debug, Default)]
pub(in crate::sandbox::ecr) struct Sessions(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    sessions: HashMap<String, Session>,
    /// Blobs by repository ARN that a client was told exist.
    reported: HashSet<BlobKey>,
    /// Upload times of blobs, by repository ARN.
    uploaded: HashMap<BlobKey, Instant>,
}

#[derive(Debug, Default)]
struct Session {
    /// Seconds since the epoch.
    opened: f64,
    /// The lengths of its parts, in order.
    parts: Vec<u64>,
}

/// The hash of a repository's ARN and a digest, because the sandbox keeps one for each blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct BlobKey(u64);

impl BlobKey {
    fn new(repository_arn: &str, digest: &Digest) -> Self {
        let mut hasher = DefaultHasher::new();
        (repository_arn, digest).hash(&mut hasher);
        Self(hasher.finish())
    }
}

impl Sessions {
    /// Records that a client was told that this blob exists.
    pub(in crate::sandbox::ecr) fn record_report(&self, repository_arn: &str, digest: &Digest) {
        self.0.lock().reported.insert(BlobKey::new(repository_arn, digest));
    }

    fn record_upload(&self, repository_arn: &str, digest: &Digest) {
        let key = BlobKey::new(repository_arn, digest);
        let mut state = self.0.lock();
        state.reported.remove(&key);
        state.uploaded.insert(key, Instant::now());
    }

    /// True while `late-blobs` hides the blob.
    pub(super) fn is_late(&self, repository_arn: &str, digest: &Digest, faults: &Faults) -> bool {
        let key = BlobKey::new(repository_arn, digest);
        let Some(at) = self.0.lock().uploaded.get(&key).copied() else { return false };
        let late = faults.active(Name::LateBlobs, Side::Ecr).and_then(|arg| arg.number());
        late.is_some_and(|late| at.elapsed() < Duration::from_millis(late))
    }

    /// True if `vanish` removes the blob, which a client was told exists, until it is uploaded
    /// again.
    pub(super) fn vanishes(&self, repository_arn: &str, digest: &Digest, faults: &Faults) -> bool {
        let key = BlobKey::new(repository_arn, digest);
        if !self.0.lock().reported.contains(&key) {
            return false;
        }
        let vanishes = faults.active(Name::Vanish, Side::Ecr).is_some();
        if vanishes {
            self.0.lock().reported.remove(&key);
        }
        vanishes
    }
}

impl DataRequest<'_> {
    pub(super) fn arn(&self) -> String {
        self.registry.arn(self.name())
    }

    /// 201 for a mount, else 202 with a session.
    pub(super) fn start_upload(&self, uri: &Uri) -> RegistryResult {
        self.authorize_push("InitiateLayerUpload")?;
        if let Some(digest) = self.try_mount(uri)? {
            self.ecr.sessions.record_upload(&self.arn(), &digest);
            return Ok(self.created(&digest));
        }
        let id = self.registry.store.start_upload(self.name())?;
        let session = Session { opened: self.registry.now(), parts: Vec::new() };
        self.ecr.sessions.0.lock().sessions.insert(id.clone(), session);
        let location = self.url(&format!("blobs/uploads/{id}"));
        Ok(no_body(StatusCode::ACCEPTED, [("location", location), ("range", "0-0".to_owned())]))
    }

    /// The mounted digest, or `None` if one of ECR's conditions is not met.
    ///
    /// Source: user guide, blob mounting; containers-roadmap#2860 for the committed image.
    fn try_mount(&self, uri: &Uri) -> Result<Option<Digest>, EcrError> {
        let digest = query(uri, "mount").and_then(|text| text.parse::<Digest>().ok());
        let from = query(uri, "from").and_then(|text| text.parse::<Repository>().ok());
        let (Some(digest), Some(from)) = (digest, from) else { return Ok(None) };
        let registry = &self.registry;
        let Ok(source) = registry.settings(from.as_str()) else { return Ok(None) };
        let arn = registry.arn(from.as_str());
        let may_read =
            authorize(self.ecr, registry, &self.principal, "GetDownloadUrlForLayer", &arn).is_ok();
        let may_mount = registry.account_setting("BLOB_MOUNTING") == "ENABLED"
            && may_read
            && source.encryption == registry.settings(self.name())?.encryption
            && rules::matching_rule(registry, self.name()).is_none()
            && rules::matching_rule(registry, from.as_str()).is_none()
            && registry.store.blob_size(from.as_str(), &digest).is_some()
            && registry.store.is_referenced(from.as_str(), &digest);
        if may_mount && registry.store.link_blob(self.name(), &digest)? {
            return Ok(Some(digest));
        }
        Ok(None)
    }

    /// 201; the range stays that of the first part.
    ///
    /// Source: containers-roadmap#2831.
    pub(super) async fn append(&self, id: &str, request: Request) -> RegistryResult {
        self.add_part(id, request).await?;
        let is_stale = !self.ecr.faults.otherwise(Behaviour::PatchRange);
        let shown = match self.ecr.sessions.0.lock().sessions.get(id) {
            Some(session) if is_stale => session.parts.first().copied().unwrap_or_default(),
            Some(session) => session.parts.iter().sum(),
            None => 0,
        };
        Ok(no_body(
            StatusCode::CREATED,
            [
                ("location", self.url(&format!("blobs/uploads/{id}"))),
                ("range", format!("0-{}", shown.saturating_sub(1))),
            ],
        ))
    }

    pub(super) async fn complete(&self, id: &str, request: Request) -> RegistryResult {
        let digest = query(request.uri(), "digest").and_then(|text| text.parse::<Digest>().ok());
        if has_body(request.headers()) {
            self.add_part(id, request).await?;
        }
        self.authorize_existing("CompleteLayerUpload")?;
        let digest = digest.ok_or_else(|| EcrError::new("InvalidLayerDigest", "invalid digest"))?;
        let offset = self.offset(id)?;
        let session = self.ecr.sessions.0.lock().sessions.remove(id).unwrap_or_default();
        if session.parts.iter().rev().skip(1).any(|&length| length < LEAST_PART) {
            self.registry.store.cancel_upload(self.name(), id);
            let text = "All layer parts except the last part should be at least 5MB";
            return Err(EcrError::new("LayerPartTooSmallException", text));
        }
        if offset == 0 {
            return self.empty_upload(id, &digest);
        }
        match self.registry.store.finish_upload(self.name(), id, &digest).await {
            Ok(_) => {}
            Err(FinishError::Unknown) => return Err(self.no_upload(id)),
            Err(FinishError::DigestMismatch { .. }) => {
                let text = "None of the provided layer digests match the calculated layer digest";
                return Err(EcrError::new("InvalidLayerException", text));
            }
            Err(FinishError::Io(error)) => return Err(error.into()),
        }
        self.ecr.sessions.record_upload(&self.arn(), &digest);
        Ok(self.created(&digest))
    }

    /// ECR does not store an empty blob. Source: oras-py#54, containers-roadmap#1074.
    fn empty_upload(&self, id: &str, digest: &Digest) -> RegistryResult {
        self.registry.store.cancel_upload(self.name(), id);
        match self.ecr.faults.active(Name::EmptyBlob, Side::Ecr) {
            Some(Arg::Word(word)) if word == "drop" => Ok(self.created(digest)),
            _ => Err(EcrError::new("EmptyUploadException", "the layer has no bytes")),
        }
    }

    pub(super) fn upload_status(&self, id: &str) -> RegistryResult {
        self.authorize_existing("UploadLayerPart")?;
        let offset = self.offset(id)?;
        Ok(no_body(
            StatusCode::NO_CONTENT,
            [
                ("location", self.url(&format!("blobs/uploads/{id}"))),
                ("range", format!("0-{}", offset.saturating_sub(1))),
            ],
        ))
    }

    pub(super) fn cancel_upload(&self, id: &str) -> RegistryResult {
        self.authorize_existing("UploadLayerPart")?;
        self.ecr.sessions.0.lock().sessions.remove(id);
        if self.registry.store.cancel_upload(self.name(), id) {
            Ok(no_body(StatusCode::NO_CONTENT, []))
        } else {
            Err(self.no_upload(id))
        }
    }

    /// Appends the request's body to the session as one part.
    async fn add_part(&self, id: &str, request: Request) -> Result<(), EcrError> {
        if let Err(refusal) = self.check_part(id, request.headers()) {
            // closing the connection before the body is read would lose the refusal
            drain(request.into_body()).await;
            return Err(refusal);
        }
        let before = self.offset(id)?;
        let body = request.into_body().into_data_stream();
        let after = match self.registry.store.append(self.name(), id, body).await {
            Ok(after) => after,
            Err(AppendError::Unknown) => return Err(self.no_upload(id)),
            Err(AppendError::Io(error)) => return Err(error.into()),
            Err(broken @ AppendError::Body(_)) => {
                return Err(EcrError::new("InvalidLayerException", broken.to_string()));
            }
        };
        if after > before {
            let mut state = self.ecr.sessions.0.lock();
            state.sessions.entry(id.to_owned()).or_default().parts.push(after - before);
        }
        Ok(())
    }

    fn check_part(&self, id: &str, headers: &HeaderMap) -> Result<(), EcrError> {
        self.authorize_existing("UploadLayerPart")?;
        let offset = self.offset(id)?;
        let is_full = |session: &Session| session.parts.len() >= MOST_PARTS;
        if self.ecr.sessions.0.lock().sessions.get(id).is_some_and(is_full) {
            let text = format!("a layer has at most {MOST_PARTS} parts");
            return Err(EcrError::new("LimitExceededException", text));
        }
        let Some(range) = header_text(headers, header::CONTENT_RANGE) else { return Ok(()) };
        let first = range.strip_prefix("bytes ").unwrap_or(range).split('-').next();
        let first = first.unwrap_or_default().trim();
        if first.parse() == Ok(offset) {
            return Ok(());
        }
        let text = format!("First byte of the layer part is {first} instead of {offset}");
        Err(EcrError::new("InvalidLayerPartException", text))
    }

    fn offset(&self, id: &str) -> Result<u64, EcrError> {
        let is_old = |session: &Session| self.registry.now() - session.opened > SHORT_LIFE;
        if self.ecr.sessions.0.lock().sessions.get(id).is_some_and(is_old)
            && self.ecr.faults.otherwise(Behaviour::SessionsExpire)
        {
            return Err(self.no_upload(id));
        }
        let offset = self.registry.store.upload_offset(self.name(), id);
        offset.ok_or_else(|| self.no_upload(id))
    }

    fn no_upload(&self, id: &str) -> EcrError {
        let (name, account) = (self.name(), &self.registry.account);
        EcrError::new(
            "UploadNotFoundException",
            format!(
                "The upload with id '{id}' does not exist in the repository with name '{name}' in the registry with id '{account}'"
            ),
        )
    }

    fn created(&self, digest: &Digest) -> Response {
        no_body(
            StatusCode::CREATED,
            [
                ("location", self.url(&format!("blobs/{digest}"))),
                ("docker-content-digest", digest.to_string()),
            ],
        )
    }
}

fn has_body(headers: &HeaderMap) -> bool {
    match header_text(headers, header::CONTENT_LENGTH) {
        Some(length) => length != "0",
        None => headers.contains_key(header::TRANSFER_ENCODING),
    }
}

pub(super) async fn drain(body: Body) {
    let mut body = body.into_data_stream();
    while let Some(Ok(_)) = body.next().await {}
}
