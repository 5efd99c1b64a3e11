//! The embedded upstream: all registries that images come from, read-only.
//!
//! Plays Docker Hub, Quay, GitHub's, Google's, Amazon's public, NVIDIA's, Kubernetes', Microsoft's
//! and Chainguard's registries with their known [`quirks`]: challenges and expiring tokens
//! ([`token`]), a pull-rate limit ([`limits`]), blobs on another host ([`cdn`]), listings with
//! digests ([`listing`]). Any other host is an open registry. The content is the [`catalogue`]'s,
//! made by [`synthesis`] on request, and everything that tests add. A repository whose last
//! component starts with `private` requires an account; one that starts with `missing` or `nosuch`, and
//! every one of a host below `.invalid`, does not exist.

mod address;
mod builder;
pub(crate) mod catalogue;
pub(crate) mod cdn;
pub(crate) mod content;
mod imports;
pub(crate) mod limits;
pub(crate) mod listing;
mod product_api;
pub(crate) mod quirks;
mod registry;
pub(crate) mod synthesis;
#[cfg(test)]
mod tests;
pub(crate) mod token;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::response::{IntoResponse, Response};
use bytes::Bytes;

pub use builder::ImageBuilder;
pub(in crate::sandbox) use imports::{ImportError, UpstreamRepository};
pub use synthesis::{Manifest, media};

use self::{
    address::{Address, Service},
    content::Content,
    limits::Limits,
    quirks::Quirks,
    synthesis::Blob,
    token::Tokens,
};
use super::{
    Faults, IncomingRequest,
    distribution::Refusal,
    fault::{Name, Side},
    profile::Profile,
    unknown_path,
};
use crate::model::{Digest, Tag, TagOrDigest};

/// Every host that is not ECR.
#[derive(Debug)]
pub struct Upstream {
    content: Arc<Content>,
    tokens: Tokens,
    limits: Limits,
    faults: Faults,
    /// The registry that every host is like; `None` if each has its own quirks.
    profile: Option<&'static Profile>,
    /// Requests granted since the fault `expire-tokens` was activated.
    granted: AtomicU64,
}

impl Upstream {
    /// Creates the upstream. It keeps nothing on disk: names determine all content.
    pub(crate) fn new(faults: Faults) -> Upstream {
        Upstream {
            content: Arc::default(),
            tokens: Tokens::default(),
            limits: Limits::default(),
            faults,
            profile: None,
            granted: AtomicU64::new(0),
        }
    }

    /// Gives every host the quirks of this profile.
    pub(crate) fn like(self, profile: Option<&'static Profile>) -> Upstream {
        Upstream { profile, ..self }
    }

    pub(crate) async fn answer(&self, incoming: IncomingRequest) -> Response {
        let address = Address::of(&incoming.host).like(self.profile);
        let (request, _) = incoming.request.into_parts();
        match address.service(request.uri.path()) {
            Some(Service::Token(registry)) => self.issue(registry.as_deref(), &request),
            Some(Service::Cdn(path)) => cdn::answer(&self.content, &path, &request).await,
            Some(Service::HubApi) => listing::hub(&self.content, &address, &request).await,
            Some(Service::QuayApi) => listing::quay(&self.content, &request).await,
            Some(Service::GitLabApi(host)) => product_api::gitlab(&self.content, &host, &request),
            Some(Service::HarborApi(host)) => product_api::harbor(&self.content, &host, &request),
            Some(Service::Catalog) => {
                let all = self.content.all_repositories().into_iter();
                let names = all.map(|(host, name)| format!("{host}/{name}"));
                registry::catalog(names.collect::<BTreeSet<_>>(), &request)
            }
            Some(Service::Registry(registry)) => self.registry(&address, &registry, &request).await,
            None => unknown_path(),
        }
    }

