//! What a registry's refusal means: one table from code and status to [`Kind`].
//!
//! The code decides where there is one, the status where not: registries
//! agree on codes more than on statuses. What they write is untrusted and
//! shown without control characters, and without what they were sent in confidence.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, header::RETRY_AFTER};
use oci_client::errors::{OciEnvelope, OciErrorCode as Code};

use super::redact::RequestSecrets;
use crate::model::{Error, Host, Kind, text::is_unsafe_for_terminal};

/// How much of an error's body is read, in bytes.
pub(crate) const BODY_LIMIT: u64 = 64 * 1024;

const MESSAGE_LIMIT: usize = 400;

/// What was being done; the same code means different things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Reading anything.
    Read,
    /// Beginning a list of referrers, which is read elsewhere where there is no such list.
    Refer,
    /// Uploading or mounting a blob.
    Upload,
    /// Putting a manifest.
    Commit,
}

/// A registry's "no".
#[derive(Debug)]
pub(crate) struct RefusalDetails {
    status: StatusCode,
    code: Option<Code>,
    /// The code as it is shown.
    name: Option<String>,
    message: String,
    retry_after: Option<Duration>,
    none_remaining: bool,
}

impl RefusalDetails {
    /// Reads what an answer other than 2xx says to what was sent.
    pub(crate) fn new(
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        sent: &RequestSecrets,
    ) -> Self {
        let (code, message) = read(body, sent);
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        Self {
            status,
            name: code.as_ref().and_then(|code| name_of(code, sent)),
            code,
            message,
            retry_after: text(RETRY_AFTER.as_str())
                .and_then(|value| retry_after(value, SystemTime::now())),
            none_remaining: text("ratelimit-remaining")
                // without a window it is the general header, of a limit that soon passes
                .is_some_and(|n| n.contains("w=") && leading_number(n) == Some(0)),
        }
    }

    /// Whether other credentials, or newer ones, may help.
    pub(crate) fn wants_login(&self) -> bool {
        // ECR says 403 when its 12 hours are over
        let expired = self.message.contains("authorization token has expired");
        self.status == StatusCode::UNAUTHORIZED || (self.status == StatusCode::FORBIDDEN && expired)
    }

    pub(crate) fn is_throttle(&self) -> bool {
        self.status == StatusCode::TOO_MANY_REQUESTS || self.code == Some(Code::Toomanyrequests)
    }

    /// The error: `GET host/v2/x: 404 MANIFEST_UNKNOWN: message`.
    pub(crate) fn error(self, subject: &str, doing: Operation) -> Error {
        let kind = self.kind(doing);
        let mut text = format!("{subject}: {}", self.status.as_u16());
        if let Some(code) = &self.name {
            text = format!("{text} {code}");
        } else if let Some(reason) = self.status.canonical_reason() {
            text = format!("{text} {reason}");
        }
        if !self.message.is_empty() {
            text = format!("{text}: {}", self.message);
        }
        Error::new(kind, text).after(self.retry_after)
    }

    fn kind(&self, doing: Operation) -> Kind {
        if doing == Operation::Refer {
            // who does not know the API says so with 400 and 406, too
            return match self.kind(Operation::Read) {
                Kind::Protocol => Kind::Unsupported,
                kind => kind,
            };
        }
        if self.is_throttle() {
            let spent = self.none_remaining || self.message.contains("pull rate limit");
            return if spent { Kind::PullLimit } else { Kind::Throttled };
        }
        if doing == Operation::Commit
            && self.status.is_client_error()
            && self.message.contains("immutable")
        {
            // ECR's TAG_INVALID; other registries have other codes and the same word
            return Kind::TagImmutable;
        }
        self.kind_of_code(doing).unwrap_or_else(|| kind_of_status(self.status, doing))
    }

    fn kind_of_code(&self, doing: Operation) -> Option<Kind> {
        Some(match (self.code.as_ref()?, doing) {
            (Code::NameUnknown, _) => Kind::RepositoryMissing,
            (
                Code::ManifestBlobUnknown
                | Code::BlobUploadUnknown
                | Code::BlobUnknown
                | Code::ManifestUnknown,
                Operation::Commit,
            ) => Kind::ContentMissing,
            (
                Code::BlobUploadUnknown
                | Code::BlobUploadInvalid
                | Code::DigestInvalid
                | Code::SizeInvalid,
                Operation::Upload,
            ) => Kind::Unavailable, // the session is lost, a new one helps
            (
                Code::ManifestUnknown
                | Code::ManifestBlobUnknown
                | Code::BlobUnknown
                | Code::BlobUploadUnknown
                | Code::NotFound,
                _,
            ) => Kind::NotFound,
            (Code::Unauthorized | Code::Denied, _) if self.status == StatusCode::UNAUTHORIZED => {
                Kind::Unauthorized
            }
            (Code::Unauthorized | Code::Denied, _) => Kind::Denied,
            (Code::ManifestInvalid | Code::ManifestUnverified | Code::Unsupported, _) => {
                Kind::Unsupported
            }
            (Code::NameInvalid | Code::TagInvalid, _) => Kind::Protocol,
            _ => return None,
        })
    }
}

