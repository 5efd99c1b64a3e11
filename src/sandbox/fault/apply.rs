//! Applies the faults that any registry can have: to responses, and to bodies in both directions.

use std::{str::FromStr, time::Duration};

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::{StreamExt, future, stream, stream::BoxStream};
use tokio_util::sync::CancellationToken;

use super::{
    definition::{Content, Name, Target},
    state::Faults,
};
use crate::{model::Digest, sandbox::distribution::Refusal};

/// Time for the bytes before a cut to reach the client.
const FLUSH: Duration = Duration::from_millis(20);

type Chunks = BoxStream<'static, Result<Bytes, axum::Error>>;

/// The response that a fault sends in place of the registry's.
pub(in crate::sandbox) fn replacement(
    faults: &Faults,
    target: &Target<'_>,
    request: &HeaderMap,
) -> Option<Response> {
    if let Some(response) = redirect(faults, target) {
        return Some(response);
    }
    let length = length(request).unwrap_or_default();
    // the first argument decides, because a request that fits must not count
    if faults.hits_if(Name::MaxBody, target, |arg| arg.number().is_some_and(|most| length > most)) {
        return Some(refusal(target, StatusCode::PAYLOAD_TOO_LARGE));
    }
    let is_whole = target.method == Method::PUT && target.path.contains("/blobs/uploads/");
    if is_whole
        && length > 0
        && let Some(arg) = faults.hits(Name::RefuseWhole, target)
    {
        return Some(refusal(target, arg.status()));
    }
    if let Some(arg) = faults.hits(Name::Throttle, target) {
        let mut response = refusal(target, StatusCode::TOO_MANY_REQUESTS);
        if let Some(seconds) = arg.number() {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        return Some(response);
    }
    if let Some(arg) = faults.hits(Name::Status, target) {
        return Some(refusal(target, arg.status()));
    }
    faults.hits(Name::Html, target)?;
    Some(axum::response::Html("<!doctype html><title>Sign in</title><p>Welcome").into_response())
}

/// Reads the start of a body that no registry reads, as servers do before they answer: a connection
/// that closes on unread data is reset, and the client may lose the response.
///
/// Source: Go `net/http`, `maxPostHandlerReadBytes`.
pub(in crate::sandbox) async fn discard_start(body: Body) {
    const MOST: u64 = 256 << 10;
    let mut start = up_to(body.into_data_stream().boxed(), MOST);
    while let Some(Ok(_)) = start.next().await {}
}

/// The redirect to the same path with a mark in its query, unless the request has the mark.
fn redirect(faults: &Faults, target: &Target<'_>) -> Option<Response> {
    const MARK: &str = "redirected=1";
    if target.path.contains(MARK) {
        return None;
    }
    let arg = faults.hits(Name::Redirect, target)?;
    let separator = if target.path.contains('?') { '&' } else { '?' };
    let location = HeaderValue::from_str(&format!("{}{separator}{MARK}", target.path)).ok()?;
    let mut response = arg.status().into_response();
    response.headers_mut().insert(header::LOCATION, location);
    Some(response)
}

/// An error response in the format of the side that the request is for.
fn refusal(target: &Target<'_>, status: StatusCode) -> Response {
    let too_many = status == StatusCode::TOO_MANY_REQUESTS;
    let message = if too_many { "Rate exceeded" } else { "a fault is switched on" };
    if target.path == "/" && target.method == Method::POST {
        // AWS throttles with 400
        let (status, kind) = match too_many {
            true => (StatusCode::BAD_REQUEST, "ThrottlingException"),
            false => (status, "ServerException"),
        };
        let body = serde_json::json!({ "__type": kind, "message": message });
        return crate::sandbox::distribution::json(status, "application/x-amz-json-1.1", &body);
    }
    let code = if too_many { "TOOMANYREQUESTS" } else { "UNKNOWN" };
    Refusal::new(status, code, message).into_response()
}

pub(in crate::sandbox) fn request(
    faults: &Faults,
    target: &Target<'_>,
    mut request: Request,
    stopped: &CancellationToken,
    drop_connection: impl Fn() + Send + 'static,
) -> Request {
    if request.headers().contains_key(header::RANGE)
        && faults.hits(Name::IgnoreRange, target).is_some()
    {
        request.headers_mut().remove(header::RANGE);
    }
    if target.method == Method::POST
        && target.path.contains("mount=")
        && faults.hits(Name::IgnoreMount, target).is_some()
    {
        // the path alone opens a session
        *request.uri_mut() = Uri::from_str(request.uri().path()).unwrap_or_default();
    }
    let uploads = [Method::PUT, Method::PATCH, Method::POST].contains(target.method)
        && target.path.contains("/blobs/uploads/")
        && length(request.headers()) != Some(0);
    if !uploads {
        return request;
    }
    let whole = length(request.headers()).unwrap_or_default();
    let cut_at = match faults.hits(Name::Cut, target) {
        Some(arg) => Some(arg.number().unwrap_or(whole / 2)),
        None => faults.hits(Name::CutLast, target).map(|_| whole.saturating_sub(1)),
    };
    if let Some(until) = cut_at {
        let end = async move {
            drop_connection();
            Err(axum::Error::new("the fault `cut` is switched on"))
        };
        return request.map(|body| {
            let read = up_to(body.into_data_stream().boxed(), until);
            Body::from_stream(read.chain(stream::once(end)))
        });
    }
    if let Some(arg) = faults.hits(Name::Stall, target) {
        let until = arg.number().unwrap_or(whole / 2);
        let stopped = stopped.clone();
        return request.map(|body| {
            let read = up_to(body.into_data_stream().boxed(), until);
            Body::from_stream(read.chain(stream::once(stall(stopped))))
        });
    }
    request
}

pub(in crate::sandbox) fn response(
    faults: &Faults,
    target: &Target<'_>,
    mut response: Response,
    stopped: &CancellationToken,
) -> Response {
    headers(faults, target, response.headers_mut());
    if let Some(arg) = faults.hits(Name::StatusAfter, target) {
        *response.status_mut() = arg.status();
    }
    let Some(length) = body_length(&response).filter(|length| *length > 0) else {
        return response;
    };
    let read = [StatusCode::OK, StatusCode::PARTIAL_CONTENT].contains(&response.status());
    if !read || target.method != Method::GET {
        return response;
    }
    let changes = changes(faults, target, content(target, &response), length);
    if changes.is_empty() {
        return response;
    }
    let stated = changes.iter().fold(length, |length, change| match change {
        Change::End(at) => *at,
        Change::Add => length + 1,
        _ => length,
    });
    response.headers_mut().insert(header::CONTENT_LENGTH, stated.into());
    response.map(|body| {
        let chunks = body.into_data_stream().boxed();
        let apply = |chunks, change| apply(chunks, change, stopped);
        Body::from_stream(changes.into_iter().fold(chunks, apply))
    })
}

/// The kind of a response's body: declared by the backend, else derived from the path.
fn content(target: &Target<'_>, response: &Response) -> Content {
    match response.extensions().get::<Content>() {
        Some(content) => *content,
        None if target.path.contains("/blobs/sha256:") => Content::Blob,
        None => Content::Other,
    }
}

/// The changes to a body of `length` bytes, in the order of application.
fn changes(faults: &Faults, target: &Target<'_>, content: Content, length: u64) -> Vec<Change> {
    let hits = |name| faults.hits_blob(name, target, content);
    let mut changes = Vec::new();
    if hits(Name::Corrupt).is_some() {
        changes.push(Change::Flip(length / 2));
    }
    if hits(Name::Short).is_some() {
        changes.push(Change::End(length - 1));
    } else if hits(Name::Long).is_some() {
        changes.push(Change::Add);
    }
    if let Some(arg) = hits(Name::Slow) {
        changes.push(Change::Slow(arg.number().unwrap_or(1).max(1)));
    }
    if let Some(arg) = hits(Name::Stall) {
        changes.push(Change::Stall(arg.number().unwrap_or(length / 2)));
    } else if let Some(arg) = hits(Name::Cut) {
        changes.push(Change::Cut(arg.number().unwrap_or(length / 2)));
    } else if hits(Name::CutLast).is_some() {
        changes.push(Change::Cut(length - 1));
    }
    changes
}

/// Applies the faults that change response headers.
fn headers(faults: &Faults, target: &Target<'_>, headers: &mut HeaderMap) {
    if headers.contains_key("docker-content-digest")
        && faults.hits(Name::OmitDigest, target).is_some()
    {
        headers.remove("docker-content-digest");
    }
    if headers.contains_key("docker-content-digest")
        && faults.hits(Name::WrongDigest, target).is_some()
    {
        let other = Digest::of(target.path.as_bytes());
        let other = HeaderValue::from_str(other.as_str()).expect("a digest is ASCII");
        headers.insert("docker-content-digest", other);
    }
    let Some(location) = headers.get(header::LOCATION) else { return };
    let made = [Method::POST, Method::PUT].contains(target.method);
    if made && faults.hits(Name::NoLocation, target).is_some() {
        headers.remove(header::LOCATION);
        return;
    }
    let session = location.to_str().ok().filter(|_| *target.method == Method::POST);
    if let Some(moved) = session.and_then(|session| moved(faults, target, session)) {
        headers.insert(header::LOCATION, moved);
        return;
    }
    let path = location.to_str().ok().and_then(|location| location.parse::<Uri>().ok());
    let path = path.and_then(|uri| uri.path_and_query().map(ToString::to_string));
    if made
        && let Some(path) = path.and_then(|path| HeaderValue::from_str(&path).ok())
        && faults.hits(Name::RelativeLocation, target).is_some()
    {
        headers.insert(header::LOCATION, path);
    }
}

/// The changed `Location` of an upload session, if a fault changes it.
fn moved(faults: &Faults, target: &Target<'_>, session: &str) -> Option<HeaderValue> {
    let (before, _) = session.split_once("/blobs/uploads/")?;
    let elsewhere = if faults.hits(Name::WrongLocation, target).is_some() {
        format!("{before}/blobs/uploads/00000000-0000-0000-0000-000000000000")
    } else if faults.hits(Name::CrossHostLocation, target).is_some() {
        // `localhost` is another name for this machine; other hosts get a subdomain that does not
        // answer
        let other = match target.host.strip_prefix("127.0.0.1:") {
            Some(port) => format!("localhost:{port}"),
            None => format!("uploads.{}", target.host),
        };
        session.replacen(target.host, &other, 1)
    } else {
        return None;
    };
    HeaderValue::from_str(&elsewhere).ok()
}

/// A change to a body. Offsets are in bytes from its start.
enum Change {
    Flip(u64),
    End(u64),
    Add,
    Slow(u64),
    Stall(u64),
    Cut(u64),
}

fn apply(chunks: Chunks, change: Change, stopped: &CancellationToken) -> Chunks {
    match change {
        Change::Flip(at) => flip(chunks, at),
        Change::End(at) => up_to(chunks, at),
        Change::Add => chunks.chain(stream::once(future::ok(Bytes::from_static(b"x")))).boxed(),
        Change::Slow(rate) => slow(chunks, rate),
        Change::Stall(at) => up_to(chunks, at).chain(stream::once(stall(stopped.clone()))).boxed(),
        Change::Cut(at) => up_to(chunks, at).chain(stream::once(cut())).boxed(),
    }
}

fn up_to(chunks: Chunks, bytes: u64) -> Chunks {
    stream::unfold((chunks, bytes), |(mut chunks, left)| async move {
        if left == 0 {
            return None;
        }
        let chunk = chunks.next().await?.map(|mut chunk| {
            chunk.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            chunk
        });
        let left = left - chunk.as_ref().map_or(left, |chunk| chunk.len() as u64);
        Some((chunk, (chunks, left)))
    })
    .boxed()
}

fn flip(chunks: Chunks, at: u64) -> Chunks {
    let mut offset = 0;
    let change = move |chunk: Result<Bytes, axum::Error>| {
        let chunk = chunk?;
        let within = at.checked_sub(offset).filter(|within| *within < chunk.len() as u64);
        offset += chunk.len() as u64;
        let Some(within) = within else { return Ok(chunk) };
        let mut bytes = chunk.to_vec();
        bytes[within as usize] ^= 1;
        Ok(bytes.into())
    };
    chunks.map(change).boxed()
}

/// Sends `rate` bytes per second, in pieces of a twentieth of a second.
fn slow(chunks: Chunks, rate: u64) -> Chunks {
    let piece = usize::try_from(rate.div_ceil(20)).unwrap_or(usize::MAX);
    let pause = Duration::from_secs_f64(piece as f64 / rate as f64);
    let pieces = chunks.flat_map(move |chunk| {
        let mut parts = Vec::new();
        match chunk {
            Ok(mut chunk) => {
                while !chunk.is_empty() {
                    parts.push(Ok(chunk.split_to(piece.min(chunk.len()))));
                }
            }
            Err(error) => parts.push(Err(error)),
        }
        stream::iter(parts)
    });
    pieces
        .then(move |part| async move {
            tokio::time::sleep(pause).await;
            part
        })
        .boxed()
}

async fn stall(stopped: CancellationToken) -> Result<Bytes, axum::Error> {
    stopped.cancelled().await;
    Err(axum::Error::new("the sandbox stopped"))
}

async fn cut() -> Result<Bytes, axum::Error> {
    tokio::time::sleep(FLUSH).await;
    Err(axum::Error::new("the fault `cut` is switched on"))
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn body_length(response: &Response) -> Option<u64> {
    use axum::body::HttpBody;
    length(response.headers()).or_else(|| response.body().size_hint().exact())
}
