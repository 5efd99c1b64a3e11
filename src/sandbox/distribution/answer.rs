//! Manifests in requests and responses, and responses without a body.

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    response::Response,
};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use serde_json::{Value, json};

use crate::{model::Digest, sandbox::upstream::synthesis::media::OCI_INDEX as INDEX};

/// 4 MiB: the specification requires registries to accept manifests up to this size.
pub(crate) const MANIFEST_LIMIT: usize = 4 << 20;

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

/// Reads the body of a manifest PUT; `None` if it has more than [`MANIFEST_LIMIT`] bytes.
///
/// Reads a longer body to its end too: many clients read no response earlier.
pub(crate) async fn read_manifest(body: Body) -> Result<Option<Bytes>, axum::Error> {
    let mut body = body.into_data_stream();
    let (mut bytes, mut length) = (BytesMut::new(), 0);
    while let Some(part) = body.next().await {
        let part = part?;
        length += part.len();
        if length <= MANIFEST_LIMIT {
            bytes.extend_from_slice(&part);
        }
    }
    Ok((length <= MANIFEST_LIMIT).then(|| bytes.freeze()))
}

/// The response to a referrers request: an index of `manifests`, filtered if a type is given.
pub(crate) fn referrers(mut manifests: Vec<Value>, artifact_type: Option<&str>) -> Response {
    if let Some(wanted) = artifact_type {
        manifests
            .retain(|manifest| manifest["artifactType"].as_str().unwrap_or_default() == wanted);
    }
    let body = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
    let mut response = super::json(StatusCode::OK, INDEX, &body);
    if artifact_type.is_some() {
        let applied = HeaderValue::from_static("artifactType");
        response.headers_mut().insert("oci-filters-applied", applied);
    }
    response
}
