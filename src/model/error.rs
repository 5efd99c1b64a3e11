//! Errors: a kind to decide on, prose to read, a hint to act on.
//!
//! An [`Error`] is cheap to clone, because everyone who waited for one failed
//! piece of work is told the same. Its `Display` is one link of the chain;
//! [`Error::chain`] is all of them, so that no cause is printed twice.

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

/// A result whose error is this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as far as anything is decided on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// There is no such manifest, tag or blob.
    NotFound,
    /// There is no such repository.
    RepositoryMissing,
    /// The registry wants credentials, or other ones (401).
    Unauthorized,
    /// The identity is known and may not do this (403).
    Denied,
    /// Too many requests for now (429, `ThrottlingException`).
    Throttled,
    /// The pull limit is spent; waiting takes hours, not seconds.
    PullLimit,
    /// The other side is not there, or not well: connection errors, 408, 5xx.
    Unavailable,
    /// Nothing moved for too long.
    Stalled,
    /// Content is not what its digest or size says.
    Corrupt,
    /// The content is of a kind that cannot be mirrored.
    Unsupported,
    /// The content is larger than it may be.
    TooLarge,
    /// The other side does not speak the protocol.
    Protocol,
    /// A manifest was refused because blobs or child manifests it names are absent.
    ContentMissing,
    /// A manifest was refused because the tag exists and is immutable.
    TagImmutable,
    /// A wanted platform is not in the image.
    PlatformMissing,
    /// A service quota that waiting does not lift.
    Quota,
    /// The configuration or the environment does not allow this.
    Configuration,
    /// The run is ending; nothing is wrong with this piece of work.
    Cancelled,
}

impl Kind {
    /// Whether trying the same again soon may go well.
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Throttled | Self::Unavailable | Self::Stalled)
    }
}

type Cause = Arc<dyn StdError + Send + Sync>;

/// A failure: what, why, and what to do about it.
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
        }))
    }

    fn with(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// Adds what caused it.
    pub fn because(self, cause: impl StdError + Send + Sync + 'static) -> Self {
        self.with(|inner| inner.cause = Some(Arc::new(cause)))
    }

    /// Adds what to do about it.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        self.with(|inner| inner.hint = Some(hint.into()))
    }

    /// Adds how long the other side asked to wait.
    pub fn after(self, wait: Option<Duration>) -> Self {
        self.with(|inner| inner.retry_after = wait)
    }

    /// Marks that retrying is over, so that no outer level begins again.
    pub fn exhausted(self) -> Self {
        self.with(|inner| inner.exhausted = true)
    }

    /// The same failure as seen from one level further out, of the same kind.
    pub fn context(self, message: impl Into<String>) -> Self {
        let (kind, retry_after, exhausted) = (self.kind(), self.0.retry_after, self.0.exhausted);
        Self::new(kind, message).because(self).after(retry_after).with(|i| i.exhausted = exhausted)
    }

    /// The same failure with every text of its chain as `word` puts it.
    pub fn reworded(self, word: &dyn Fn(&str) -> String) -> Self {
        let kind = self.kind();
        self.with(|inner| {
            inner.message = word(&inner.message);
            inner.hint = inner.hint.as_deref().map(word);
            inner.cause = inner.cause.as_deref().map(|cause| reworded_cause(cause, kind, word));
        })
    }

    /// What went wrong.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Whether trying again may go well and nobody has tried enough already.
    pub fn is_transient(&self) -> bool {
        self.0.kind.is_transient() && !self.0.exhausted
    }

    /// How long the other side asked to wait before the next attempt.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// What to do about it: the outermost hint of the chain.
    pub fn remedy(&self) -> Option<&str> {
        if let Some(hint) = &self.0.hint {
            return Some(hint);
        }
        self.0.cause.as_ref()?.downcast_ref::<Error>()?.remedy()
    }

    /// All messages, outermost first, each once.
    pub fn chain(&self) -> Vec<String> {
        let mut links = vec![self.0.message.clone()];
        let mut next = StdError::source(self);
        while let Some(cause) = next {
            let text = cause.to_string();
            // libraries repeat their cause in their own message: once is enough
            if !links.iter().any(|link| link.contains(&text)) {
                links.push(text);
            }
            next = cause.source();
        }
        links
    }
}

/// What others' errors say is all that is kept of them.
fn reworded_cause(
    cause: &(dyn StdError + 'static),
    kind: Kind,
    word: &dyn Fn(&str) -> String,
) -> Cause {
    if let Some(ours) = cause.downcast_ref::<Error>() {
        return Arc::new(ours.clone().reworded(word));
    }
    let told = Error::new(kind, word(&cause.to_string()));
    Arc::new(told.with(|inner| {
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
    fn a_chain_says_each_cause_once_and_keeps_kind_and_hint() {
        let inner = Error::new(Kind::Denied, "PUT /v2/x: 403 DENIED").hint("ask for the right");
        let outer = inner.context("cannot push x").context("cannot mirror y");
        assert_eq!(outer.chain(), ["cannot mirror y", "cannot push x", "PUT /v2/x: 403 DENIED"]);
        assert_eq!(outer.kind(), Kind::Denied);
        assert_eq!(outer.remedy(), Some("ask for the right"));
    }

    #[test]
    fn an_error_is_reworded_to_its_last_cause_and_stays_what_it_is() {
        let io = std::io::Error::other("a secret of others");
        let inner = Error::new(Kind::Throttled, "a secret of ours").because(io);
        let outer = inner.hint("change the secret").context("no secret").exhausted();
        let told = outer.reworded(&|text| text.replace("secret", "…"));
        assert_eq!(told.chain(), ["no …", "a … of ours", "a … of others"]);
        assert_eq!((told.kind(), told.remedy()), (Kind::Throttled, Some("change the …")));
        assert!(!told.is_transient());
    }

    #[test]
    fn an_exhausted_error_is_not_retried_by_an_outer_level() {
        let error = Error::new(Kind::Unavailable, "503").exhausted().context("cannot list");
        assert!(Kind::Unavailable.is_transient() && !error.is_transient());
    }
}
