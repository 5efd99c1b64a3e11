//! The seam between the engine and registries: four traits and their values. No HTTP.
//!
//! A source implements [`Source`] and [`PullLimits`]; a destination implements [`Destination`] and
//! [`Provision`]. The traits speak of content only. Credentials, retries, rate limits and the
//! differences between public registries stay behind them.

pub(crate) mod body;
pub(crate) mod circuit_breaker;
#[cfg(test)]
pub(crate) mod conformance_tests;
pub(crate) mod context;
pub(crate) mod current;
pub(crate) mod index_walk;
pub mod retry;
pub(crate) mod retry_budget;
pub(crate) mod stall;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    future::ready,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures::{TryFutureExt, stream::BoxStream};
use url::Url;

use crate::model::{
    Descriptor, Digest, Error, Kind, Listed, ListedImage, Platform, RawManifest, Repository,
    Result, SettingChange, Tag, TagOrDigest,
};
pub use body::Body;
pub use circuit_breaker::OutagePolicy;
pub use context::{HostContext, MaxWait, RetryPolicy, SideContexts, TrafficStats};
pub use stall::StallTimeouts;

/// Blob bytes as a registry sends them: not counted and not verified yet.
pub type ByteStream = BoxStream<'static, Result<Bytes>>;

/// A tag listing, page by page: memory does not grow with its length.
pub type Pages<'a> = BoxStream<'a, Result<Vec<Listed>>>;

/// Called with each tag that exists, while a query continues.
pub type FoundTag<'a> = &'a (dyn Fn(&Tag) + Send + Sync);

/// The pending reply of a registry, on any thread.
pub trait Reply<T>: Future<Output = Result<T>> + Send {}

impl<T, F: Future<Output = Result<T>> + Send> Reply<T> for F {}

/// Reads content. Each method retries what can succeed; callers do not retry.
pub trait Source: PullLimits {
    /// Digests of many tags, from a listing that costs less than one request per tag.
    ///
    /// A hint for skipping only: omits tags that it cannot resolve, and never fails.
    fn digests(
        &self,
        repository: &Repository,
        tags: &[Tag],
    ) -> impl Future<Output = HashMap<Tag, Digest>> + Send;

    /// The entries of the index with this digest, from a listing of the tag: no pull is spent.
    ///
    /// Returns `None` if no listing tells, or if the tag points to another digest now. Never fails.
    fn listed_images(
        &self,
        _repository: &Repository,
        _tag: &Tag,
        _index: &Digest,
    ) -> impl Future<Output = Option<Arc<[ListedImage]>>> + Send {
        ready(None)
    }

    /// The digest that the tag points to now. Spends no pull if the registry allows that.
    fn resolve(&self, repository: &Repository, tag: &Tag) -> impl Reply<Digest>;

    /// The manifest. A request by digest verifies the digest.
    fn manifest(&self, repository: &Repository, at: &TagOrDigest) -> impl Reply<RawManifest>;

    /// The manifest's referrers: from the referrers API, or from the fallback tag without one.
    ///
    /// Source: distribution specification 1.1, "Listing Referrers".
    fn referrers(&self, repository: &Repository, subject: &Digest) -> impl Reply<Vec<Descriptor>>;

    /// Opens the blob at byte offset `from`. Makes one attempt.
    ///
    /// The stream ends early if the connection breaks; `body::verified` resumes it.
    fn blob(&self, repository: &Repository, blob: &Descriptor, from: u64)
    -> impl Reply<ByteStream>;

    /// Records that the blob arrived corrupt. Returns `true` if it came from a mirror, which is
    /// not asked for it again: then a fresh read can succeed.
    fn report_corrupt(&self, _blob: &Digest) -> bool {
        false
    }
}

/// The pull limit of a source. The defaults are those of a source without one.
pub trait PullLimits: Send + Sync + 'static {
    /// Returns `true` if the registry limits pulls of any account. Sends no request.
    fn is_metered(&self) -> bool {
        false
    }

    /// The pull limit in the registry's last answer; `None` if pulls are free.
    fn allowance(&self) -> Option<Allowance> {
        None
    }

    /// Returns `true` if reading the manifest of a tag costs no more than asking for its digest.
    /// Sends no request.
    fn reads_are_free(&self) -> bool {
        !self.is_metered() && self.allowance().is_none()
    }

    /// Returns `true` if the first request takes several round trips longer than the next one, for
    /// a connection and a login. Sends no request.
    fn starts_slowly(&self) -> bool {
        false
    }

    /// Manifests that this run has read from the registry itself: each is a pull if it is metered.
    fn pulls_spent(&self) -> u64 {
        0
    }

    /// Succeeds if the manifest exists. Spends no pull; learns the [`allowance`](Self::allowance).
    fn probe_manifest(&self, _repository: &Repository, _digest: &Digest) -> impl Reply<()> {
        ready(Ok(()))
    }
}

