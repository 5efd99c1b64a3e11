//! One ordinary registry: empty at first, without authentication.
//!
//! Follows the distribution specification 1.1: pull, push, content discovery and content
//! management. The first push creates a repository. A manifest is refused while content that it
//! names is missing, except its subject.

#[cfg(test)]
mod tests;

use std::{io, path::Path};

use axum::{
    extract::Request,
    http::{HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{
    IncomingRequest, Store,
    distribution::{
        self, Blob, MANIFEST_LIMIT, Refusal, Resource, Route, RouteError, no_body, query,
    },
    store::Links,
};
use crate::model::{Digest, Repository, TagOrDigest};

/// An ordinary registry.
pub struct Plain {
    store: Store,
}

impl Plain {
    pub fn open(directory: &Path) -> io::Result<Plain> {
        Ok(Plain { store: Store::open(directory)? })
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) async fn answer(&self, incoming: IncomingRequest) -> Response {
        let mut response =
            self.dispatch(incoming).await.unwrap_or_else(IntoResponse::into_response);
        let version = HeaderValue::from_static("registry/2.0");
        response.headers_mut().insert("docker-distribution-api-version", version);
        response
    }

    async fn dispatch(&self, incoming: IncomingRequest) -> Result<Response, Refusal> {
        let IncomingRequest { host, request } = incoming;
        let method = request.method().clone();
        let (repository, resource) = match (route(&request)?, &method) {
            (Route::Base, &Method::GET | &Method::HEAD) => {
                return Ok(distribution::json(StatusCode::OK, "application/json", &json!({})));
            }
            (Route::Catalog, &Method::GET) => return self.catalog(request.uri()),
            (Route::Repository(repository, resource), _) => (repository, resource),
            _ => return Err(Refusal::unsupported()),
        };
        let scope = PlainRequest { store: &self.store, repository, host };
        match (resource, method) {
            (Resource::Manifest(at), Method::GET | Method::HEAD) => scope.manifest(&at, &request),
            (Resource::Manifest(at), Method::PUT) => scope.put_manifest(&at, request).await,
            (Resource::Manifest(at), Method::DELETE) => scope.delete_manifest(&at),
            (Resource::Blob(digest), Method::GET | Method::HEAD) => {
                scope.blob(&digest, request).await
            }
            (Resource::Blob(digest), Method::DELETE) => scope.delete_blob(&digest),
            (Resource::Uploads, Method::POST) => scope.start_upload(request).await,
            (Resource::Upload(id), Method::PATCH) => scope.append(&id, request).await,
            (Resource::Upload(id), Method::PUT) => scope.close(&id, request).await,
            (Resource::Upload(id), Method::GET) => scope.upload_status(&id),
            (Resource::Upload(id), Method::DELETE) => scope.cancel_upload(&id),
            (Resource::Tags, Method::GET) => scope.tags(request.uri()),
            (Resource::Referrers(subject), Method::GET) => scope.referrers(&subject, request.uri()),
            _ => Err(Refusal::unsupported()),
        }
    }

    fn catalog(&self, uri: &Uri) -> Result<Response, Refusal> {
        let page = distribution::page(self.store.repositories(), uri)?;
        let body = json!({ "repositories": page.names });
        Ok(distribution::json_page(&body, &page, uri))
    }
}

/// Parses the path. A malformed tag is an unknown manifest, except for a PUT.
fn route(request: &Request) -> Result<Route, Refusal> {
    Route::read(request.uri().path()).map_err(|route_error| match route_error {
        RouteError::Tag if request.method() != Method::PUT => {
            Refusal::unknown("MANIFEST_UNKNOWN", "manifest unknown")
        }
        other => other.into(),
    })
}

struct PlainRequest<'a> {
    store: &'a Store,
    repository: Repository,
    /// The host that the client called, for absolute locations.
    host: String,
}

impl PlainRequest<'_> {
    fn name(&self) -> &str {
        self.repository.as_str()
    }

    fn location(&self, path: &str) -> (&'static str, String) {
        ("location", format!("http://{}/v2/{}/{path}", self.host, self.repository))
    }
}

