//! Reads a registry's refusal: one table from code and status to [`Kind`].
//!
//! The code decides; without a code the status does, because registries agree on codes more than
//! on statuses. Of several errors in one answer the most telling decides. Their texts are untrusted, and shown without control characters and secrets.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, StatusCode, header::RETRY_AFTER};
use oci_client::errors::{OciEnvelope, OciErrorCode as Code};

use super::{public_registries::PublicRegistry, redact::RequestSecrets};
use crate::model::{Error, Host, Kind, text::printable_line};

/// The largest error body that is read, in bytes.
pub(crate) const ERROR_BODY_LIMIT: u64 = 64 * 1024;

/// The longest message that is shown, in characters.
const MESSAGE_LIMIT: usize = 400;

/// The most errors of one answer that are read.
const ERROR_LIMIT: usize = 5;

/// The operation that failed: it changes the meaning of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Read,
    /// Reading the first page of the referrers API, which has a fallback.
    Refer,
    /// HEAD of a manifest, which a GET can replace.
    Probe,
    /// Uploading or mounting a blob.
    Upload,
    Commit,
}

#[derive(Debug)]
pub(crate) struct RefusalDetails {
    status: StatusCode,
    /// The errors in the answer, the most telling first.
    errors: Vec<StatedError>,
    retry_after: Option<Duration>,
    is_limit_spent: bool,
}

/// One error in an answer.
#[derive(Debug)]
struct StatedError {
    code: Option<Code>,
    /// The code as errors show it.
    name: Option<String>,
    message: String,
}

impl StatedError {
    fn without_code(message: String) -> Self {
        Self { code: None, name: None, message }
    }

    /// A smaller number tells more: a cause that stays, then one that passes, then none.
    fn rank(&self) -> u8 {
        use Code::*;
        match self.code {
            Some(Toomanyrequests) => 1,
            Some(BlobUploadUnknown | BlobUploadInvalid | DigestInvalid | SizeInvalid) => 2,
            Some(Other(_)) | None => 3,
            Some(_) => 0,
        }
    }
}

impl fmt::Display for StatedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [self.name.as_deref(), Some(self.message.as_str())];
        let parts: Vec<&str> = parts.into_iter().flatten().filter(|it| !it.is_empty()).collect();
        f.write_str(&parts.join(": "))
    }
}

impl RefusalDetails {
    pub(crate) fn new(
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        secrets: &RequestSecrets,
    ) -> Self {
        let mut errors = parse(body, secrets);
        errors.sort_by_key(StatedError::rank);
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        Self {
            status,
            errors,
            retry_after: text(RETRY_AFTER.as_str())
                .and_then(|value| retry_after(value, SystemTime::now())),
            is_limit_spent: text("ratelimit-remaining")
                // without a window the header belongs to a short-lived limit
                .is_some_and(|n| n.contains("w=") && leading_number(n) == Some(0)),
        }
    }

    fn mentions(&self, text: &str) -> bool {
        self.errors.iter().any(|error| error.message.contains(text))
    }

    fn code(&self) -> Option<&Code> {
        self.errors.first()?.code.as_ref()
    }

    /// Returns `true` if other or newer credentials may help.
    pub(crate) fn wants_login(&self) -> bool {
        // ECR sends 403 for a token older than 12 hours
        let expired = self.mentions("authorization token has expired");
        self.status == StatusCode::UNAUTHORIZED || (self.status == StatusCode::FORBIDDEN && expired)
    }

    pub(crate) fn is_throttled(&self) -> bool {
        self.status == StatusCode::TOO_MANY_REQUESTS || self.code() == Some(&Code::Toomanyrequests)
    }

