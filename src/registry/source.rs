//! Reading from a registry: tags resolved without a pull, manifests as served, blobs as streams.

use std::{
    collections::{HashMap, HashSet},
    future::Future,
    sync::atomic::Ordering::Relaxed,
};

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{HeaderValue, Method, header};

use super::{
    artifact_registry,
    client::{MirroredBlob, Registry},
    errors::Operation,
    http::{ApiRequest, ApiResponse},
    hub,
    paging::within,
    quay, range,
    scope::{Permission, Scope},
    transport::ConnectionPool,
};
use crate::{
    model::{
        Descriptor, Digest, Host, Kind, MediaType, RawManifest, Repository, Result, Tag,
        TagOrDigest, TagQuery,
        content::{MANIFEST_LIMIT, too_large},
    },
    remote::{Allowance, ByteStream, Pages, PullLimits, Source, body::corrupt},
};

/// Below this many tags a listing does not pay.
const LISTING_PAYS: usize = 4;

impl Source for Registry {
    async fn digests(&self, repository: &Repository, tags: &[Tag]) -> HashMap<Tag, Digest> {
        if let Some(known) = self.remembered(repository, tags) {
            return known;
        }
        if tags.len() < LISTING_PAYS {
            return HashMap::new();
        }
        let listed = match self.host.as_str() {
            Host::DOCKER_HUB => hub::digests(self, repository, tags).await,
            "quay.io" => quay::digests(self, repository, tags).await,
            host if artifact_registry::is_one(host) => {
                artifact_registry::digests(self, repository).await
            }
            _ => return HashMap::new(),
        };
        let mut listed = listed.unwrap_or_else(|error| {
            tracing::debug!(registry = %self.host, %repository, ?error, "no bulk listing");
            HashMap::new()
        });
        let wanted: HashSet<&Tag> = tags.iter().collect();
        listed.retain(|tag, _| wanted.contains(tag));
        listed
    }

    async fn resolve(&self, repository: &Repository, tag: &Tag) -> Result<Digest> {
        self.resolve_for(&Scope::new(repository, Permission::Pull), tag).await
    }

    async fn manifest(&self, repository: &Repository, at: &TagOrDigest) -> Result<RawManifest> {
        if let TagOrDigest::Digest(_) = at {
            let access = Scope::new(repository, Permission::Pull);
            let asked = self.ask_mirrors(|mirror| {
                let access = access.clone();
                async move { mirror.fetch_manifest(&access, at).await }
            });
            if let Some(found) = asked.await {
                return Ok(found);
            }
        }
        self.manifest_for(&Scope::new(repository, Permission::Pull), at).await
    }

    async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>> {
        self.list_referrers(repository, subject).await
    }

    async fn blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        from: u64,
    ) -> Result<ByteStream> {
        let access = Scope::new(repository, Permission::Pull);
        // a mirror that broke off is not asked to go on
        if from == 0 && !self.mirrored(&blob.digest, |known| known.is_damaged) {
            let asked = self.ask_mirrors(|mirror| {
                let access = access.clone();
                async move { mirror.open_blob(&access, blob, from).await }
            });
            if let Some(stream) = asked.await {
                self.mirrored(&blob.digest, |known| known.readings += 1);
                return Ok(stream);
            }
        }
        self.open_blob(&access, blob, from).await
    }

    fn report_corrupt(&self, blob: &Digest) -> bool {
        self.mirrored(blob, |known| {
            let is_theirs = known.readings > 0;
            known.readings = known.readings.saturating_sub(1);
            known.is_damaged |= is_theirs;
            is_theirs
        })
    }
}

impl PullLimits for Registry {
    async fn probe_manifest(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        self.head_manifest(&Scope::new(repository, Permission::Pull), digest).await
    }

    fn allowance(&self) -> Option<Allowance> {
        self.last_allowance()
    }

    fn pulls_spent(&self) -> u64 {
        self.pulls.value()
    }

