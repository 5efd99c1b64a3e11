//! Requests for manifests and blobs, shared by source, destination and referrers.

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};

use super::{
    client::{ManifestHead, Registry},
    errors::Operation,
    http::{ApiRequest, ApiResponse, Confirmation, unconfirmed},
    range,
    scope::{Permission, Scope},
    transport::ConnectionPool,
};
use crate::{
    model::{
        Descriptor, Digest, Error, Kind, MediaType, RawManifest, Repository, Result, Tag,
        TagOrDigest,
        content::{MANIFEST_LIMIT, too_large},
    },
    remote::{ByteStream, body::corrupt},
};

/// The reading of a 404 to the HEAD of a manifest while no HEAD of the registry has succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absence {
    /// The manifest is missing most of the time: a 404 says so.
    Likely,
    /// Someone named the tag: a GET decides.
    Unlikely,
}

/// Sends requests about one repository, with the permissions of its scope.
pub(crate) struct RepositoryClient<'a> {
    pub(crate) registry: &'a Registry,
    pub(crate) scope: Scope,
}

impl Registry {
    /// A client that reads.
    pub(crate) fn pull(&self, repository: &Repository) -> RepositoryClient<'_> {
        RepositoryClient { registry: self, scope: Scope::new(repository, Permission::Pull) }
    }

    /// A client that reads and writes.
    pub(crate) fn pull_push(&self, repository: &Repository) -> RepositoryClient<'_> {
        RepositoryClient { registry: self, scope: Scope::new(repository, Permission::PullPush) }
    }
}

