//! Blob responses: whole, in part, or headers only.

use std::{
    fs,
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, Method, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use futures::stream;
use tokio::task::JoinHandle;

use super::{ByteRange, byte_range};
use crate::{model::Digest, sandbox::fault::Content};

/// Bytes per read from disk. The next chunk is read while this one is sent.
const CHUNK: u64 = 512 << 10;
/// Up to this many bytes, a read on this thread is faster than a hand-over to another one.
const SMALL: u64 = 64 << 10;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Blob<'a> {
    pub digest: &'a Digest,
    pub size: u64,
    pub media_type: &'a str,
}

/// Answers a GET or HEAD of a blob with 200, 206 and `Content-Range`, or 416.
///
/// Calls `body` for the bytes of the range; not for a HEAD.
pub(crate) async fn blob<F>(
    method: &Method,
    headers: &HeaderMap,
    blob: Blob<'_>,
    body: F,
) -> Response
where
    F: AsyncFnOnce(Range<u64>) -> io::Result<Body>,
{
    let (status, range) = match byte_range(headers, blob.size) {
        ByteRange::All => (StatusCode::OK, 0..blob.size),
        ByteRange::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        ByteRange::Unsatisfiable => (StatusCode::RANGE_NOT_SATISFIABLE, 0..0),
    };
    let mut builder = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, blob.media_type)
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::CONTENT_LENGTH, range.end - range.start)
        .header(header::ETAG, format!("\"{}\"", blob.digest))
        .header(HeaderName::from_static("docker-content-digest"), blob.digest.as_str())
        .extension(Content::Blob);
    if status == StatusCode::PARTIAL_CONTENT {
        let part = format!("bytes {}-{}/{}", range.start, range.end - 1, blob.size);
        builder = builder.header(header::CONTENT_RANGE, part);
    } else if status == StatusCode::RANGE_NOT_SATISFIABLE {
        builder = builder.header(header::CONTENT_RANGE, format!("bytes */{}", blob.size));
    }
    let body = if method == Method::HEAD || range.is_empty() {
        Ok(Body::empty())
    } else {
        body(range).await
    };
    match body {
        Ok(body) => builder.body(body).expect("digests and media types are header values"),
        Err(error) => axum::response::IntoResponse::into_response(super::Refusal::from(error)),
    }
}

pub(crate) async fn file_body(file: tokio::fs::File, range: Range<u64>) -> io::Result<Body> {
    let mut file = file.into_std().await;
    if range.start > 0 {
        file.seek(SeekFrom::Start(range.start))?;
    }
    let left = range.end - range.start;
    if left <= SMALL {
        return Ok(Body::from(read(&mut file, left)?));
    }
    let chunks = stream::try_unfold(read_ahead(file, left), |next| async move {
        let Some((reading, left)) = next else { return Ok::<_, io::Error>(None) };
        let (file, bytes) = reading.await.map_err(io::Error::other)??;
        Ok(Some((bytes, read_ahead(file, left))))
    });
    Ok(Body::from_stream(chunks))
}

type Reading = JoinHandle<io::Result<(fs::File, Bytes)>>;

/// Starts to read the next chunk, and returns the number of bytes left after it.
fn read_ahead(mut file: fs::File, left: u64) -> Option<(Reading, u64)> {
    if left == 0 {
        return None;
    }
    let length = left.min(CHUNK);
    let reading = tokio::task::spawn_blocking(move || {
        let bytes = read(&mut file, length)?;
        Ok((file, bytes))
    });
    Some((reading, left - length))
}

fn read(file: &mut fs::File, length: u64) -> io::Result<Bytes> {
    let mut bytes = Vec::with_capacity(length as usize);
    if file.take(length).read_to_end(&mut bytes)? as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes.into())
}