    fn is_metered(&self) -> bool {
        self.host.is_docker_hub()
    }
}

/// The listing, or the other one where its first page cannot be had: a listing beside the
/// registry knows public repositories only.
fn or_else<'a>(listing: Pages<'a>, other: impl FnOnce() -> Pages<'a> + Send + 'a) -> Pages<'a> {
    let begun = async {
        let mut listing = listing;
        match listing.next().await {
            Some(Err(error)) => {
                tracing::debug!(?error, "no listing with push times");
                other()
            }
            first => stream::iter(first).chain(listing).boxed(),
        }
    };
    stream::once(begun).flatten().boxed()
}

impl Registry {
    /// Every tag of the repository, page by page, in the registry's order.
    ///
    /// Names that are no tags are left out. Push times are there where they are wanted and the
    /// registry has a way to tell them. It ends with the first error:
    /// [`Kind::RepositoryMissing`] or [`Kind::NotFound`] where there is no such repository.
    pub fn tags<'a>(&'a self, repository: &'a Repository, wanted: TagQuery) -> Pages<'a> {
        let names = || self.tag_names(repository);
        let pages = match (self.host.as_str(), wanted) {
            (host, _) if artifact_registry::is_one(host) => {
                artifact_registry::tags(self, repository)
            }
            (Host::DOCKER_HUB, TagQuery::Times { since }) => {
                or_else(hub::tags(self, repository, since), names)
            }
            ("quay.io", TagQuery::Times { since }) => {
                or_else(quay::tags(self, repository, since), names)
            }
            _ => names(),
        };
        within(self.context.policy.stall.listing, pages)
    }

    /// What the tag points to, with these rights.
    pub(crate) async fn resolve_for(&self, access: &Scope, tag: &Tag) -> Result<Digest> {
        let at = TagOrDigest::Tag(tag.clone());
        self.context.retry().run(&self.context, || self.head_or_get(access, &at)).await
    }

    /// The manifest, with these rights.
    pub(crate) async fn manifest_for(
        &self,
        access: &Scope,
        at: &TagOrDigest,
    ) -> Result<RawManifest> {
        self.context.retry().run(&self.context, || self.fetch_manifest(access, at)).await
    }

    /// Succeeds when the manifest is there.
    pub(crate) async fn head_manifest(&self, access: &Scope, digest: &Digest) -> Result<()> {
        let call = self.manifest_call(Method::HEAD, access, &TagOrDigest::Digest(digest.clone()));
        self.context.retry().run(&self.context, || self.send(&call)).await.map(drop)
    }

    /// Succeeds when the blob is there.
    pub(crate) async fn head_blob(&self, access: &Scope, digest: &Digest) -> Result<()> {
        let url = self.url(&format!("{}/blobs/{digest}", access.repository));
        let call = ApiRequest::new(Method::HEAD, url, access, Operation::Read);
        self.context.retry().run(&self.context, || self.send(&call)).await.map(drop)
    }