    /// An error like `GET host/v2/x: 404 MANIFEST_UNKNOWN: message`.
    pub(crate) fn error(self, subject: &str, operation: Operation) -> Error {
        let kind = self.kind(operation);
        let mut text = format!("{subject}: {}", self.status.as_u16());
        let has_name = self.errors.iter().any(|error| error.name.is_some());
        if let (false, Some(reason)) = (has_name, self.status.canonical_reason()) {
            text = format!("{text} {reason}");
        }
        let mut stated: Vec<String> = self.errors.iter().map(StatedError::to_string).collect();
        stated.retain(|error| !error.is_empty());
        stated.dedup();
        if !stated.is_empty() {
            let separator = if has_name { " " } else { ": " };
            text = format!("{text}{separator}{}", stated.join("; "));
        }
        Error::new(kind, text).after(self.retry_after)
    }

    fn kind(&self, operation: Operation) -> Kind {
        if matches!(operation, Operation::Refer | Operation::Probe) {
            // registries that do not offer it also send 400 and 406
            return match self.kind(Operation::Read) {
                Kind::Protocol => Kind::Unsupported,
                kind => kind,
            };
        }
        if self.is_throttled() {
            let spent = self.is_limit_spent || self.mentions("pull rate limit");
            return if spent { Kind::PullLimit } else { Kind::Throttled };
        }
        if operation == Operation::Commit
            && self.status.is_client_error()
            && self.mentions("immutable")
        {
            // ECR sends TAG_INVALID; other registries send other codes with the same word
            return Kind::TagImmutable;
        }
        if operation == Operation::Upload && matches!(self.status.as_u16(), 405 | 413) {
            // about the form of the request, which a new session does not change
            return kind_of_status(self.status, operation);
        }
        self.kind_of_code(operation).unwrap_or_else(|| kind_of_status(self.status, operation))
    }

    fn kind_of_code(&self, operation: Operation) -> Option<Kind> {
        use Code::*;
        use Operation::{Commit, Upload};
        Some(match (self.code()?, operation) {
            (NameUnknown, _) => Kind::RepositoryMissing,
            (ManifestBlobUnknown | BlobUploadUnknown | BlobUnknown | ManifestUnknown, Commit) => {
                Kind::ContentMissing
            }
            // the session is lost; a new one helps
            (BlobUploadUnknown | BlobUploadInvalid | DigestInvalid | SizeInvalid, Upload) => {
                Kind::Unavailable
            }
            (ManifestUnknown | ManifestBlobUnknown | BlobUnknown, _) => Kind::NotFound,
            (BlobUploadUnknown | NotFound, _) => Kind::NotFound,
            (Unauthorized | Denied, _) if self.status == StatusCode::UNAUTHORIZED => {
                Kind::Unauthorized
            }
            (Unauthorized | Denied, _) => Kind::Denied,
            (ManifestInvalid | ManifestUnverified | Unsupported, _) => Kind::Unsupported,
            (NameInvalid | TagInvalid, _) => Kind::Protocol,
            _ => return None,
        })
    }
}

fn kind_of_status(status: StatusCode, operation: Operation) -> Kind {
    match (status.as_u16(), operation) {
        (401, _) => Kind::Unauthorized,
        (402 | 403 | 451, _) => Kind::Denied,
        (404 | 410, Operation::Read) => Kind::NotFound,
        (404 | 410, _) => Kind::RepositoryMissing,
        (405 | 501, _) => Kind::Unsupported,
        (413, _) => Kind::TooLarge,
        (416, Operation::Read) => Kind::Corrupt, // the content is shorter than its size
        (408 | 425, _) | (416, _) => Kind::Unavailable,
        (507, _) => Kind::Quota,
        (500.., _) => Kind::Unavailable,
        _ => Kind::Protocol,
    }
}

/// The credentials of the caller, as far as a hint depends on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    Anonymous,
    /// The user's credentials.
    Known,
    /// Credentials from elsewhere, which explains their errors.
    Managed,
}

