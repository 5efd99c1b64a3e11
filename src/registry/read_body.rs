//! Reads response bodies into memory, with limits for their size and their time.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Response;

use super::transport::connection_broke;
use crate::{
    model::{Error, Kind, Result},
    remote::stall::within,
};

/// Total time for one document, because a document that trickles is as bad as one that stalls.
const DOCUMENT_TIMEOUT: Duration = Duration::from_secs(300);

/// Reads a body of at most `limit` bytes. Some of them must arrive within every `stall`.
///
/// # Errors
/// [`Kind::TooLarge`], [`Kind::Stalled`] and [`Kind::Unavailable`].
pub(crate) async fn read_body(
    mut response: Response,
    limit: u64,
    subject: &str,
    stall: Duration,
) -> Result<Bytes> {
    let too_large =
        || Error::new(Kind::TooLarge, format!("{subject}: the response has more than {limit} B"));
    let collect = async {
        if response.content_length().is_some_and(|length| length > limit) {
            return Err(too_large());
        }
        let stalled = format!("{subject}: no data for");
        let mut body = Vec::new();
        loop {
            let chunk = within(stall, &stalled, response.chunk()).await?;
            let Some(chunk) = chunk.map_err(|error| connection_broke(error, subject))? else {
                return Ok(body.into());
            };
            if (body.len() + chunk.len()) as u64 > limit {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
    };
    within(DOCUMENT_TIMEOUT, &format!("{subject}: the response is incomplete after"), collect)
        .await?
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt, stream};
    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test]
    async fn a_body_has_at_most_the_limit_with_and_without_a_length() {
        for (sizes, expected) in [
            (&[9][..], Ok(9)),
            (&[10], Ok(10)),
            (&[11], Err(Kind::TooLarge)),
            (&[5, 5], Ok(10)),
            (&[5, 6], Err(Kind::TooLarge)),
            (&[9, 2, 1], Err(Kind::TooLarge)),
        ] {
            let all = vec![b'.'; sizes.iter().sum()];
            let chunks: Vec<_> =
                sizes.iter().map(|size| Ok::<_, std::io::Error>(vec![b'.'; *size])).collect();
            let streamed = reqwest::Body::wrap_stream(stream::iter(chunks));
            for body in [all.into(), streamed] {
                let response = http::Response::new(body).into();
                let read = read_body(response, 10, "GET x", DOCUMENT_TIMEOUT).await;
                let read = read.map(|body| body.len()).map_err(|error| error.kind());
                assert_eq!(read, expected, "{sizes:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_document_that_trickles_fails_after_its_total_timeout() {
        for (pause, arrives) in [(20, false), (1, true)] {
            let trickle = stream::iter(0..100).then(move |_| async move {
                sleep(Duration::from_secs(pause)).await;
                Ok::<_, std::io::Error>(Bytes::from_static(b"."))
            });
            let body = reqwest::Body::wrap_stream(trickle);
            let started = Instant::now();
            let response = http::Response::new(body).into();
            let read = read_body(response, 1_000, "GET x", DOCUMENT_TIMEOUT).await;
            match arrives {
                true => assert_eq!(read.unwrap().len(), 100),
                false => assert_eq!(read.unwrap_err().kind(), Kind::Stalled),
            }
            assert!(started.elapsed() <= DOCUMENT_TIMEOUT);
        }
    }
}
