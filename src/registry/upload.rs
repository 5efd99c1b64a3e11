//! Uploads a blob: a POST opens a session, one PUT sends the whole blob.
//!
//! A registry that refuses the whole blob gets chunks for the rest of the run: a PATCH for each,
//! and an empty PUT. ECR is excepted, because it mishandles PATCH. A chunk streams from the source
//! like a whole blob, and no chunk is kept in memory.
//!
//! There is no total timeout: an upload fails when the registry accepts no more bytes, or does not
//! respond. A body that waits for its source is the source's to judge.

use std::{
    mem,
    ops::Range,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Poll, ready},
};

use bytes::Bytes;
use futures::{FutureExt, Stream, StreamExt, TryStreamExt, stream};
use http::{HeaderValue, Method, StatusCode, header};
use parking_lot::Mutex;
use reqwest::Request;
use tokio::{sync::oneshot, time::timeout};
use url::Url;

use super::{
    client::{REDIRECTS, Registry},
    content::RepositoryClient,
    errors::Operation,
    http::{ApiRequest, ApiResponse, Confirmation, UploadAnswer, confirmation, unconfirmed},
    redirect::{keeps_method, may_follow, next_hop},
    transport::authority,
};
use crate::{
    model::{Descriptor, Digest, Error, Kind, Repository, Result},
    remote::{
        Body, ByteStream, Mount, UploadSession,
        stall::{BodyStats, stalled},
    },
};

/// The length of the first chunks, in bytes. A registry that refuses them gets smaller ones.
const CHUNK: u64 = 16 << 20;

/// The shortest chunk, in bytes, that a registry gets without asking for it.
const SHORTEST_CHUNK: u64 = 64 << 10;

/// The form of the uploads to one registry, which its answers determine.
#[derive(Debug)]
pub(crate) struct UploadMode {
    allows_chunks: bool,
    /// The length of a chunk in bytes; 0 for whole blobs.
    chunk: AtomicU64,
    /// The redirects between the session's URL and the host that stores the blob.
    redirects: AtomicUsize,
    /// The uploads that broke and were not repeated yet.
    broken: AtomicUsize,
}

impl UploadMode {
    pub(crate) fn new(allows_chunks: bool) -> Self {
        let (chunk, redirects, broken) = Default::default();
        Self { allows_chunks, chunk, redirects, broken }
    }

    /// The length of the session's chunks; `None` for a whole blob.
    fn chunk(&self, session: &UploadSession) -> Option<u64> {
        match self.chunk.load(Relaxed) {
            0 => None,
            chunk => Some(chunk.max(session.min_chunk)),
        }
    }

    /// Changes to chunks. Returns `false` if the registry must not get them.
    fn use_chunks(&self) -> bool {
        if self.allows_chunks {
            // another upload may have made them shorter
            let _ = self.chunk.compare_exchange(0, CHUNK, Relaxed, Relaxed);
        }
        self.allows_chunks
    }

    /// Changes to chunks shorter than `refused` bytes. Returns `false` if they would be too short.
    fn use_shorter_chunks(&self, refused: u64, min_chunk: u64) -> bool {
        let shorter = refused / 4;
        if shorter < SHORTEST_CHUNK.max(min_chunk) {
            return false;
        }
        self.chunk.fetch_min(shorter, Relaxed);
        true
    }

    /// Returns `true` if the answer may come before the body: the body then waits for it.
    fn expects_early_answer(&self, redirects: usize) -> bool {
        let repeats = || {
            let less = |broken: usize| broken.checked_sub(1);
            redirects == 0 && self.broken.fetch_update(Relaxed, Relaxed, less).is_ok()
        };
        redirects < self.redirects.load(Relaxed) || repeats()
    }
}

