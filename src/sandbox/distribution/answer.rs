//! Manifests in requests and responses, and responses without a body.

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    response::Response,
};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use serde_json::{Value, json};

use super::Refusal;
use crate::{
    model::Digest,
    sandbox::store::{Links, Store},
};

/// 4 MiB: the specification requires registries to accept manifests up to this size.
pub(crate) const MANIFEST_LIMIT: usize = 4 << 20;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

pub(crate) fn manifest(
    method: &Method,
    digest: &Digest,
    media_type: &str,
    bytes: Bytes,
) -> Response {
    let length = bytes.len();
    let body = if method == Method::HEAD { Body::empty() } else { Body::from(bytes) };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    if let Ok(media_type) = HeaderValue::from_str(media_type) {
        headers.insert(header::CONTENT_TYPE, media_type);
    }
    headers.insert(header::CONTENT_LENGTH, length.into());
    headers.insert(header::ETAG, text(format!("\"{digest}\"")));
    headers.insert(HeaderName::from_static("docker-content-digest"), text(digest));
    response
}

/// Builds a response with these headers and no body.
pub(crate) fn no_body<const N: usize>(
    status: StatusCode,
    headers: [(&'static str, String); N],
) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    for (name, value) in headers {
        response.headers_mut().insert(HeaderName::from_static(name), text(value));
    }
    response
}

fn text(value: impl ToString) -> HeaderValue {
    HeaderValue::from_str(&value.to_string()).expect("names and digests are visible ASCII")
}

/// Reads the body of a manifest PUT, up to [`MANIFEST_LIMIT`].
///
/// Reads a longer body to its end before it refuses: many clients read no response earlier.
pub(crate) async fn read_manifest(request: Request) -> Result<Bytes, Refusal> {
    let mut body = request.into_body().into_data_stream();
    let mut bytes = BytesMut::new();
    let mut length = 0;
    while let Some(part) = body.next().await {
        let part = part.map_err(|error| Refusal::bad("MANIFEST_INVALID", error))?;
        length += part.len();
        if length <= MANIFEST_LIMIT {
            bytes.extend_from_slice(&part);
        }
    }
    if length <= MANIFEST_LIMIT {
        return Ok(bytes.freeze());
    }
    let message = format!("a manifest has at most {MANIFEST_LIMIT} bytes");
    Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "MANIFEST_INVALID", message))
}

/// The index of the subject's referrers, filtered by artifact type if one is given.
pub(crate) fn referrers(
    store: &Store,
    repository: &str,
    subject: &Digest,
    artifact_type: Option<&str>,
) -> Value {
    let refers = |digest: &Digest| {
        let links = store.links(repository, digest)?;
        let written = links.artifact_type.as_deref().unwrap_or_default();
        let asked = artifact_type.is_none_or(|asked| asked == written);
        (links.subject.as_ref() == Some(subject) && asked).then_some(links)
    };
    let manifests: Vec<Value> = store
        .manifests(repository)
        .iter()
        .filter_map(|digest| {
            let links = refers(digest)?;
            let (media_type, bytes) = store.manifest(repository, digest)?;
            Some(descriptor(digest, &media_type, bytes.len(), &links))
        })
        .collect();
    json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests })
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