/// The hint for an error of this kind.
pub(crate) fn hint(kind: Kind, host: &Host, caller: Caller) -> Option<String> {
    let login = match PublicRegistry::of(host).docker_config_key {
        Some(_) => "docker login".to_owned(),
        None => format!("docker login {host}"),
    };
    let log_in =
        format!("run `{login}`, or set `username` and `password` under [registry.\"{host}\"]");
    Some(match (kind, caller) {
        (Kind::Unauthorized | Kind::Denied, Caller::Anonymous) => {
            format!("the repository is private or does not exist; if it is private, {log_in}")
        }
        (Kind::Unauthorized | Kind::Denied, Caller::Known) => format!(
            "`{host}` refuses these credentials for this repository; check their permissions, or {log_in}"
        ),
        (Kind::NotFound | Kind::RepositoryMissing, Caller::Anonymous) => format!(
            "check the repository's name and the tag; if the repository is private, {log_in}"
        ),
        (Kind::NotFound | Kind::RepositoryMissing, Caller::Known) => {
            "check the repository's name and the tag".to_owned()
        }
        (Kind::PullLimit, Caller::Anonymous) => {
            format!("{log_in} for a larger limit, or run again when the limit's window is over")
        }
        (Kind::PullLimit, _) => "run again when the limit's window is over".to_owned(),
        (Kind::Throttled, _) => {
            format!("lower `max_connections` under [registry.\"{host}\"], or run again later")
        }
        _ => return None,
    })
}

/// The errors in an OCI envelope, or the one in a form of token services.
fn parse(body: &[u8], secrets: &RequestSecrets) -> Vec<StatedError> {
    let sanitize = |text: &str| sanitize(text, secrets);
    if let Ok(OciEnvelope { errors }) = serde_json::from_slice(body)
        && !errors.is_empty()
    {
        let stated = errors.into_iter().take(ERROR_LIMIT).map(|error| {
            // Docker Hub mentions the pull limit only in the detail
            let detail = error.detail.as_str().filter(|detail| *detail != error.message);
            let texts = [Some(error.message.as_str()), detail].into_iter().flatten();
            let texts: Vec<_> = texts.filter(|text| !text.is_empty()).collect();
            let (name, message) = (name_of(&error.code, secrets), sanitize(&texts.join(": ")));
            StatedError { code: Some(error.code), name, message }
        });
        return stated.collect();
    }
    if let Ok(value) = serde_json::from_slice::<serde_json::Value>(body) {
        let known = ["message", "error_description", "details", "error"];
        let found = known.iter().find_map(|key| value.get(key)?.as_str());
        return found.map(|text| StatedError::without_code(sanitize(text))).into_iter().collect();
    }
    match std::str::from_utf8(body) {
        Ok(text) if text.len() < MESSAGE_LIMIT && !text.contains('<') => {
            vec![StatedError::without_code(sanitize(text))]
        }
        _ => Vec::new(),
    }
}

fn name_of(code: &Code, secrets: &RequestSecrets) -> Option<String> {
    let name = serde_json::to_value(code).ok()?;
    name.as_str().map(|name| sanitize(name, secrets)).filter(|name| !name.is_empty())
}

/// Redacts and prints a text from outside. Redacts before the text is cut, and again after removed
/// characters can no longer split a secret.
fn sanitize(text: &str, secrets: &RequestSecrets) -> String {
    secrets.redact(&printable_line(&secrets.redact(text), MESSAGE_LIMIT))
}

/// `Retry-After`: seconds, or an HTTP date as a wait from `now`.
fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let fields: Vec<&str> = value.split_ascii_whitespace().collect();
    let [_weekday, day, month, year, time, "GMT"] = fields[..] else { return None };
    let months = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let month = months.find(month).filter(|at| at % 3 == 0 && month.len() == 3)? / 3 + 1;
    let date = humantime::parse_rfc3339(&format!("{year}-{month:02}-{day}T{time}Z")).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// The number that a header like `76;w=21600` starts with.
pub(crate) fn leading_number(text: &str) -> Option<u64> {
    text.split(';').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests;