impl PlainRequest<'_> {
    fn find(&self, at: &TagOrDigest) -> Result<Digest, Refusal> {
        let digest = match at {
            TagOrDigest::Tag(tag) => self.store.tag(self.name(), tag.as_str()),
            TagOrDigest::Digest(digest) => Some(digest.clone()),
        };
        digest.ok_or_else(|| unknown_manifest(at))
    }

    fn manifest(&self, at: &TagOrDigest, request: &Request) -> Result<Response, Refusal> {
        let digest = self.find(at)?;
        let found = self.store.manifest(self.name(), &digest).ok_or_else(|| unknown_manifest(at));
        let (media_type, bytes) = found?;
        Ok(distribution::manifest(request.method(), &digest, &media_type, bytes))
    }

    async fn put_manifest(&self, at: &TagOrDigest, request: Request) -> Result<Response, Refusal> {
        let claimed = request.headers().get(header::CONTENT_TYPE);
        let claimed = claimed.and_then(|value| value.to_str().ok()).map(str::to_owned);
        let read = distribution::read_manifest(request.into_body()).await;
        let bytes = read.map_err(|error| Refusal::bad("MANIFEST_INVALID", error))?;
        let bytes = bytes.ok_or_else(|| {
            let message = format!("a manifest has at most {MANIFEST_LIMIT} bytes");
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "MANIFEST_INVALID", message)
        })?;
        let digest = Digest::of(&bytes);
        if matches!(at, TagOrDigest::Digest(named) if *named != digest) {
            return Err(Refusal::bad("DIGEST_INVALID", "the manifest has another digest"));
        }
        let links = Links::read(&bytes).map_err(|error| Refusal::bad("MANIFEST_INVALID", error))?;
        let media_type = media_type(claimed, &links)?;
        self.has_all(&links)?;
        self.store.put_manifest(self.name(), &media_type, &bytes)?;
        if let TagOrDigest::Tag(tag) = at {
            self.store.set_tag(self.name(), tag.as_str(), &digest)?;
        }
        let location = self.location(&format!("manifests/{digest}"));
        let mut response =
            no_body(StatusCode::CREATED, [location, ("docker-content-digest", digest.to_string())]);
        if let Some(subject) = &links.subject {
            let subject = HeaderValue::from_str(subject.as_str()).expect("a digest is ASCII");
            response.headers_mut().insert("oci-subject", subject);
        }
        Ok(response)
    }

    /// Refuses a manifest that names content which is not in this repository.
    fn has_all(&self, links: &Links) -> Result<(), Refusal> {
        let missing = |what, digest| {
            Refusal::bad("MANIFEST_BLOB_UNKNOWN", format!("{what} {digest} is unknown to registry"))
        };
        for blob in &links.blobs {
            if self.store.blob_size(self.name(), blob).is_none() {
                return Err(missing("blob", blob));
            }
        }
        for child in &links.children {
            if !self.store.has_manifest(self.name(), child) {
                return Err(missing("manifest", child));
            }
        }
        Ok(())
    }

    fn delete_manifest(&self, at: &TagOrDigest) -> Result<Response, Refusal> {
        let removed = match at {
            TagOrDigest::Tag(tag) => self.store.delete_tag(self.name(), tag.as_str())?,
            TagOrDigest::Digest(digest) => self.store.delete_manifest(self.name(), digest)?,
        };
        if removed { Ok(no_body(StatusCode::ACCEPTED, [])) } else { Err(unknown_manifest(at)) }
    }

    fn tags(&self, uri: &Uri) -> Result<Response, Refusal> {
        if !self.store.has_repository(self.name()) {
            return Err(Refusal::unknown("NAME_UNKNOWN", "repository name not known to registry"));
        }
        let tags = self.store.tags(self.name()).into_iter().map(|(tag, _)| tag);
        let page = distribution::page(tags, uri)?;
        let body = json!({ "name": self.repository, "tags": page.names });
        Ok(distribution::json_page(&body, &page, uri))
    }

    fn referrers(&self, subject: &Digest, uri: &Uri) -> Result<Response, Refusal> {
        let refers = |digest: &Digest| {
            let links = self.store.links(self.name(), digest)?;
            (links.subject.as_ref() == Some(subject)).then_some(links)
        };
        let descriptor = |digest: &Digest| {
            let links = refers(digest)?;
            let (media_type, bytes) = self.store.manifest(self.name(), digest)?;
            Some(descriptor(digest, &media_type, bytes.len(), &links))
        };
        let manifests = self.store.manifests(self.name()).iter().filter_map(descriptor).collect();
        Ok(distribution::referrers(manifests, query(uri, "artifactType").as_deref()))
    }
}