/// A pull limit, from the `ratelimit-*` headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Pulls per window.
    pub limit: u64,
    /// Pulls left in the current window.
    pub remaining: u64,
    /// The window's length.
    pub window: Duration,
}

/// Accepts content. Refuses a manifest while content that it names is missing.
pub trait Destination: Provision {
    /// The digests that the repository's tags point to now. Asks in bulk and spends no pull.
    ///
    /// Omits missing tags; returns `None` if the repository is missing.
    fn current_tags(
        &self,
        repository: &Repository,
        tags: &[Tag],
    ) -> impl Reply<Option<HashMap<Tag, Digest>>>;

    /// Does the same as [`current_tags`](Self::current_tags). Calls `found` for an existing tag as
    /// soon as it is known, if a registry answers for each tag.
    fn announce_current_tags(
        &self,
        repository: &Repository,
        tags: &[Tag],
        _found: FoundTag<'_>,
    ) -> impl Reply<Option<HashMap<Tag, Digest>>> {
        self.current_tags(repository, tags)
    }

    /// These manifests, in bulk; omits missing ones.
    fn manifests(
        &self,
        repository: &Repository,
        digests: &[Digest],
    ) -> impl Reply<HashMap<Digest, RawManifest>>;

    /// The manifests among `digests` that the repository lacks.
    fn missing_manifests(
        &self,
        repository: &Repository,
        digests: &[Digest],
    ) -> impl Reply<HashSet<Digest>>;

    /// The referrers, by subject, that the repository lacks or does not list.
    ///
    /// A destination without the referrers API keeps the list in a tag. An interrupted run can
    /// leave a referrer that the tag does not list.
    fn missing_referrers(
        &self,
        repository: &Repository,
        referrers: &HashMap<Digest, Vec<Digest>>,
    ) -> impl Reply<HashSet<Digest>> {
        let all: Vec<Digest> = referrers.values().flatten().cloned().collect();
        async move { self.missing_manifests(repository, &all).await }
    }

    /// The blobs among `blobs` that the repository lacks, or has with another size.
    fn missing_blobs(
        &self,
        repository: &Repository,
        blobs: &[Descriptor],
    ) -> impl Reply<HashSet<Digest>>;

    /// The platform in the config of an image that the repository has; `None` if it names none.
    ///
    /// # Errors
    /// [`Kind::Unsupported`](crate::model::Kind) from a destination that serves no content.
    fn platform(
        &self,
        _repository: &Repository,
        config: &Descriptor,
    ) -> impl Reply<Option<Platform>> {
        let problem = format!("cannot read config {}", config.digest);
        ready(Err(Error::new(Kind::Unsupported, problem)))
    }

    /// The time at which an image was pushed, if the registry tells it. Never fails.
    fn pushed_at(
        &self,
        _repository: &Repository,
        _image: &Digest,
    ) -> impl Future<Output = Option<SystemTime>> + Send {
        ready(None)
    }

    /// Mounts the blob from another repository, or returns an upload session.
    fn mount(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        from: &Repository,
    ) -> impl Reply<Mount>;

    /// Opens an upload session. Retries, because no byte of the blob is sent yet.
    ///
    /// # Errors
    /// [`Kind::Unsupported`](crate::model::Kind) if the registry cannot store this blob.
    fn open_upload(&self, repository: &Repository, blob: &Descriptor) -> impl Reply<UploadSession>;

    /// Opens an upload session for a blob that is probably missing, in one request, or finds that
    /// the repository has the blob. May open a session for an existing blob.
    fn open_unless_stored(&self, repository: &Repository, blob: &Descriptor) -> impl Reply<Mount> {
        self.open_upload(repository, blob).map_ok(Mount::Session)
    }

    /// Uploads the whole blob. Makes one attempt, because the body cannot be sent twice.
    ///
    /// # Errors
    /// The source's error if the body broke, else the destination's.
    fn push_blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        session: UploadSession,
        body: Body,
    ) -> impl Reply<()>;

    /// Pushes the manifest under the tag, or by its digest only.
    ///
    /// Succeeds if the tag points to this manifest already.
    ///
    /// # Errors
    /// [`Kind::ContentMissing`](crate::model::Kind) and [`Kind::TagImmutable`](crate::model::Kind)
    /// differ from other refusals.
    fn push_manifest(
        &self,
        repository: &Repository,
        manifest: &RawManifest,
        tag: Option<&Tag>,
    ) -> impl Reply<()>;
}