impl RepositoryClient<'_> {
    /// A request for this path below the repository.
    pub(crate) fn request(&self, method: Method, path: &str, kind: Operation) -> ApiRequest<'_> {
        let url = self.registry.url(&format!("{}/{path}", self.scope.repository));
        ApiRequest::new(method, url, &self.scope, kind)
    }

    fn manifest_request(&self, method: Method, at: &TagOrDigest) -> ApiRequest<'_> {
        let path = format!("manifests/{}", at.as_str());
        let kind = if method == Method::HEAD { Operation::Probe } else { Operation::Read };
        let mut request = self.request(method, &path, kind);
        // one header line: some registries read only the first one
        let accepted = MediaType::ALL.map(MediaType::as_str).join(", ");
        let accepted = HeaderValue::from_str(&accepted).expect("media types fit a header");
        request.headers.insert(header::ACCEPT, accepted);
        request
    }

    /// The tag's current digest.
    pub(crate) async fn resolve(&self, tag: &Tag, absence: Absence) -> Result<Digest> {
        let at = TagOrDigest::Tag(tag.clone());
        self.find_manifest(&at, absence).await
    }

    /// The digest of this manifest, if it exists.
    pub(crate) async fn find_manifest(&self, at: &TagOrDigest, absence: Absence) -> Result<Digest> {
        self.registry.context.retry(|| self.head_or_get(at, absence)).await
    }

    /// A HEAD, which no registry counts as a pull; a GET if the HEAD does not prove the digest, or
    /// if the registry may refuse it although it serves the manifest.
    ///
    /// Source: containrrr/watchtower#669 (Nexus answers HEAD with 404).
    async fn head_or_get(&self, at: &TagOrDigest, absence: Absence) -> Result<Digest> {
        let registry = self.registry;
        let get = async || self.get_manifest(at).await.map(|it| it.digest().clone());
        let proves = |digest: &Digest| match at {
            TagOrDigest::Tag(_) => true,
            TagOrDigest::Digest(expected) => expected == digest,
        };
        let head = *registry.manifest_head.lock();
        if head == ManifestHead::Refused {
            return get().await;
        }
        let found = registry.send(&self.manifest_request(Method::HEAD, at)).await;
        let error = match found.map(|response| content_digest(&response).filter(proves)) {
            Ok(proved) => {
                *registry.manifest_head.lock() = ManifestHead::Works;
                return match proved {
                    Some(digest) => Ok(digest),
                    None => get().await,
                };
            }
            Err(error) => error,
        };
        let is_free = !registry.public.is_metered && registry.allowance.lock().is_none();
        let is_expected = absence == Absence::Unlikely;
        let may_be_served = match error.kind() {
            // the registries that also refuse the GET explain it
            Kind::Unauthorized | Kind::Denied => is_free || is_expected,
            Kind::Unsupported => is_free,
            Kind::NotFound | Kind::RepositoryMissing => {
                is_free && is_expected && head == ManifestHead::Unknown
            }
            _ => false,
        };
        if !may_be_served {
            return Err(error);
        }
        let digest = get().await?;
        if is_free {
            *registry.manifest_head.lock() = ManifestHead::Refused;
        }
        Ok(digest)
    }

    /// The manifest, with retries.
    pub(crate) async fn manifest(&self, at: &TagOrDigest) -> Result<RawManifest> {
        self.registry.context.retry(|| self.get_manifest(at)).await
    }

    /// The manifest, from one attempt.
    pub(crate) async fn get_manifest(&self, at: &TagOrDigest) -> Result<RawManifest> {
        let response = self.registry.send(&self.manifest_request(Method::GET, at)).await?;
        self.registry.manifests_read.add(1);
        let subject = response.subject.clone();
        let content_type = response.header(header::CONTENT_TYPE).map(str::to_owned);
        let length = response.length();
        let expected = match at {
            TagOrDigest::Digest(digest) => Some(digest.clone()),
            TagOrDigest::Tag(_) => content_digest(&response),
        };
        let verify = |bytes: Bytes| {
            let manifest = RawManifest::new(bytes, content_type.as_deref())?;
            match expected {
                Some(expected) if expected != *manifest.digest() => {
                    Err(corrupt(format!("manifest {expected} has digest {}", manifest.digest())))
                }
                _ => Ok(manifest),
            }
        };
        response.document(MANIFEST_LIMIT, verify).await.map_err(|error| match error.kind() {
            Kind::TooLarge => too_large(length.unwrap_or(MANIFEST_LIMIT + 1))
                .context(format!("{subject}: cannot use the response")),
            _ => error,
        })
    }

    /// Succeeds if the manifest exists.
    pub(crate) async fn head_manifest(&self, digest: &Digest) -> Result<()> {
        let at = TagOrDigest::Digest(digest.clone());
        self.find_manifest(&at, Absence::Likely).await.map(drop)
    }

    /// Succeeds if the blob exists, with retries.
    pub(crate) async fn find_blob(&self, blob: &Descriptor) -> Result<()> {
        self.registry.context.retry(|| self.head_blob(blob)).await
    }

    /// Succeeds if the blob exists with this size, from one attempt.
    ///
    /// # Errors
    /// [`Kind::NotFound`] also for a response that describes other content, such as a page of a
    /// proxy: the blob is then uploaded.
    pub(crate) async fn head_blob(&self, blob: &Descriptor) -> Result<()> {
        let Descriptor { digest, size, .. } = blob;
        let request = self.request(Method::HEAD, &format!("blobs/{digest}"), Operation::Read);
        let response = self.registry.send(&request).await?;
        let is_other_digest = response
            .header("docker-content-digest")
            .is_some_and(|described| described != digest.as_str());
        let is_other_size = response.length().is_some_and(|length| length != *size);
        let is_page = response.header(header::CONTENT_TYPE).is_some_and(is_html);
        let is_other_status = response.status() != StatusCode::OK;
        match is_other_status || is_other_digest || is_other_size || is_page {
            true => {
                let problem = format!("{}: the response describes other content", response.subject);
                Err(Error::new(Kind::NotFound, problem))
            }
            false => Ok(()),
        }
    }

    /// Opens the blob at this offset. Reads the whole blob if the registry mishandles the range.
    pub(crate) async fn open_blob(&self, blob: &Descriptor, from: u64) -> Result<ByteStream> {
        let path = format!("blobs/{}", blob.digest);
        let mut request = self.request(Method::GET, &path, Operation::Read);
        request.pool = ConnectionPool::of(blob);
        request.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        range::add(&mut request.headers, from);
        let opened = match self.open_at(&request, blob, from).await {
            Err(error) if from > 0 && matches!(error.kind(), Kind::Corrupt | Kind::Protocol) => {
                tracing::debug!(blob = %blob.digest, %error, "no range, reading the whole blob");
                request.headers.remove(header::RANGE);
                self.open_at(&request, blob, from).await
            }
            opened => opened,
        };
        let (surplus, response) = opened?;
        range::skip(surplus, response.stream(), self.registry.context.policy.stall.read).await
    }

    /// The response, and the number of its bytes before offset `from` of the blob.
    async fn open_at(
        &self,
        request: &ApiRequest<'_>,
        blob: &Descriptor,
        from: u64,
    ) -> Result<(u64, ApiResponse)> {
        let response = self.registry.send(request).await?;
        Ok((range::bytes_to_skip(&response, blob, from)?, response))
    }

    /// Pushes the manifest, and changes no fallback tag. Returns `true` if the client must add a
    /// referrer to its subject's fallback tag, because the registry does not list it by itself.
    pub(crate) async fn put_manifest(
        &self,
        manifest: &RawManifest,
        tag: Option<&Tag>,
    ) -> Result<bool> {
        let at = tag.map_or(manifest.digest().as_str(), Tag::as_str);
        let mut request = self.request(Method::PUT, &format!("manifests/{at}"), Operation::Commit);
        let media_type = HeaderValue::from_static(manifest.media_type().as_str());
        request.headers.insert(header::CONTENT_TYPE, media_type);
        request.body = manifest.bytes().clone();
        let response = match (self.registry.send_with_retry(&request).await, tag) {
            (Ok(response), _) => response,
            // ECR refuses an existing tag even for the same manifest, also after a lost response
            (Err(error), Some(tag)) if error.kind() == Kind::TagImmutable => {
                return match self.resolve(tag, Absence::Likely).await {
                    Ok(current) if current == *manifest.digest() => Ok(true),
                    _ => Err(error),
                };
            }
            (Err(error), _) => return Err(error),
        };
        let (digest, subject, status) =
            (manifest.digest(), response.subject.clone(), response.status());
        let adds_to_fallback_tag = response.header("oci-subject").is_none();
        if response.confirmation(digest)? == Confirmation::StatusOnly {
            // a connection for the question
            drop(response);
            let at = match tag {
                Some(tag) => TagOrDigest::Tag(tag.clone()),
                None => TagOrDigest::Digest(digest.clone()),
            };
            if self.find_manifest(&at, Absence::Likely).await.ok().as_ref() != Some(digest) {
                let problem = "the registry does not have";
                return Err(unconfirmed(&subject, status, problem, digest));
            }
        }
        Ok(adds_to_fallback_tag)
    }
}

fn content_digest(response: &ApiResponse) -> Option<Digest> {
    response.header("docker-content-digest")?.parse().ok()
}

fn is_html(content_type: &str) -> bool {
    content_type.trim_start().to_ascii_lowercase().starts_with("text/html")
}

/// Returns `true` if the error says that the content or its repository does not exist.
pub(crate) fn is_absent(error: &Error) -> bool {
    matches!(error.kind(), Kind::NotFound | Kind::RepositoryMissing)
}

/// The value; `None` if it does not exist.
pub(crate) fn present<T>(found: Result<T>) -> Result<Option<T>> {
    match found {
        Err(error) if is_absent(&error) => Ok(None),
        found => found.map(Some),
    }
}
