//! Upload sessions over HTTP: parts in order, then the digest.

use axum::{
    extract::Request,
    http::{HeaderMap, StatusCode, header},
};

use super::{Refusal, query};
use crate::{model::Digest, sandbox::store::Store};

/// Appends the body of a PATCH or PUT to the session, and returns the session's length in bytes.
///
/// A `Content-Range` must begin at the session's offset (else 416) and have the body's length (else
/// 400).
pub(crate) async fn append(
    store: &Store,
    repository: &str,
    id: &str,
    request: Request,
) -> Result<u64, Refusal> {
    let unknown = || Refusal::unknown("BLOB_UPLOAD_UNKNOWN", "unknown upload");
    let offset = store.upload_offset(repository, id).ok_or_else(unknown)?;
    check_content_range(request.headers(), offset)?;
    Ok(store.append(repository, id, request.into_body().into_data_stream()).await?)
}

/// Appends the PUT's body and turns the session into the blob that the query's `digest` names.
pub(crate) async fn close(
    store: &Store,
    repository: &str,
    id: &str,
    request: Request,
) -> Result<Digest, Refusal> {
    let wrong = || Refusal::bad("DIGEST_INVALID", "invalid or unsupported digest");
    let digest = query(request.uri(), "digest").ok_or_else(wrong)?;
    let digest: Digest = digest.parse().map_err(|_| wrong())?;
    append(store, repository, id, request).await?;
    store.finish_upload(repository, id, &digest).await?;
    Ok(digest)
}

/// The `Range` header for a session of `offset` bytes; `0-0` for an empty one.
///
/// Source: distribution, `startBlobUpload`.
pub(crate) fn range_header(offset: u64) -> String {
    format!("0-{}", offset.saturating_sub(1))
}

fn check_content_range(headers: &HeaderMap, offset: u64) -> Result<(), Refusal> {
    let Some(range) = headers.get(header::CONTENT_RANGE) else { return Ok(()) };
    let invalid = || {
        let message = format!("the content range is invalid, the upload has {offset} bytes");
        Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID", message)
    };
    let text = range.to_str().map_err(|_| invalid())?;
    let text = text.strip_prefix("bytes").unwrap_or(text).trim();
    let (first, rest) = text.split_once('-').ok_or_else(invalid)?;
    let last = rest.split('/').next().unwrap_or(rest);
    let first: u64 = first.trim().parse().map_err(|_| invalid())?;
    let last: u64 = last.trim().parse().map_err(|_| invalid())?;
    if first != offset || last < first {
        return Err(invalid());
    }
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    match length.and_then(|length| length.parse::<u64>().ok()) {
        Some(length) if length != last - first + 1 => {
            Err(Refusal::bad("SIZE_INVALID", "the content range is not the body's length"))
        }
        _ => Ok(()),
    }
}
