//! Ranges: a blob from where it was left, whatever a registry makes of that wish.
//!
//! Guards that no byte is handed on twice, and that a registry which sends all of a blob again
//! is given the time for it, as long as something comes.
//!
//! Source: RFC 9110, 14.

use std::time::Duration;

use futures::{StreamExt, stream};
use http::{StatusCode, header};

use super::http::ApiResponse;
use crate::{
    model::{Descriptor, Error, Kind, Result},
    remote::{ByteStream, body::corrupt, stall::ThroughputGuard},
};

/// How many bytes of the answer to skip, if it is about this part of this blob.
pub(crate) fn skip(answer: &ApiResponse, blob: &Descriptor, from: u64) -> Result<u64> {
    let subject = &answer.subject;
    let (start, total) = match answer.status() {
        StatusCode::PARTIAL_CONTENT => {
            let range = answer.header(header::CONTENT_RANGE).and_then(content_range);
            range.ok_or_else(|| {
                Error::new(Kind::Protocol, format!("{subject}: 206 without a range"))
            })?
        }
        _ => (0, None),
    };
    if start > from {
        let problem = format!("{subject}: asked from byte {from}, answered from byte {start}");
        return Err(Error::new(Kind::Protocol, problem));
    }
    let length = answer.header(header::CONTENT_LENGTH).and_then(|n| n.parse::<u64>().ok());
    let total = total.or_else(|| length.map(|length| start.saturating_add(length)));
    match total {
        Some(total) if total != blob.size => Err(corrupt(format!(
            "blob {} has {total} B at the registry and {} B in the manifest",
            blob.digest, blob.size
        ))),
        _ => Ok(from - start),
    }
}

/// First byte and, where told, total length of `bytes 5-9/10`.
fn content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (unit, range) = value.trim().split_once(' ')?;
    let (range, total) = range.split_once('/')?;
    let (first, _last) = range.split_once('-')?;
    unit.eq_ignore_ascii_case("bytes").then_some(())?;
    Some((first.trim().parse().ok()?, total.trim().parse().ok()))
}

/// The stream without its first bytes, once they have come: whoever reads it would take the time
/// they need for standing still.
///
/// # Errors
/// Those of the stream, and [`Kind::Stalled`] where nothing comes for `stall`, or too little.
pub(crate) async fn without(
    skip: u64,
    mut stream: ByteStream,
    stall: Duration,
) -> Result<ByteStream> {
    let (mut left, mut pulse) = (skip, ThroughputGuard::default());
    while left > 0 {
        let Some(chunk) = pulse.next(&mut stream, stall).await else {
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
    use futures::TryStreamExt;
    use tokio::time::sleep;

    use super::*;

    const STALL: Duration = Duration::from_secs(30);

    #[test]
    fn a_content_range_tells_start_and_total() {
        for (value, expected) in [
            ("bytes 5-9/10", Some((5, Some(10)))),
            ("Bytes 0-9/*", Some((0, None))),
            ("bytes */10", None),
            ("items 5-9/10", None),
            ("bytes 5", None),
            ("", None),
        ] {
            assert_eq!(content_range(value), expected, "{value}");
        }
    }

    #[tokio::test]
    async fn skipped_bytes_are_skipped_across_chunks() {
        for skip in 0..9 {
            let chunks = ["ab", "", "cde", "fg"].map(|c| Ok(Bytes::from_static(c.as_bytes())));
            let rest = without(skip, stream::iter(chunks).boxed(), STALL).await.unwrap();
            let rest: Vec<Bytes> = rest.try_collect().await.unwrap();
            assert_eq!(rest.concat(), b"abcdefg"[7.min(skip as usize)..]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_skipped_may_take_long_and_neither_stand_still_nor_trickle() {
        for (chunk, pause, comes) in [(64 << 10, 20, true), (64 << 10, 31, false), (64, 20, false)]
        {
            let chunks =
                stream::repeat(Bytes::from(vec![0; chunk])).then(move |chunk| async move {
                    sleep(Duration::from_secs(pause)).await;
                    Ok(chunk)
                });
            let rest = without(1 << 20, chunks.boxed(), STALL).await;
            assert_eq!(
                rest.map(drop).map_err(|error| error.kind()).is_ok(),
                comes,
                "{chunk} {pause}"
            );
        }
    }
}