/// The repositories and settings of a destination. The defaults are those of a plain registry: a
/// push creates the repository, and there is nothing to set.
pub trait Provision: Send + Sync + 'static {
    /// Creates the repository if it is missing and the configuration allows that.
    fn ensure(&self, _repository: &Repository) -> impl Reply<()> {
        ready(Ok(()))
    }

    /// Fails, with the reason, for a repository that must not be pushed to. Called before the
    /// first push.
    fn check_writable(&self, _repository: &Repository) -> impl Reply<()> {
        ready(Ok(()))
    }

    /// Reconciles the settings of the registry and of this repository with the configuration, or
    /// returns the changes only ([`Apply::DryRun`]). Called once per repository, before any push.
    ///
    /// Returns the registry's own changes with the first repository only.
    fn reconcile(
        &self,
        _repository: &Repository,
        _presence: Presence,
        _apply: Apply,
    ) -> impl Reply<Reconciled> {
        ready(Ok(Reconciled::default()))
    }

    /// The archived images among these tags, which [`Destination::current_tags`] omits: they exist,
    /// and cannot be pulled. Asks in bulk.
    fn archived_tags(
        &self,
        _repository: &Repository,
        _tags: &[Tag],
    ) -> impl Reply<HashMap<Tag, ArchivedImage>> {
        ready(Ok(HashMap::new()))
    }

    /// The archived ones among these manifests, which [`Destination::missing_manifests`] reports as
    /// missing.
    fn archived_manifests(
        &self,
        _repository: &Repository,
        _digests: &[Digest],
    ) -> impl Reply<HashSet<Digest>> {
        ready(Ok(HashSet::new()))
    }

    /// Requests that an archived image becomes available again. Returns what to wait for.
    fn restore(&self, _repository: &Repository, _archived: &ArchivedImage) -> impl Reply<String> {
        ready(Ok(String::new()))
    }

    /// Whether this existing tag can be moved.
    fn mutability(&self, _repository: &Repository, _tag: &Tag) -> impl Reply<Mutability> {
        ready(Ok(Mutability::Mutable))
    }

    /// Logs in for pushes, if the queries need another login. Called while other requests run: the
    /// push reports an error.
    fn log_in(&self) -> impl Future<Output = ()> + Send {
        ready(())
    }

    /// Returns `true` if one request asks about many blobs.
    fn asks_in_bulk(&self) -> bool {
        true
    }

    /// When a blob of one repository can be mounted into another.
    fn mounting(&self) -> impl Future<Output = Mounting> + Send {
        ready(Mounting::OnceUploaded)
    }
}

/// Whether a repository exists and holds mirrored tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It does not exist.
    Missing,
    /// It exists without any of the mirrored tags.
    Empty,
    /// It exists with at least one of them.
    NonEmpty,
}

/// An image that exists and cannot be pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedImage {
    /// The digest that its tag points to.
    pub digest: Digest,
    /// Its restoration has begun.
    pub is_restoring: bool,
    /// The way to restore it.
    pub hint: String,
}

/// Whether to write settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Apply {
    /// Compare only.
    DryRun,
    /// Write what differs.
    Change,
}

/// The result of reconciling settings.
#[derive(Debug, Default)]
pub struct Reconciled {
    /// Changes made, or with [`Apply::DryRun`] needed.
    pub changes: Vec<SettingChange>,
    /// Differences that cannot be changed.
    pub warnings: Vec<String>,
}

/// Whether a tag can be moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutability {
    /// A push can move it.
    Mutable,
    /// The registry refuses every push to it, even of the same manifest.
    Immutable,
}

/// When a blob of one repository can be mounted into another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mounting {
    /// Never: do not ask.
    Never,
    /// As soon as it is uploaded.
    OnceUploaded,
    /// Once a manifest that names it is committed in the other repository (ECR).
    OnceCommitted,
}

/// The answer to a mount request.
#[derive(Debug)]
pub enum Mount {
    /// The repository has the blob now.
    Mounted,
    /// It does not; upload the blob in this session.
    Session(UploadSession),
}

/// An open upload session.
#[derive(Clone)]
pub struct UploadSession {
    /// The URL of the next request. It carries state and is never printed.
    pub location: Url,
    /// The smallest chunk that the registry accepts, in bytes; 0 if it names none.
    pub min_chunk: u64,
}

impl fmt::Debug for UploadSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UploadSession")
    }
}