impl RepositoryClient<'_> {
    /// Opens an upload session.
    pub(crate) async fn open_upload(&self) -> Result<UploadSession> {
        let (registry, request) = (self.registry, self.session_request());
        let post = || async { session(registry, &registry.send(&request).await?) };
        registry.context.retry(post).await
    }

    /// Mounts the blob from another repository, or opens an upload session.
    pub(crate) async fn mount(self, digest: &Digest, from: &Repository) -> Result<Mount> {
        let client = Self { scope: self.scope.mounting_from(from), ..self };
        client.send_mount(digest, from).await
    }

    /// Mounts the blob from this repository itself, or opens an upload session.
    pub(crate) async fn mount_own(&self, digest: &Digest) -> Result<Mount> {
        self.send_mount(digest, &self.scope.repository).await
    }

    async fn send_mount(&self, digest: &Digest, from: &Repository) -> Result<Mount> {
        let mut request = self.session_request();
        request.url.set_query(Some(&format!("mount={digest}&from={from}")));
        let post = || async {
            let response = self.registry.send(&request).await?;
            match response.status() {
                StatusCode::ACCEPTED => session(self.registry, &response).map(Mount::Session),
                // the push of a manifest finds out whether a mounted blob is there
                _ => response.confirmation(digest).map(|_| Mount::Mounted),
            }
        };
        self.registry.context.retry(post).await
    }

    /// Sends the blob to the session, whole or in chunks. Makes one attempt.
    pub(crate) async fn upload(
        self,
        blob: &Descriptor,
        session: UploadSession,
        body: Body,
    ) -> Result<()> {
        let (stats, size) = (body.stats(), body.size());
        let content = if size == 0 {
            // the HTTP client does not poll an empty stream, so that its digest would stay unchecked
            body.read().await?;
            stream::empty().boxed()
        } else {
            let traffic = Arc::clone(&self.registry.context.stats);
            let count = move |chunk: &Bytes| traffic.bytes.add(chunk.len() as u64);
            body.into_stream().inspect_ok(count).boxed()
        };
        let content = UnsentBytes { stream: content, rest: Bytes::new(), taken: 0, request: 0 };
        let content = Arc::new(Mutex::new(content));
        let upload = BlobUpload { client: &self, blob, size, content, stats };
        match self.registry.uploads.chunk(&session) {
            None => upload.send_whole(session).await,
            Some(chunk) => upload.send_in_chunks(session, chunk).await,
        }
    }

    fn session_request(&self) -> ApiRequest<'_> {
        self.request(Method::POST, "blobs/uploads/", Operation::Upload)
    }
}

/// The bytes of a blob that no request has sent yet.
struct UnsentBytes {
    stream: ByteStream,
    /// The bytes of the last chunk of the stream that belong to the next request.
    rest: Bytes,
    /// The number of bytes that requests have taken.
    taken: u64,
    /// The number of the request that may take bytes.
    request: usize,
}

impl UnsentBytes {
    /// The next `length` bytes, for one request. Waits until `gate` opens.
    fn part(
        content: &Arc<Mutex<Self>>,
        length: u64,
        gate: oneshot::Receiver<()>,
    ) -> impl Stream<Item = Result<Bytes>> + Send + 'static {
        let request = content.lock().request;
        let (content, mut left, mut gate) = (Arc::clone(content), length, Some(gate));
        stream::poll_fn(move |task| {
            if let Some(closed) = &mut gate {
                if ready!(closed.poll_unpin(task)).is_err() {
                    return Poll::Ready(None);
                }
                gate = None;
            }
            let mut content = content.lock();
            if left == 0 || content.request != request {
                return Poll::Ready(None);
            }
            let next = match content.rest.is_empty() {
                true => ready!(content.stream.poll_next_unpin(task)),
                false => Some(Ok(mem::take(&mut content.rest))),
            };
            Poll::Ready(next.map(|chunk| {
                let mut chunk = chunk?;
                let length = usize::try_from(left).map_or(chunk.len(), |it| it.min(chunk.len()));
                content.rest = chunk.split_off(length);
                content.taken += length as u64;
                left -= length as u64;
                Ok(chunk)
            }))
        })
    }
}

/// One attempt to upload a blob.
struct BlobUpload<'a> {
    client: &'a RepositoryClient<'a>,
    blob: &'a Descriptor,
    /// In bytes.
    size: u64,
    content: Arc<Mutex<UnsentBytes>>,
    stats: Arc<BodyStats>,
}

