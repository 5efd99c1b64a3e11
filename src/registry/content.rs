//! Requests for manifests and blobs, shared by source, destination and referrers.

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};

use super::{
    client::Registry,
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
        let mut request = self.request(method, &path, Operation::Read);
        // one header line: some registries read only the first one
        let accepted = MediaType::ALL.map(MediaType::as_str).join(", ");
        let accepted = HeaderValue::from_str(&accepted).expect("media types fit a header");
        request.headers.insert(header::ACCEPT, accepted);
        request
    }

    /// The tag's current digest.
    pub(crate) async fn resolve(&self, tag: &Tag) -> Result<Digest> {
        let at = TagOrDigest::Tag(tag.clone());
        self.find_manifest(&at).await
    }

    /// The digest of this manifest, if it exists.
    pub(crate) async fn find_manifest(&self, at: &TagOrDigest) -> Result<Digest> {
        self.registry.context.retry(|| self.head_or_get(at)).await
    }

    /// A HEAD, which no registry counts as a pull; a GET if the HEAD does not prove the digest.
    async fn head_or_get(&self, at: &TagOrDigest) -> Result<Digest> {
        let found = self.registry.send(&self.manifest_request(Method::HEAD, at)).await;
        let proves = |digest: &Digest| match at {
            TagOrDigest::Tag(_) => true,
            TagOrDigest::Digest(expected) => expected == digest,
        };
        match found.map(|response| content_digest(&response).filter(proves)) {
            Ok(Some(digest)) => return Ok(digest),
            Ok(None) => {}
            // some registries accept the GET, and the others explain a refusal only to a GET
            Err(error)
                if matches!(
                    error.kind(),
                    Kind::Unsupported | Kind::Unauthorized | Kind::Denied
                ) => {}
            Err(error) => return Err(error),
        }
        Ok(self.get_manifest(at).await?.digest().clone())
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
        let request = self.manifest_request(Method::HEAD, &at);
        self.registry.send_with_retry(&request).await.map(drop)
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
        if from > 0 {
            let range = HeaderValue::from_str(&format!("bytes={from}-"));
            request.headers.insert(header::RANGE, range.expect("digits fit a header"));
        }
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
                return match self.resolve(tag).await {
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
            if self.find_manifest(&at).await.ok().as_ref() != Some(digest) {
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