    /// The pinned digest if the repository has it, also as the image of `tag`; else the digest of that
    /// image.
    pub(crate) async fn find_pinned(
        &self,
        host: &str,
        repository: &str,
        pinned: &Digest,
        tag: &Tag,
    ) -> Option<Digest> {
        let (host, repository) = (quirks::canonical(host).to_owned(), repository.to_owned());
        let [pinned, tag] = [TagOrDigest::Digest(pinned.clone()), TagOrDigest::Tag(tag.clone())];
        let find = move |content: &Content| {
            // first, because no listing shows an image that is made on demand
            let tagged = content.manifest(&host, &repository, &tag);
            content.manifest(&host, &repository, &pinned).or(tagged)
        };
        Some(self.content.run_blocking(find).await?.digest)
    }

    /// The quirks of this repository's registry.
    fn quirks(&self, registry: &str, repository: &str) -> Quirks {
        match self.profile {
            Some(profile) => profile.quirks.clone(),
            None => quirks::of_registry(registry, repository),
        }
    }

    fn issue(&self, registry: Option<&str>, request: &axum::http::request::Parts) -> Response {
        if request.method != axum::http::Method::GET {
            return Refusal::unsupported().into_response();
        }
        let query = request.uri.query().unwrap_or_default();
        let life = self.faults.active(Name::TokenLife, Side::Upstream);
        let life = life.and_then(|arg| arg.number()).map_or(token::LIFETIME, Duration::from_secs);
        // without a registry, only a profile tells the fields
        let body = self.quirks(registry.unwrap_or_default(), "").token_body;
        self.tokens.issue(registry, query, &request.headers, (life, body))
    }

    /// Expires all tokens once per activation of the fault. Returns `true` if it did.
    fn expire_tokens_if_due(&self) -> bool {
        let Some(arg) = self.faults.active(Name::ExpireTokens, Side::Upstream) else {
            self.granted.store(0, Ordering::Relaxed);
            return false;
        };
        let granted = self.granted.fetch_add(1, Ordering::Relaxed);
        let ends = granted == arg.number().unwrap_or(0);
        if ends {
            self.tokens.end_all();
        }
        ends
    }
}

/// For tests: content added here overlays the catalogue, in memory. A repository with added content
/// has, beyond that, only the images in the catalogue's tables.
impl Upstream {
    /// Adds or replaces a manifest of any media type, and the tag that points to it.
    pub fn put_manifest(
        &self,
        host: &str,
        repository: &str,
        tag: Option<&str>,
        media_type: &str,
        bytes: &[u8],
    ) -> Digest {
        let digest = Digest::of(bytes);
        let manifest = Manifest {
            digest: digest.clone(),
            media_type: media_type.to_owned(),
            bytes: Bytes::copy_from_slice(bytes),
        };
        self.content.put_manifest(quirks::canonical(host), repository, tag, manifest);
        digest
    }

    /// Adds a manifest under any digest, right or wrong, and the tag that points to it.
    pub fn put_raw_manifest(
        &self,
        host: &str,
        repository: &str,
        tag: Option<&str>,
        manifest: Manifest,
    ) {
        self.content.put_manifest(quirks::canonical(host), repository, tag, manifest);
    }

    /// Adds a blob.
    pub fn put_blob(&self, host: &str, repository: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        self.put_raw_blob(host, repository, &digest, bytes);
        digest
    }

    /// Adds a blob under any digest, right or wrong.
    pub fn put_raw_blob(&self, host: &str, repository: &str, digest: &Digest, bytes: &[u8]) {
        let blob = Blob::Bytes(Bytes::copy_from_slice(bytes));
        self.content.put_blob(quirks::canonical(host), repository, digest, blob);
    }

    /// Removes a tag; the image remains readable by its digest.
    pub fn remove_tag(&self, host: &str, repository: &str, tag: &str) {
        self.content.remove_tag(quirks::canonical(host), repository, tag);
    }

    /// Points a tag of the catalogue, or one made from its name, to a newer build with one more
    /// layer.
    pub fn rebuild_tag(&self, host: &str, repository: &str, tag: &str) {
        self.content.rebuild_tag(quirks::canonical(host), repository, tag);
    }

    /// Starts to build an image for `reference`, such as `nginx:1.27`.
    pub fn image(&self, reference: &str) -> ImageBuilder<'_> {
        ImageBuilder::new(&self.content, reference)
    }

    /// The content of all registries.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// Starts a new window of pulls for all clients.
    pub fn renew_pulls(&self) {
        self.limits.renew();
    }
}