impl BlobUpload<'_> {
    async fn send_whole(&self, session: UploadSession) -> Result<()> {
        let url = completion(session.location, &self.blob.digest);
        let answer = self.send(Method::PUT, url, 0..self.size).await?;
        let status = answer.status;
        let Err(refusal) = self.conclude(answer).await else { return Ok(()) };
        // a lost session is the session's, and not the form's
        let is_form = match status {
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::PAYLOAD_TOO_LARGE => true,
            StatusCode::NOT_FOUND => !refusal.is_transient() && refusal.kind() != Kind::Denied,
            _ => false,
        };
        if self.size > 0 && is_form && self.client.registry.uploads.use_chunks() {
            return Err(repeated(
                "the registry refuses the whole blob, sending it in chunks",
                refusal,
            ));
        }
        Err(refusal)
    }

    async fn send_in_chunks(&self, session: UploadSession, chunk: u64) -> Result<()> {
        let registry = self.client.registry;
        let UploadSession { mut location, min_chunk } = session;
        let mut start = 0;
        while start < self.size {
            let end = self.size.min(start + chunk);
            let answer = self.send(Method::PATCH, location.clone(), start..end).await?;
            match (answer.refusal, answer.status.as_u16()) {
                (Some(refusal), 413)
                    if registry.uploads.use_shorter_chunks(end - start, min_chunk) =>
                {
                    return Err(repeated(
                        "the registry refuses a chunk, sending shorter ones",
                        refusal,
                    ));
                }
                (Some(refusal), _) => return Err(refusal),
                // ECR answers 201, others 204. Source: pulp/pulp_container#2199
                (None, 201..=204) => {}
                (None, status) => {
                    let problem =
                        format!("{}: {status} does not confirm the chunk", answer.subject);
                    return Err(Error::new(Kind::Protocol, problem));
                }
            }
            if answer.headers.contains_key(header::LOCATION) {
                let next = next_location(registry, &answer.url, &answer.headers);
                let problem = || format!("{}: the next `Location` is not usable", answer.subject);
                location = next.ok_or_else(|| Error::new(Kind::Protocol, problem()))?;
            }
            start = end;
        }
        let url = completion(location, &self.blob.digest);
        let answer = self.send(Method::PUT, url, self.size..self.size).await?;
        self.conclude(answer).await
    }

    /// The result of the final PUT.
    async fn conclude(&self, answer: UploadAnswer) -> Result<()> {
        let digest = &self.blob.digest;
        let UploadAnswer { subject, status, headers, refusal, .. } = answer;
        let Some(refusal) = refusal else {
            let confirmed = confirmation(&subject, status, &headers, digest)?;
            let is_stored = confirmed == Confirmation::Named || self.is_stored().await;
            let problem = "the registry does not have";
            return match is_stored {
                true => Ok(()),
                false => Err(unconfirmed(&subject, status, problem, digest)),
            };
        };
        // another client may have stored the blob since it was missing, and some registries then
        // refuse to store it again. Source: sonatype/nexus-public#967
        let may_be_stored = !matches!(status.as_u16(), 401 | 403 | 429);
        if may_be_stored && self.is_stored().await {
            tracing::debug!(%digest, %refusal, "the registry refuses the blob, and has it");
            return Ok(());
        }
        Err(refusal)
    }

    async fn is_stored(&self) -> bool {
        self.client.head_blob(self.blob).await.is_ok()
    }

    /// Sends this part of the blob in one request. Follows redirects that arrive before the registry
    /// has read a byte.
    async fn send(&self, method: Method, mut url: Url, part: Range<u64>) -> Result<UploadAnswer> {
        let RepositoryClient { registry, scope } = self.client;
        let mode = &registry.uploads;
        let mut redirects = 0;
        loop {
            let (opener, gate) = oneshot::channel();
            let request = self.request(&method, &url, &part, gate);
            // before the watch begins: waiting for a connection is no stall
            let prepared = registry.prepare_upload(&request, scope.clone()).await?;
            let subject = prepared.subject.clone();
            let mut sending = pin!(registry.send_upload(request, prepared));
            let limits = &registry.context.policy.stall;
            let early = match !part.is_empty() && mode.expects_early_answer(redirects) {
                true => timeout(limits.early, &mut sending).await.ok(),
                false => None,
            };
            let sent = match early {
                Some(answer) => answer,
                None => {
                    opener.send(()).ok();
                    tokio::select! {
                        sent = &mut sending => sent,
                        limit = self.stats.exceeded_limit(part.end, limits) => {
                            Err(stalled(&format!("{subject}: no data moved for"), limit))
                        }
                    }
                }
            };
            // the HTTP client reports that the body ended, and not why
            if let Some(fault) = self.stats.fault() {
                return Err(fault);
            }
            let answer = sent.inspect_err(|error| {
                // a registry that refuses a body unread may close the connection too early
                let is_broken = error.kind() == Kind::Unavailable && !self.reclaim(part.start);
                mode.broken.fetch_add(usize::from(is_broken), Relaxed);
            })?;
            if !keeps_method(answer.status) {
                return Ok(answer);
            }
            let UploadAnswer { subject, status, headers, .. } = answer;
            url = next_hop(&registry.transport, &url, &headers, &subject, status)?;
            redirects += 1;
            if !self.reclaim(part.start) {
                mode.redirects.fetch_max(redirects, Relaxed);
                let problem = format!("{subject}: {} redirects the upload", status.as_u16());
                return Err(Error::new(Kind::Unavailable, problem));
            }
            if redirects > REDIRECTS {
                let problem = format!("{subject}: more than {REDIRECTS} redirects");
                return Err(Error::new(Kind::Protocol, problem));
            }
        }
    }

    fn request(
        &self,
        method: &Method,
        url: &Url,
        part: &Range<u64>,
        gate: oneshot::Receiver<()>,
    ) -> Request {
        let mut request = Request::new(method.clone(), url.clone());
        let length = part.end - part.start;
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(header::CONTENT_LENGTH, length.into());
        if method == Method::PATCH {
            // without a unit. Source: OCI distribution specification 1.1, "Pushing a blob in chunks"
            let range = HeaderValue::from_str(&format!("{}-{}", part.start, part.end - 1));
            headers.insert(header::CONTENT_RANGE, range.expect("digits fit a header"));
        }
        *request.body_mut() = Some(match part.is_empty() {
            true => Bytes::new().into(),
            false => reqwest::Body::wrap_stream(UnsentBytes::part(&self.content, length, gate)),
        });
        request
    }

    /// Takes the bytes from this offset on back from the requests so far. Returns `false` if one of
    /// them has taken some.
    fn reclaim(&self, start: u64) -> bool {
        let mut content = self.content.lock();
        let is_untouched = content.taken == start;
        content.request += usize::from(is_untouched);
        is_untouched
    }
}

