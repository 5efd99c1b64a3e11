//! Uploads: one POST for a session, one PUT with the whole blob.
//!
//! Two requests a blob, and no PATCH, which ECR mishandles. Time is not
//! limited, standing still is: a body that is not taken, or an answer that
//! does not come, ends the upload; a body that waits for its own source does
//! not, that is the source's to judge.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::{HeaderValue, Method, StatusCode, header};
use reqwest::Request;
use tokio::time::{Instant, sleep};
use url::Url;

use super::{
    client::Registry,
    errors::Operation,
    http::{ApiRequest, ApiResponse},
    redirect::may_follow,
    scope::{Permission, Scope},
    transport::authority,
};
use crate::{
    model::{Descriptor, Digest, Error, Kind, Repository, Result},
    remote::{Body, ByteStream, HostContext, Mount, StallTimeouts, UploadSession, body::BodyStats},
};

/// What to do about a registry that does not say where an upload goes.
const NO_LOCATION: &str = "check the registry, and what is between here and it: a proxy may take `Location` away or \
                           write another one";

/// How long a body may wait for its source, which gives up by itself far earlier.
const STARVATION: Duration = Duration::from_secs(600);

impl Registry {
    /// Opens a session; with `mount`, asks for the blob of another repository first.
    pub(crate) async fn start_upload(
        &self,
        repository: &Repository,
        mount: Option<(&Digest, &Repository)>,
    ) -> Result<Mount> {
        let mut access = Scope::new(repository, Permission::PullPush);
        let mut url = self.url(&format!("{repository}/blobs/uploads/"));
        if let Some((digest, from)) = mount {
            access = access.mounting_from(from);
            url.set_query(Some(&format!("mount={digest}&from={from}")));
        }
        let call = ApiRequest::new(Method::POST, url, &access, Operation::Upload);
        self.context
            .retry()
            .run(&self.context, || async {
                let answer = self.send(&call).await?;
                match (answer.status(), mount) {
                    (StatusCode::CREATED, Some(_)) => Ok(Mount::Mounted),
                    _ => self.session(&answer).map(Mount::Session),
                }
            })
            .await
    }

    /// Sends the blob to the session, once.
    pub(crate) async fn upload(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        session: UploadSession,
        body: Body,
    ) -> Result<()> {
        let access = Scope::new(repository, Permission::PullPush);
        let flow = body.flow();
        let (size, starving) = (body.size(), Arc::new(AtomicBool::new(false)));
        let mut request = Request::new(Method::PUT, completion(session.location, &blob.digest));
        let octets = HeaderValue::from_static("application/octet-stream");
        request.headers_mut().insert(header::CONTENT_TYPE, octets);
        request.headers_mut().insert(header::CONTENT_LENGTH, size.into());
        *request.body_mut() = Some(if size == 0 {
            // nothing would poll an empty stream, and its digest would go unchecked
            Bytes::from(body.read().await?).into()
        } else {
            reqwest::Body::wrap_stream(Watched {
                inner: body.into_stream(),
                starving: Arc::clone(&starving),
                meter: Arc::clone(&self.context),
            })
        });
        // waiting for a connection is no stall
        let leave = self.leave(&request, access, Operation::Upload).await?;
        let subject = leave.subject.clone();
        let sent = tokio::select! {
            sent = self.send_once(request, leave) => sent,
            seconds = stall(&flow, (size, &starving), &self.context.policy.stall) => Err(Error::new(
                Kind::Stalled,
                format!("{subject}: nothing moved for {seconds} s"),
            )),
        };
        // the HTTP client knows only that the body ended, not why
        match flow.fault() {
            Some(fault) => Err(fault),
            None => sent,
        }
    }

    fn session(&self, answer: &ApiResponse) -> Result<UploadSession> {
        let named = answer.header(header::LOCATION).and_then(|to| self.base.join(to).ok());
        let wrong = |problem: String| {
            let problem = format!("{}: {problem}", answer.subject);
            Error::new(Kind::Protocol, problem).hint(NO_LOCATION)
        };
        let location = named.ok_or_else(|| wrong("no `Location` to upload to".to_owned()))?;
        let location = self.over_tls(location);
        match may_follow(&self.transport, &self.base, &location) {
            true => Ok(UploadSession { location }),
            false => Err(wrong(format!(
                "the upload is sent to `{}`, which is not as safe as the registry",
                answer.sent().redact(&authority(&location))
            ))),
        }
    }
}

/// Where the blob is put: the session with its digest.
fn completion(mut location: Url, digest: &Digest) -> Url {
    let query = match location.query() {
        Some(state) if !state.is_empty() => format!("{state}&digest={digest}"),
        _ => format!("digest={digest}"),
    };
    location.set_query(Some(&query));
    location
}

/// A body that counts what passes and tells whether it waits for its source.
struct Watched {
    inner: ByteStream,
    starving: Arc<AtomicBool>,
    meter: Arc<HostContext>,
}

impl Stream for Watched {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.inner.poll_next_unpin(task);
        self.starving.store(polled.is_pending(), Relaxed);
        if let Poll::Ready(Some(Ok(chunk))) = &polled {
            self.meter.bytes.add(chunk.len() as u64);
        }
        polled
    }
}

/// Ends when the upload stands still for too long; the seconds that were too long.
async fn stall(
    flow: &BodyStats,
    (size, starving): (u64, &AtomicBool),
    most: &StallTimeouts,
) -> u64 {
    let mut moved = flow.moved.value();
    let mut state = (moved, starving.load(Relaxed));
    let mut since = Instant::now();
    loop {
        sleep(Duration::from_secs(1).min(most.send / 4)).await;
        moved = flow.moved.value();
        let now = (moved, starving.load(Relaxed));
        if now != state {
            (state, since) = (now, Instant::now());
        }
        let patience = match now {
            (moved, _) if moved >= size => most.completion,
            (_, true) => STARVATION,
            (_, false) => most.send,
        };
        if since.elapsed() >= patience {
            return patience.as_secs();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_joins_what_state_there_is() {
        let digest = Digest::of(b"");
        for (location, expected) in [
            ("https://a/u/1", "https://a/u/1?digest="),
            ("https://a/u/1?", "https://a/u/1?digest="),
            ("https://a/u/1?_state=a%2Bb%3D=", "https://a/u/1?_state=a%2Bb%3D=&digest="),
        ] {
            let url = completion(location.parse().unwrap(), &digest);
            assert_eq!(url.as_str(), format!("{expected}{digest}"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_standing_still_on_the_registrys_side_is_a_stall() {
        let most = StallTimeouts::default();
        for (moved, starving, expected) in
            [(5, false, 60), (5, true, 600), (10, false, 300), (10, true, 300)]
        {
            let flow = BodyStats::default();
            flow.moved.add(moved);
            let begun = Instant::now();
            assert_eq!(stall(&flow, (10, &AtomicBool::new(starving)), &most).await, expected);
            assert_eq!(begun.elapsed().as_secs(), expected);
        }
        // slow, but moving
        let (flow, starving) = (BodyStats::default(), AtomicBool::new(false));
        let moving = async {
            for _ in 0..9 {
                sleep(Duration::from_secs(50)).await;
                flow.moved.add(1);
            }
        };
        tokio::select! {
            seconds = stall(&flow, (10, &starving), &most) => panic!("gave up after {seconds} s"),
            () = moving => {}
        }
    }
}