fn kind_of_status(status: StatusCode, doing: Operation) -> Kind {
    match (status.as_u16(), doing) {
        (401, _) => Kind::Unauthorized,
        (402 | 403 | 451, _) => Kind::Denied,
        (404 | 410, Operation::Read) => Kind::NotFound,
        (404 | 410, _) => Kind::RepositoryMissing,
        (405 | 501, _) => Kind::Unsupported,
        (413, _) => Kind::TooLarge,
        (416, Operation::Read) => Kind::Corrupt, // the content ends before its size says
        (408 | 425, _) | (416, _) => Kind::Unavailable,
        (507, _) => Kind::Quota,
        (500.., _) => Kind::Unavailable,
        _ => Kind::Protocol,
    }
}

/// Who asks, as far as a hint depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Without credentials.
    Anonymous,
    /// With the user's.
    Known,
    /// With credentials that something else hands out and explains.
    Managed,
}

/// What a newcomer needs to be told.
pub(crate) fn hint(kind: Kind, host: &Host, standing: Caller) -> Option<String> {
    let login = match host.is_docker_hub() {
        true => "docker login".to_owned(),
        false => format!("docker login {host}"),
    };
    let log_in =
        format!("run `{login}`, or set `username` and `password` under [registry.\"{host}\"]");
    Some(match (kind, standing) {
        (Kind::Unauthorized | Kind::Denied, Caller::Anonymous) => {
            format!("the repository is private or does not exist; if it is private, {log_in}")
        }
        (Kind::Unauthorized | Kind::Denied, Caller::Known) => format!(
            "`{host}` refuses the credentials it was given for this repository; check their rights, or {log_in}"
        ),
        (Kind::NotFound | Kind::RepositoryMissing, Caller::Anonymous) => format!(
            "check the repository's name and the tag; if the repository is private, {log_in}"
        ),
        (Kind::NotFound | Kind::RepositoryMissing, Caller::Known) => {
            "check the repository's name and the tag".to_owned()
        }
        (Kind::PullLimit, Caller::Anonymous) => {
            format!("{log_in} to have a larger limit, or run again when the limit's window is over")
        }
        (Kind::PullLimit, _) => "run again when the limit's window is over".to_owned(),
        (Kind::Throttled, _) => {
            format!("lower `max_connections` under [registry.\"{host}\"], or run again later")
        }
        _ => return None,
    })
}

/// A text from outside, fit for a terminal: one line, no control characters, not long.
pub(crate) fn printable(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().filter(|c| !is_unsafe_for_terminal(*c)).take(MESSAGE_LIMIT).collect()
}

/// Code and message, from an OCI envelope or from what token services say instead.
fn read(body: &[u8], sent: &RequestSecrets) -> (Option<Code>, String) {
    let printable = |text: &str| sanitize(text, sent);
    if let Ok(OciEnvelope { errors }) = serde_json::from_slice(body)
        && let Some(first) = errors.into_iter().next()
    {
        // Docker Hub says only there that it is the pull limit
        let detail = first.detail.as_str().filter(|detail| *detail != first.message);
        let said = [Some(first.message.as_str()), detail].into_iter().flatten();
        let said: Vec<_> = said.filter(|text| !text.is_empty()).collect();
        return (Some(first.code), printable(&said.join(": ")));
    }
    if let Ok(value) = serde_json::from_slice::<serde_json::Value>(body) {
        let known = ["message", "error_description", "details", "error"];
        let found = known.iter().find_map(|key| value.get(key)?.as_str());
        return (None, printable(found.unwrap_or_default()));
    }
    match std::str::from_utf8(body) {
        Ok(text) if text.len() < MESSAGE_LIMIT && !text.contains('<') => (None, printable(text)),
        _ => (None, String::new()),
    }
}

fn name_of(code: &Code, sent: &RequestSecrets) -> Option<String> {
    let name = serde_json::to_value(code).ok()?;
    name.as_str().map(|name| sanitize(name, sent)).filter(|name| !name.is_empty())
}

/// A text from outside, fit to be shown; what is in it of what was sent is hidden before it may
/// be cut, and again when nothing that is not shown parts it.
fn sanitize(text: &str, sent: &RequestSecrets) -> String {
    sent.redact(&printable(&sent.redact(text)))
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
