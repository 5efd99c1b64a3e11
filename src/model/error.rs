//! Errors: a kind for decisions, a message for people, a hint with the fix.
//!
//! An [`Error`] is cheap to clone: all tasks that wait for one operation receive its error.
//! `Display` writes one message of the chain; [`Error::chain`] returns all messages, each once.

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The category of an error. Retries and outcomes depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The manifest, tag or blob does not exist.
    NotFound,
    RepositoryMissing,
    /// The registry requires credentials, or rejects those sent (401).
    Unauthorized,
    /// The registry or API denies the request to this identity (403).
    Denied,
    /// Too many requests (429, `ThrottlingException`). A retry after seconds can succeed.
    Throttled,
    /// The pull limit is exhausted. A retry can succeed after hours.
    PullLimit,
    /// The server is unreachable or fails: connection errors, 408, 5xx.
    Unavailable,
    /// No data moved for the stall timeout.
    Stalled,
    /// The content does not match its digest or size, or does not parse.
    Corrupt,
    /// Content of this kind cannot be mirrored.
    Unsupported,
    /// The content exceeds a size limit.
    TooLarge,
    /// The server's answer violates the protocol.
    Protocol,
    /// The destination refuses a manifest because blobs or child manifests are missing.
    ContentMissing,
    /// The destination refuses a manifest because the tag exists and is immutable.
    TagImmutable,
    /// The image lacks a platform of the filter.
    PlatformMissing,
    /// A service quota is exceeded. Waiting does not help.
    Quota,
    /// The configuration or the environment does not allow the operation.
    Configuration,
    /// The run ended before the operation did. The operation itself did not fail.
    Cancelled,
}

impl Kind {
    /// Returns `true` if a retry within seconds can succeed.
    pub(crate) fn is_transient(self) -> bool {
        matches!(self, Self::Throttled | Self::Unavailable | Self::Stalled)
    }
}

type Cause = Arc<dyn StdError + Send + Sync>;

/// An error: its kind, message, cause and hint.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: Kind,
    message: String,
    cause: Option<Cause>,
    hint: Option<String>,
    retry_after: Option<Duration>,
    exhausted: bool,
    of_identity: bool,
    of_source: bool,
}

impl Error {
    /// An error without a cause: lower case, no full stop, literals in backticks.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            kind,
            message: message.into(),
            cause: None,
            hint: None,
            retry_after: None,
            exhausted: false,
            of_identity: false,
            of_source: false,
        }))
    }

    fn with(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    pub(crate) fn because(self, cause: impl StdError + Send + Sync + 'static) -> Self {
        self.with(|inner| inner.cause = Some(Arc::new(cause)))
    }

    /// Adds the fix, as an imperative.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        self.with(|inner| inner.hint = Some(hint.into()))
    }

    /// Adds the wait that the server asked for.
    pub(crate) fn after(self, wait: Option<Duration>) -> Self {
        self.with(|inner| inner.retry_after = wait)
    }

    /// Marks the error as final: no outer level retries.
    pub(crate) fn exhausted(self) -> Self {
        self.with(|inner| inner.exhausted = true)
    }

    /// Marks the error as one of the identity: every other request of it fails in the same way.
    pub(crate) fn of_identity(self) -> Self {
        self.with(|inner| inner.of_identity = true)
    }

    /// Marks the error as one of reading a source.
    pub(crate) fn of_source(self) -> Self {
        self.with(|inner| inner.of_source = true)
    }

    /// The error of the chain that every other request of the same identity gets.
    pub(crate) fn identity_error(&self) -> Option<&Self> {
        self.find(|inner| inner.of_identity)
    }

    /// Returns `true` if a source cannot be reached now, or limits its requests or pulls: it has not
    /// said that the content is missing or denied.
    pub(crate) fn is_of_unavailable_source(&self) -> bool {
        let is_limited = matches!(self.kind(), Kind::Throttled | Kind::PullLimit);
        let is_unavailable = matches!(self.kind(), Kind::Unavailable | Kind::Stalled);
        (is_limited || is_unavailable) && self.find(|inner| inner.of_source).is_some()
    }

    /// The outermost error of the chain with this property.
    fn find(&self, is_wanted: fn(&Inner) -> bool) -> Option<&Self> {
        if is_wanted(&self.0) {
            return Some(self);
        }
        self.0.cause.as_ref()?.downcast_ref::<Self>()?.find(is_wanted)
    }

    /// Wraps the error in a message of the caller. Keeps the kind.
    pub(crate) fn context(self, message: impl Into<String>) -> Self {
        let (kind, retry_after, exhausted) = (self.kind(), self.0.retry_after, self.0.exhausted);
        Self::new(kind, message).because(self).after(retry_after).with(|i| i.exhausted = exhausted)
    }

    /// Applies `word` to every message and hint of the chain.
    pub(crate) fn reworded(self, word: &dyn Fn(&str) -> String) -> Self {
        let kind = self.kind();
        self.with(|inner| {
            inner.message = word(&inner.message);
            inner.hint = inner.hint.as_deref().map(word);
            inner.cause = inner.cause.as_deref().map(|cause| reworded_cause(cause, kind, word));
        })
    }

    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Returns `true` if a retry within seconds can succeed and the retries are not exhausted.
    pub(crate) fn is_transient(&self) -> bool {
        self.0.kind.is_transient() && !self.0.exhausted
    }

    /// The wait before the next attempt that the server asked for.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The outermost hint of the chain.
    pub fn remedy(&self) -> Option<&str> {
        self.find(|inner| inner.hint.is_some())?.0.hint.as_deref()
    }

    /// All messages, outermost first, each once.
    pub fn chain(&self) -> Vec<String> {
        let mut links = vec![self.0.message.clone()];
        let mut next = StdError::source(self);
        while let Some(cause) = next {
            let text = cause.to_string();
            // libraries repeat the message of their cause
            if !links.iter().any(|link| link.contains(&text)) {
                links.push(text);
            }
            next = cause.source();
        }
        links
    }
}