/// The error of an upload that the next attempt sends in another form.
fn repeated(problem: &str, refusal: Error) -> Error {
    Error::new(Kind::Unavailable, problem).because(refusal)
}

fn session(registry: &Registry, response: &ApiResponse) -> Result<UploadSession> {
    let wrong = |problem: &str| {
        response.protocol_error(problem).hint(
            "check the registry and the proxies in front of it: a proxy may remove or rewrite \
             `Location`",
        )
    };
    let location = response.header(header::LOCATION).and_then(|to| response.url.join(to).ok());
    let location =
        location.ok_or_else(|| wrong("the response has no `Location` for the upload"))?;
    let location = registry.over_tls(location);
    if may_follow(&registry.transport, &registry.base, &location) {
        let min_chunk = response.header("oci-chunk-min-length").and_then(|it| it.parse().ok());
        return Ok(UploadSession { location, min_chunk: min_chunk.unwrap_or_default() });
    }
    let host = response.secrets().redact(&authority(&location));
    Err(wrong(&format!("the upload location `{host}` is less secure than the registry")))
}

/// The session's next URL after a chunk, relative to the chunk's.
fn next_location(registry: &Registry, from: &Url, headers: &http::HeaderMap) -> Option<Url> {
    let location = from.join(headers.get(header::LOCATION)?.to_str().ok()?).ok()?;
    let location = registry.over_tls(location);
    may_follow(&registry.transport, &registry.base, &location).then_some(location)
}

/// The URL of the PUT: the session's with the digest.
fn completion(mut location: Url, digest: &Digest) -> Url {
    let query = match location.query() {
        Some(state) if !state.is_empty() => format!("{state}&digest={digest}"),
        _ => format!("digest={digest}"),
    };
    location.set_query(Some(&query));
    location
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_added_to_the_sessions_query() {
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
}