    fn manifest_call<'a>(
        &self,
        method: Method,
        access: &'a Scope,
        at: &TagOrDigest,
    ) -> ApiRequest<'a> {
        let url = self.url(&format!("{}/manifests/{}", access.repository, at.as_str()));
        let mut call = ApiRequest::new(method, url, access, Operation::Read);
        // in one line: some registries read only the first
        let accepted = MediaType::ALL.map(MediaType::as_str).join(", ");
        let accepted = HeaderValue::from_str(&accepted).expect("media types fit a header");
        call.headers.insert(header::ACCEPT, accepted);
        call
    }

    /// A HEAD, which no registry counts as a pull; a GET where a HEAD does not tell.
    async fn head_or_get(&self, access: &Scope, at: &TagOrDigest) -> Result<Digest> {
        let call = self.manifest_call(Method::HEAD, access, at);
        match self.send(&call).await {
            Ok(answer) => {
                if let Some(digest) = told_digest(&answer) {
                    return Ok(digest);
                }
            }
            // some serve the GET all the same, and the others say why only to a GET
            Err(error)
                if matches!(
                    error.kind(),
                    Kind::Unsupported | Kind::Unauthorized | Kind::Denied
                ) => {}
            Err(error) => return Err(error),
        }
        Ok(self.fetch_manifest(access, at).await?.digest().clone())
    }

    /// One GET.
    async fn fetch_manifest(&self, access: &Scope, at: &TagOrDigest) -> Result<RawManifest> {
        let answer = self.send(&self.manifest_call(Method::GET, access, at)).await?;
        self.pulls.add(1);
        let subject = answer.subject.clone();
        let content_type = answer.header(header::CONTENT_TYPE).map(str::to_owned);
        let told = told_digest(&answer);
        let length = answer.header(header::CONTENT_LENGTH).and_then(|n| n.parse().ok());
        let read = |bytes| checked(bytes, content_type.as_deref(), at, told);
        answer.document(MANIFEST_LIMIT, read).await.map_err(|error| match error.kind() {
            Kind::TooLarge => too_large(length.unwrap_or(MANIFEST_LIMIT + 1))
                .context(format!("{subject}: the answer cannot be used")),
            _ => error,
        })
    }

    /// Opens the blob, from this offset on.
    async fn open_blob(&self, access: &Scope, blob: &Descriptor, from: u64) -> Result<ByteStream> {
        let url = self.url(&format!("{}/blobs/{}", access.repository, blob.digest));
        let mut call = ApiRequest::new(Method::GET, url, access, Operation::Read);
        call.pool = ConnectionPool::of(blob);
        call.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if from > 0 {
            let range = HeaderValue::from_str(&format!("bytes={from}-"));
            call.headers.insert(header::RANGE, range.expect("digits fit a header"));
        }
        let answer = self.send(&call).await?;
        let skip = range::skip(&answer, blob, from)?;
        range::without(skip, answer.stream(), self.context.policy.stall.read).await
    }

    /// What is known of the mirrors and this blob; nothing is kept where there are none.
    fn mirrored<T>(&self, blob: &Digest, look: impl FnOnce(&mut MirroredBlob) -> T) -> T {
        if self.mirrors.is_empty() {
            return look(&mut MirroredBlob::default());
        }
        let mut mirrored = self.mirrored.lock();
        look(mirrored.entry(blob.clone()).or_default())
    }

    /// Asks the mirrors in turn; `None` when none of them has it.
    async fn ask_mirrors<'a, T, F>(&'a self, ask: impl Fn(&'a Registry) -> F) -> Option<T>
    where
        F: Future<Output = Result<T>>,
    {
        for mirror in &self.mirrors {
            if mirror.is_gone.load(Relaxed) {
                continue;
            }
            match ask(&mirror.registry).await {
                Ok(found) => return Some(found),
                Err(error) => {
                    if matches!(
                        error.kind(),
                        Kind::Unavailable | Kind::Stalled | Kind::Configuration
                    ) {
                        mirror.is_gone.store(true, Relaxed);
                    }
                    tracing::debug!(mirror = %mirror.registry.host, ?error, "asking the registry itself");
                }
            }
        }
        None
    }
}

fn told_digest(answer: &ApiResponse) -> Option<Digest> {
    answer.header("docker-content-digest")?.parse().ok()
}

/// The manifest, if it is what was asked for and what the registry says it is.
fn checked(
    bytes: Bytes,
    content_type: Option<&str>,
    at: &TagOrDigest,
    told: Option<Digest>,
) -> Result<RawManifest> {
    let expected = match at {
        TagOrDigest::Digest(digest) => Some(digest),
        TagOrDigest::Tag(_) => told.as_ref(),
    };
    let manifest = RawManifest::new(bytes, content_type)?;
    match expected {
        Some(expected) if expected != manifest.digest() => {
            Err(corrupt(format!("manifest {expected} has digest {}", manifest.digest())))
        }
        _ => Ok(manifest),
    }
}