/// A reworded cause. Keeps only the messages of other crates' errors.
fn reworded_cause(
    cause: &(dyn StdError + 'static),
    kind: Kind,
    word: &dyn Fn(&str) -> String,
) -> Cause {
    if let Some(ours) = cause.downcast_ref::<Error>() {
        return Arc::new(ours.clone().reworded(word));
    }
    let reworded = Error::new(kind, word(&cause.to_string()));
    Arc::new(reworded.with(|inner| {
        inner.cause = cause.source().map(|cause| reworded_cause(cause, kind, word));
    }))
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.kind, self.chain().join(": "))
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.cause.as_deref().map(|cause| cause as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_contains_each_message_once_and_keeps_kind_and_hint() {
        let inner = Error::new(Kind::Denied, "PUT /v2/x: 403 DENIED").hint("ask for the right");
        let outer = inner.context("cannot push x").context("cannot mirror y");
        assert_eq!(outer.chain(), ["cannot mirror y", "cannot push x", "PUT /v2/x: 403 DENIED"]);
        assert_eq!(outer.kind(), Kind::Denied);
        assert_eq!(outer.remedy(), Some("ask for the right"));
    }

    #[test]
    fn rewording_reaches_the_last_cause_and_keeps_the_kind() {
        let io = std::io::Error::other("a secret of others");
        let inner = Error::new(Kind::Throttled, "a secret of ours").because(io);
        let outer = inner.hint("change the secret").context("no secret").exhausted();
        let reworded = outer.reworded(&|text| text.replace("secret", "…"));
        assert_eq!(reworded.chain(), ["no …", "a … of ours", "a … of others"]);
        assert_eq!((reworded.kind(), reworded.remedy()), (Kind::Throttled, Some("change the …")));
        assert!(!reworded.is_transient());
    }

    #[test]
    fn only_the_error_of_a_source_that_may_answer_later_is_one_of_an_unavailable_source() {
        let is_unavailable = |kind| {
            let error = Error::new(kind, "503").of_source().context("cannot resolve the tag");
            error.is_of_unavailable_source()
        };
        for kind in [Kind::Unavailable, Kind::Stalled, Kind::Throttled, Kind::PullLimit] {
            assert!(is_unavailable(kind), "{kind:?}");
        }
        for kind in [Kind::Unauthorized, Kind::Denied, Kind::NotFound, Kind::Corrupt, Kind::Quota] {
            assert!(!is_unavailable(kind), "{kind:?}");
        }
        let of_destination = Error::new(Kind::Unavailable, "503").context("cannot push");
        assert!(!of_destination.is_of_unavailable_source());
    }

    #[test]
    fn an_exhausted_error_is_not_retried_by_an_outer_level() {
        let error = Error::new(Kind::Unavailable, "503").exhausted().context("cannot list");
        assert!(Kind::Unavailable.is_transient() && !error.is_transient());
    }
}
