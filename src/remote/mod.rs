//! The seam between the engine and registries: the traits [`Source`] and [`Destination`], and their
//! values. No HTTP.

pub(crate) mod body;
pub(crate) mod circuit_breaker;
pub(crate) mod context;
pub mod retry;
pub(crate) mod retry_budget;
pub(crate) mod stall;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    future::{Future, ready},
    time::Duration,
};

use bytes::Bytes;
use futures::stream::BoxStream;
use url::Url;

use crate::model::{
    Descriptor, Digest, Listed, RawManifest, Repository, Result, SettingChange, Tag, TagOrDigest,
};
pub use body::Body;
pub use circuit_breaker::OutagePolicy;
pub use context::{HostContext, SideContexts};
pub use retry_budget::{RetryPolicy, StallTimeouts};

/// Blob bytes as they come from a registry, neither counted nor verified yet.
pub type ByteStream = BoxStream<'static, Result<Bytes>>;

/// A listing that comes page by page, so that memory does not follow its length.
pub type Pages<'a> = BoxStream<'a, Result<Vec<Listed>>>;

/// Reads content. Every method retries what is worth retrying, and only it does.
pub trait Source: Send + Sync + 'static {
    /// Digests of many tags at once, where the registry can tell them cheaper than one by one.
    ///
    /// A hint for skipping only. Tags it cannot tell are left out; it never fails.
    fn digests(
        &self,
        repository: &Repository,
        tags: &[Tag],
    ) -> impl Future<Output = HashMap<Tag, Digest>> + Send;

    /// What the tag points to now, without counting as a pull where the registry has such a way.
    fn resolve(
        &self,
        repository: &Repository,
        tag: &Tag,
    ) -> impl Future<Output = Result<Digest>> + Send;

    /// The manifest, with its digest checked when it is asked for by digest.
    fn manifest(
        &self,
        repository: &Repository,
        at: &TagOrDigest,
    ) -> impl Future<Output = Result<RawManifest>> + Send;

    /// What refers to this manifest: by the referrers API, or by the fallback tag where there is none.
    ///
    /// Source: distribution specification 1.1, "Listing Referrers".
    fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> impl Future<Output = Result<Vec<Descriptor>>> + Send;

    /// Opens the blob from this offset on. The stream ends early when the connection breaks;
    /// [`body::verified`] resumes it. One attempt only.
    fn blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        from: u64,
    ) -> impl Future<Output = Result<ByteStream>> + Send;

    /// Takes note that the blob came damaged: whether to read it anew, because it came from
    /// somebody in the registry's place who is not asked for it again.
    fn report_corrupt(&self, _blob: &Digest) -> bool {
        false
    }

    /// Succeeds when the manifest is there; it is not read, so that it counts as no pull.
    ///
    /// A source that limits no pulls need not look.
    fn probe_manifest(
        &self,
        _repository: &Repository,
        _digest: &Digest,
    ) -> impl Future<Output = Result<()>> + Send {
        ready(Ok(()))
    }

    /// The registry's pull limit as it last told it; `None` where pulls are free.
    fn allowance(&self) -> Option<Allowance>;

    /// Manifests read from the registry itself so far: each is a pull where it counts them.
    fn pulls(&self) -> u64;

    /// Whether it is a registry that limits pulls, whatever this account may; known without asking.
    fn is_metered(&self) -> bool;
}

/// A pull limit, as the `ratelimit-*` headers tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Pulls a window allows.
    pub limit: u64,
    /// Pulls left in the current window.
    pub remaining: u64,
    /// The window's length.
    pub window: Duration,
}