impl PlainRequest<'_> {
    async fn blob(&self, digest: &Digest, request: Request) -> Result<Response, Refusal> {
        let opened = self.store.open_blob(self.name(), digest).await?;
        let (file, size) = opened.ok_or_else(|| unknown_blob(digest))?;
        let blob = Blob { digest, size, media_type: "application/octet-stream" };
        Ok(distribution::blob(request.method(), request.headers(), blob, async |range| {
            distribution::file_body(file, range).await
        })
        .await)
    }

    fn delete_blob(&self, digest: &Digest) -> Result<Response, Refusal> {
        if self.store.unlink_blob(self.name(), digest)? {
            return Ok(no_body(StatusCode::ACCEPTED, []));
        }
        Err(unknown_blob(digest))
    }

    /// POST: mounts a blob, stores a whole blob, or opens a session.
    async fn start_upload(&self, request: Request) -> Result<Response, Refusal> {
        if let Some(digest) = self.mount(request.uri())? {
            return Ok(self.created(&digest));
        }
        let whole = query(request.uri(), "digest").is_some();
        let id = self.store.start_upload(self.name())?;
        if !whole {
            return self.accepted(&id, 0);
        }
        let closed = distribution::close(self.store, self.name(), &id, request).await;
        if closed.is_err() {
            self.store.cancel_upload(self.name(), &id);
        }
        Ok(self.created(&closed?))
    }

    /// Links the blob that `mount` names, from the repository in `from`, or from any without it.
    fn mount(&self, uri: &Uri) -> Result<Option<Digest>, Refusal> {
        let named = query(uri, "mount").and_then(|digest| digest.parse::<Digest>().ok());
        let Some(digest) = named else { return Ok(None) };
        let has = |repository: &str| self.store.blob_size(repository, &digest).is_some();
        let there = match query(uri, "from") {
            Some(from) => has(&from),
            None => self.store.repositories().iter().any(|repository| has(repository)),
        };
        Ok((there && self.store.link_blob(self.name(), &digest)?).then_some(digest))
    }

    async fn append(&self, id: &str, request: Request) -> Result<Response, Refusal> {
        let offset = distribution::append(self.store, self.name(), id, request).await?;
        self.accepted(id, offset)
    }

    async fn close(&self, id: &str, request: Request) -> Result<Response, Refusal> {
        let digest = distribution::close(self.store, self.name(), id, request).await?;
        Ok(self.created(&digest))
    }

    fn upload_status(&self, id: &str) -> Result<Response, Refusal> {
        let offset = self.store.upload_offset(self.name(), id).ok_or_else(unknown_upload)?;
        Ok(no_body(StatusCode::NO_CONTENT, self.session(id, offset)))
    }

    fn cancel_upload(&self, id: &str) -> Result<Response, Refusal> {
        if self.store.cancel_upload(self.name(), id) {
            return Ok(no_body(StatusCode::NO_CONTENT, []));
        }
        Err(unknown_upload())
    }

    fn accepted(&self, id: &str, offset: u64) -> Result<Response, Refusal> {
        Ok(no_body(StatusCode::ACCEPTED, self.session(id, offset)))
    }

    fn session(&self, id: &str, offset: u64) -> [(&'static str, String); 3] {
        [
            self.location(&format!("blobs/uploads/{id}")),
            ("range", distribution::range_header(offset)),
            ("docker-upload-uuid", id.to_owned()),
        ]
    }

    fn created(&self, digest: &Digest) -> Response {
        let location = self.location(&format!("blobs/{digest}"));
        no_body(StatusCode::CREATED, [location, ("docker-content-digest", digest.to_string())])
    }
}

/// The manifest's media type. The header and the manifest must not disagree.
fn media_type(claimed: Option<String>, links: &Links) -> Result<String, Refusal> {
    match (claimed, &links.media_type) {
        (Some(claimed), Some(written)) if claimed != *written => {
            let message = format!("`Content-Type` is {claimed}, `mediaType` is {written}");
            Err(Refusal::bad("MANIFEST_INVALID", message))
        }
        (Some(claimed), _) => Ok(claimed),
        (None, Some(written)) => Ok(written.clone()),
        (None, None) => {
            Err(Refusal::bad("MANIFEST_INVALID", "the manifest's media type is missing"))
        }
    }
}

fn descriptor(digest: &Digest, media_type: &str, size: usize, links: &Links) -> Value {
    let mut descriptor = json!({ "mediaType": media_type, "digest": digest, "size": size });
    if let Some(artifact_type) = &links.artifact_type {
        descriptor["artifactType"] = json!(artifact_type);
    }
    if !links.annotations.is_empty() {
        descriptor["annotations"] = Value::Object(links.annotations.clone());
    }
    descriptor
}

fn unknown_manifest(at: &TagOrDigest) -> Refusal {
    Refusal::unknown("MANIFEST_UNKNOWN", format!("manifest {} unknown", at.as_str()))
}

fn unknown_blob(digest: &Digest) -> Refusal {
    Refusal::unknown("BLOB_UNKNOWN", format!("blob {digest} unknown to registry"))
}

fn unknown_upload() -> Refusal {
    Refusal::unknown("BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
}
