//! Range requests: the rest of a blob, even from a registry that ignores `Range`.
//!
//! Hands on no byte twice. Gives a registry that sends the whole blob again the time for it, while
//! data moves.
//!
//! Source: RFC 9110, 14.

use std::time::Duration;

use futures::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::http::ApiResponse;
use crate::{
    model::{Descriptor, Result},
    remote::{ByteStream, body::corrupt, stall::ThroughputGuard},
};

/// Requests the blob from this offset.
pub(crate) fn add(headers: &mut HeaderMap, from: u64) {
    if from > 0 {
        let range = HeaderValue::from_str(&format!("bytes={from}-"));
        headers.insert(header::RANGE, range.expect("digits fit a header"));
    }
}

/// The bytes of the response before offset `from` of the blob.
///
/// # Errors
/// [`Kind::Protocol`] for another part of the blob, [`Kind::Corrupt`] for a blob of another size.
pub(crate) fn bytes_to_skip(response: &ApiResponse, blob: &Descriptor, from: u64) -> Result<u64> {
    let range = match response.status() {
        StatusCode::PARTIAL_CONTENT => {
            let range = response.header(header::CONTENT_RANGE).and_then(parse_content_range);
            range.ok_or_else(|| response.protocol_error("206 without `Content-Range`"))?
        }
        _ => ContentRange { start: 0, total: None },
    };
    let ContentRange { start, total } = range;
    if start > from {
        let problem = format!("requested byte {from}, received byte {start}");
        return Err(response.protocol_error(&problem));
    }
    match total.or_else(|| Some(start.saturating_add(response.length()?))) {
        Some(total) if total != blob.size => Err(corrupt(format!(
            "blob {} has {total} B at the registry and {} B in the manifest",
            blob.digest, blob.size
        ))),
        _ => Ok(from - start),
    }
}

struct ContentRange {
    start: u64,
    total: Option<u64>,
}

/// Parses a header like `bytes 5-9/10`.
fn parse_content_range(value: &str) -> Option<ContentRange> {
    let (unit, range) = value.trim().split_once(' ')?;
    let (range, total) = range.split_once('/')?;
    let (first, _last) = range.split_once('-')?;
    unit.eq_ignore_ascii_case("bytes").then_some(())?;
    Some(ContentRange { start: first.trim().parse().ok()?, total: total.trim().parse().ok() })
}

/// Reads and drops the first bytes of the stream, because its reader would count the time for them
/// as a stall.
///
/// # Errors
/// The stream's, and [`Kind::Stalled`] if nothing, or only a trickle, arrives within `stall`.
pub(crate) async fn skip(
    bytes: u64,
    mut stream: ByteStream,
    stall: Duration,
) -> Result<ByteStream> {
    let (mut left, mut throughput) = (bytes, ThroughputGuard::default());
    while left > 0 {
        let Some(chunk) = throughput.next(&mut stream, stall).await else {
            return Ok(stream::empty().boxed());
        };
        let mut chunk = chunk?;
        let cut = usize::try_from(left).map_or(chunk.len(), |left| left.min(chunk.len()));
        left -= cut as u64;
        let rest = chunk.split_off(cut);
        if !rest.is_empty() {
            return Ok(stream::iter([Ok(rest)]).chain(stream).boxed());
        }
    }
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::{FutureExt, TryStreamExt};
    use tokio::time::sleep;

    use super::*;

    const STALL: Duration = Duration::from_secs(30);

    #[test]
    fn a_content_range_has_a_start_and_perhaps_a_total() {
        for (value, expected) in [
            ("bytes 5-9/10", Some((5, Some(10)))),
            ("Bytes 0-9/*", Some((0, None))),
            ("bytes */10", None),
            ("items 5-9/10", None),
            ("bytes 5", None),
            ("", None),
        ] {
            let range = parse_content_range(value).map(|range| (range.start, range.total));
            assert_eq!(range, expected, "{value}");
        }
    }

    #[tokio::test]
    async fn bytes_are_skipped_across_chunks() {
        for bytes in 0..9 {
            let chunks = ["ab", "", "cde", "fg"].map(|c| Ok(Bytes::from_static(c.as_bytes())));
            let rest = skip(bytes, stream::iter(chunks).boxed(), STALL).await.unwrap();
            let rest: Vec<Bytes> = rest.try_collect().await.unwrap();
            assert_eq!(rest.concat(), b"abcdefg"[7.min(bytes as usize)..]);
        }
    }

    #[tokio::test]
    async fn a_stream_is_handed_on_before_its_next_bytes_arrive() {
        for bytes in [0, 2] {
            let begin = stream::iter([Ok(Bytes::from_static(b"ab"))]).skip(usize::from(bytes == 0));
            let skipped = skip(bytes, begin.chain(stream::pending()).boxed(), STALL);
            assert!(skipped.now_or_never().is_some(), "{bytes}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn skipping_may_take_long_but_neither_stall_nor_trickle() {
        for (chunk, pause, arrives) in
            [(64 << 10, 20, true), (64 << 10, 31, false), (64, 20, false)]
        {
            let chunks =
                stream::repeat(Bytes::from(vec![0; chunk])).then(move |chunk| async move {
                    sleep(Duration::from_secs(pause)).await;
                    Ok(chunk)
                });
            let rest = skip(1 << 20, chunks.boxed(), STALL).await;
            assert_eq!(
                rest.map(drop).map_err(|error| error.kind()).is_ok(),
                arrives,
                "{chunk} {pause}"
            );
        }
    }
}
