//! The hosts that blobs are redirected to.
//!
//! Their URLs are signed and short-lived. A request that also carries the registry's token is
//! refused, as object stores refuse two authentication mechanisms.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    body::Body,
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};

use super::{content::Content, synthesis};
use crate::{
    model::Digest,
    sandbox::distribution::{self, query},
};

const LIFETIME_SECONDS: u64 = 20 * 60;

pub(crate) fn path(registry: &str, repository: &str, digest: &Digest) -> String {
    let expires = now() + LIFETIME_SECONDS;
    let from = format!("{registry}/{repository}");
    let signature = signature(&from, digest, &expires.to_string());
    format!("/blobs/sha256/{}?from={from}&expires={expires}&signature={signature}", digest.hex())
}

/// Answers a request for such a path; `path` is without the loopback prefix.
pub(crate) async fn answer(content: &Arc<Content>, path: &str, request: &Parts) -> Response {
    if request.headers.contains_key(header::AUTHORIZATION) {
        let message = "only one authentication mechanism is allowed";
        return (StatusCode::BAD_REQUEST, message).into_response();
    }
    let part = |name: &str| query(&request.uri, name).unwrap_or_default();
    let (from, expires) = (part("from"), part("expires"));
    let digest = path.strip_prefix("/blobs/sha256/").map(|hex| format!("sha256:{hex}").parse());
    let Some(Ok(digest)) = digest else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let is_signed = part("signature") == signature(&from, &digest, &expires);
    if !is_signed || expires.parse::<u64>().is_ok_and(|expires| expires < now()) {
        return (StatusCode::FORBIDDEN, "the URL is not signed, or no longer").into_response();
    }
    let Some((registry, repository)) = from.split_once('/') else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let (registry, repository) = (registry.to_owned(), repository.to_owned());
    let wanted = digest.clone();
    match content.run_blocking(move |content| content.blob(&registry, &repository, &wanted)).await {
        Some(blob) => serve(content, &blob, &digest, request).await,
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

pub(crate) async fn serve(
    content: &Arc<Content>,
    blob: &synthesis::Blob,
    digest: &Digest,
    request: &Parts,
) -> Response {
    let described = distribution::Blob {
        digest,
        size: content.size(blob) as u64,
        media_type: "application/octet-stream",
    };
    distribution::blob(&request.method, &request.headers, described, async |range| {
        let blob = blob.clone();
        let bytes = content.run_blocking(move |content| content.bytes(&blob)).await;
        Ok(Body::from(bytes.slice(range.start as usize..range.end as usize)))
    })
    .await
}

fn signature(from: &str, digest: &Digest, expires: &str) -> String {
    Digest::of(format!("{from} {digest} {expires}").as_bytes()).short().to_owned()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