/// Accepts content. Refuses a manifest while anything it names is absent.
pub trait Destination: Send + Sync + 'static {
    /// What the repository's tags point at now, asked in bulk and without counting as a pull.
    ///
    /// Tags that do not exist are left out; `None` when there is no such repository.
    fn current_tags(
        &self,
        repository: &Repository,
        tags: &[Tag],
    ) -> impl Future<Output = Result<Option<HashMap<Tag, Digest>>>> + Send;

    /// Makes the repository where that is needed and allowed; succeeds when it is there.
    fn ensure(&self, repository: &Repository) -> impl Future<Output = Result<()>> + Send;

    /// Refuses a repository that must not be pushed to, with the reason; asked before the first push.
    fn check_writable(&self, _repository: &Repository) -> impl Future<Output = Result<()>> + Send {
        ready(Ok(()))
    }

    /// Brings the registry's settings and those of this repository to what is written about
    /// them, or with [`Touch::Look`] tells what that would change; asked once a repository, before
    /// anything is pushed.
    ///
    /// What was said of the registry once is not said again.
    fn reconcile(
        &self,
        _repository: &Repository,
        _presence: Presence,
        _touch: Apply,
    ) -> impl Future<Output = Result<Reconciled>> + Send {
        ready(Ok(Reconciled::default()))
    }

    /// Manifests that must really be read, in bulk; those that are not there are left out.
    fn manifests(
        &self,
        repository: &Repository,
        digests: &[Digest],
    ) -> impl Future<Output = Result<HashMap<Digest, RawManifest>>> + Send;

    /// Those of these manifests that are not in the repository.
    fn missing_manifests(
        &self,
        repository: &Repository,
        digests: &[Digest],
    ) -> impl Future<Output = Result<HashSet<Digest>>> + Send;

    /// Those of these referrers, told by their subjects, that are not in the repository, or are not
    /// listed there as such: where the destination does not do that by itself, a run may have
    /// broken off between.
    fn missing_referrers(
        &self,
        repository: &Repository,
        referrers: &HashMap<Digest, Vec<Digest>>,
    ) -> impl Future<Output = Result<HashSet<Digest>>> + Send {
        let all: Vec<Digest> = referrers.values().flatten().cloned().collect();
        async move { self.missing_manifests(repository, &all).await }
    }

    /// Those of these blobs that are not in the repository.
    fn missing_blobs(
        &self,
        repository: &Repository,
        digests: &[Digest],
    ) -> impl Future<Output = Result<HashSet<Digest>>> + Send;

    /// Whether this tag, which exists, may be moved.
    fn mutability(
        &self,
        repository: &Repository,
        tag: &Tag,
    ) -> impl Future<Output = Result<Mutability>> + Send;

    /// When a blob of one repository can be mounted into another.
    fn mounting(&self) -> impl Future<Output = Mounting> + Send;

    /// Asks for the blob of another repository; where it is not given, hands over the session.
    fn mount(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        from: &Repository,
    ) -> impl Future<Output = Result<Mount>> + Send;

    /// Opens an upload session for the blob; retried as it sends nothing yet.
    ///
    /// # Errors
    /// [`Kind::Unsupported`](crate::model::Kind) for what the registry cannot hold.
    fn open_upload(
        &self,
        repository: &Repository,
        blob: &Descriptor,
    ) -> impl Future<Output = Result<UploadSession>> + Send;

    /// Uploads the blob whole. One attempt, as the body cannot be sent again.
    ///
    /// # Errors
    /// The source's own error when the body broke, else this side's.
    fn push_blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        session: UploadSession,
        body: Body,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Commits the manifest, under the tag or by its digest alone.
    ///
    /// # Errors
    /// [`Kind::ContentMissing`](crate::model::Kind) and [`Kind::TagImmutable`](crate::model::Kind)
    /// are told apart from other refusals. A tag that already points to this manifest is success.
    fn push_manifest(
        &self,
        repository: &Repository,
        manifest: &RawManifest,
        tag: Option<&Tag>,
    ) -> impl Future<Output = Result<()>> + Send;
}

/// Whether a repository is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It is not.
    Missing,
    /// It is, with none of the tags that are mirrored to it.
    Empty,
    /// It is, with one of them at least.
    NonEmpty,
}

/// Whether settings are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Apply {
    /// They are looked at.
    DryRun,
    /// They are changed.
    Change,
}

/// What came of settling.
#[derive(Debug, Default)]
pub struct Reconciled {
    /// What was changed, or would be.
    pub changes: Vec<SettingChange>,
    /// What is not as it is written and cannot be changed.
    pub warnings: Vec<String>,
}

/// Whether a tag may be moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutability {
    /// It may.
    Mutable,
    /// The registry refuses even the identical push.
    Immutable,
}

/// When a blob of one repository can be mounted into another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mounting {
    /// Never: asking is in vain.
    Never,
    /// As soon as it is uploaded.
    OnceUploaded,
    /// Once a manifest that names it is committed in the other repository (ECR).
    OnceCommitted,
}

/// The answer to a mount.
#[derive(Debug)]
pub enum Mount {
    /// The blob is in the repository now.
    Mounted,
    /// It is not; upload it here.
    Session(UploadSession),
}

/// An open upload session.
#[derive(Clone)]
pub struct UploadSession {
    /// Where the blob is to be put; carries state, is never printed.
    pub location: Url,
}

impl fmt::Debug for UploadSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Session")
    }
}
