//! Requests for manifests and blobs, shared by source, destination and referrers.

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};

use super::{
    client::Registry,
    errors::Operation,
    http::{ApiRequest, ApiResponse},
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

/// The tag's current digest.
pub(crate) async fn resolve(registry: &Registry, scope: &Scope, tag: &Tag) -> Result<Digest> {
    let at = TagOrDigest::Tag(tag.clone());
    registry.context.retry(|| head_or_get(registry, scope, &at)).await
}

/// A HEAD, which no registry counts as a pull; a GET if the HEAD has no digest.
async fn head_or_get(registry: &Registry, scope: &Scope, at: &TagOrDigest) -> Result<Digest> {
    match registry.send(&manifest_request(registry, Method::HEAD, scope, at)).await {
        Ok(response) => {
            if let Some(digest) = content_digest(&response) {
                return Ok(digest);
            }
        }
        // some registries accept the GET, and the others explain a refusal only to a GET
        Err(error)
            if matches!(error.kind(), Kind::Unsupported | Kind::Unauthorized | Kind::Denied) => {}
        Err(error) => return Err(error),
    }
    Ok(get_manifest(registry, scope, at).await?.digest().clone())
}

/// The manifest, with retries.
pub(crate) async fn manifest(
    registry: &Registry,
    scope: &Scope,
    at: &TagOrDigest,
) -> Result<RawManifest> {
    registry.context.retry(|| get_manifest(registry, scope, at)).await
}

/// The manifest, from one attempt.
pub(crate) async fn get_manifest(
    registry: &Registry,
    scope: &Scope,
    at: &TagOrDigest,
) -> Result<RawManifest> {
    let response = registry.send(&manifest_request(registry, Method::GET, scope, at)).await?;
    registry.manifests_read.add(1);
    let subject = response.subject.clone();
    let content_type = response.header(header::CONTENT_TYPE).map(str::to_owned);
    let length = response.header(header::CONTENT_LENGTH).and_then(|n| n.parse().ok());
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
pub(crate) async fn head_manifest(
    registry: &Registry,
    scope: &Scope,
    digest: &Digest,
) -> Result<()> {
    let at = TagOrDigest::Digest(digest.clone());
    registry.send_with_retry(&manifest_request(registry, Method::HEAD, scope, &at)).await.map(drop)
}

/// Succeeds if the blob exists.
pub(crate) async fn head_blob(registry: &Registry, scope: &Scope, digest: &Digest) -> Result<()> {
    let url = registry.url(&format!("{}/blobs/{digest}", scope.repository));
    let request = ApiRequest::new(Method::HEAD, url, scope, Operation::Read);
    registry.send_with_retry(&request).await.map(drop)
}

/// Opens the blob at this offset.
pub(crate) async fn open_blob(
    registry: &Registry,
    scope: &Scope,
    blob: &Descriptor,
    from: u64,
) -> Result<ByteStream> {
    let url = registry.url(&format!("{}/blobs/{}", scope.repository, blob.digest));
    let mut request = ApiRequest::new(Method::GET, url, scope, Operation::Read);
    request.pool = ConnectionPool::of(blob);
    request.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if from > 0 {
        let range = HeaderValue::from_str(&format!("bytes={from}-"));
        request.headers.insert(header::RANGE, range.expect("digits fit a header"));
    }
    let response = registry.send(&request).await?;
    let surplus = range::bytes_to_skip(&response, blob, from)?;
    range::skip(surplus, response.stream(), registry.context.policy.stall.read).await
}

/// The client's duty to add a pushed referrer to its subject's fallback tag.
pub(crate) enum FallbackTag {
    /// The registry lists the referrer by itself.
    NotNeeded,
    /// Needed if the manifest has a subject.
    Needed,
}

/// Pushes the manifest, and changes no fallback tag.
pub(crate) async fn put_manifest(
    registry: &Registry,
    repository: &Repository,
    manifest: &RawManifest,
    tag: Option<&Tag>,
) -> Result<FallbackTag> {
    let scope = Scope::new(repository, Permission::PullPush);
    let at = tag.map_or(manifest.digest().as_str(), Tag::as_str);
    let url = registry.url(&format!("{repository}/manifests/{at}"));
    let mut request = ApiRequest::new(Method::PUT, url, &scope, Operation::Commit);
    let media_type = HeaderValue::from_static(manifest.media_type().as_str());
    request.headers.insert(header::CONTENT_TYPE, media_type);
    request.body = manifest.bytes().clone();
    let response = match (registry.send_with_retry(&request).await, tag) {
        (Ok(response), _) => response,
        // ECR refuses an existing tag even for the same manifest, also after a lost response
        (Err(error), Some(tag)) if error.kind() == Kind::TagImmutable => {
            return match resolve(registry, &scope, tag).await {
                Ok(current) if current == *manifest.digest() => Ok(FallbackTag::Needed),
                _ => Err(error),
            };
        }
        (Err(error), _) => return Err(error),
    };
    let wrong =
        |problem: &str| Error::new(Kind::Protocol, format!("{}: {problem}", response.subject));
    match response.header("docker-content-digest") {
        Some(stored) if stored != manifest.digest().as_str() => {
            Err(wrong("the registry stored another manifest"))
        }
        // a registry that stores it responds with 201; a page of a proxy has status 200
        None if response.status() == StatusCode::OK => Err(wrong(
            "status 200 does not confirm that the manifest is stored",
        )
        .hint("check for a proxy that answers in place of the registry, such as a login page")),
        _ if response.header("oci-subject").is_some() => Ok(FallbackTag::NotNeeded),
        _ => Ok(FallbackTag::Needed),
    }
}

/// Returns `true` if the error says that the content or its repository does not exist.
pub(crate) fn is_absent(error: &Error) -> bool {
    matches!(error.kind(), Kind::NotFound | Kind::RepositoryMissing)
}

fn manifest_request<'a>(
    registry: &Registry,
    method: Method,
    scope: &'a Scope,
    at: &TagOrDigest,
) -> ApiRequest<'a> {
    let url = registry.url(&format!("{}/manifests/{}", scope.repository, at.as_str()));
    let mut request = ApiRequest::new(method, url, scope, Operation::Read);
    // one header line: some registries read only the first one
    let accepted = MediaType::ALL.map(MediaType::as_str).join(", ");
    let accepted = HeaderValue::from_str(&accepted).expect("media types fit a header");
    request.headers.insert(header::ACCEPT, accepted);
    request
}

fn content_digest(response: &ApiResponse) -> Option<Digest> {
    response.header("docker-content-digest")?.parse().ok()
}
