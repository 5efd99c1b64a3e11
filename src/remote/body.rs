//! Blob bodies: verified while they pass, resumed after a broken connection, shared by consumers.
//!
//! No consumer receives the last chunk of a blob with a wrong digest or length, so that its upload
//! cannot complete.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{FutureExt, Stream, StreamExt, TryStreamExt, future::join_all, stream};
use sha2::{Digest as _, Sha256};
use tokio::{sync::mpsc, time::sleep};

use super::{
    ByteStream, HostContext, Source,
    stall::{BodyStats, StallTimeouts, ThroughputGuard},
};
use crate::model::{
    Descriptor, Digest, Error, Kind, Platform, Repository, Result,
    content::{MANIFEST_LIMIT, too_large},
    event::Progress,
    platform::known_platform,
};

/// The longest wait inside a transfer for a source that asks to wait. The destination's request is
/// open meanwhile: all attempts together must take less than a starving upload may.
const WAIT_INSIDE: Duration = Duration::from_secs(30);

/// Chunks that wait for the slowest of several consumers, each at most about half a MiB.
const TEE_DEPTH: usize = 1;

/// The bytes of a blob, to be sent once.
pub struct Body {
    size: u64,
    stream: ByteStream,
    stats: Arc<BodyStats>,
}

impl Body {
    /// A body of exactly `size` bytes; the stream must yield them or fail.
    pub fn new(size: u64, stream: impl Stream<Item = Result<Bytes>> + Send + 'static) -> Self {
        let stats = Arc::new(BodyStats::default());
        let (recorder, mut stream) = (Arc::clone(&stats), stream.boxed());
        let stream = stream::poll_fn(move |task| {
            let polled = stream.poll_next_unpin(task);
            recorder.record(&polled);
            polled
        });
        Self { size, stream: stream.boxed(), stats }
    }

    /// Adds the bytes that pass to an image's progress.
    pub fn with_progress(mut self, progress: Arc<Progress>) -> Self {
        let add = move |chunk: &Bytes| progress.pushed.add(chunk.len() as u64);
        self.stream = self.stream.inspect_ok(add).boxed();
        self
    }

    /// The length in bytes, for `Content-Length`.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The statistics to watch while the body is sent.
    pub fn stats(&self) -> Arc<BodyStats> {
        Arc::clone(&self.stats)
    }

    /// The bytes.
    pub fn into_stream(self) -> ByteStream {
        self.stream
    }

    /// Waits for the first bytes, which prove that the blob exists.
    ///
    /// # Errors
    /// The stream's, if it begins with one.
    pub async fn begin(mut self) -> Result<Self> {
        if let Some(first) = self.stream.next().await {
            self.stream = stream::iter([Ok(first?)]).chain(self.stream).boxed();
        }
        Ok(self)
    }

    /// Reads a small blob into memory.
    ///
    /// # Errors
    /// The stream's.
    pub async fn read(self) -> Result<Vec<u8>> {
        self.stream.map_ok(Vec::from).try_concat().await
    }
}

/// Reads the platform from an image's config, which `open` opens. Returns `None` if the config does
/// not name it; and opens nothing for a descriptor of other content.
///
/// # Errors
/// The body's, and [`Kind::Corrupt`] if the config is not a JSON object.
pub(crate) async fn platform(
    config: &Descriptor,
    open: impl FnOnce() -> Body,
) -> Result<Option<Platform>> {
    match has_platform(config)? {
        true => platform_in(config, &open().read().await?),
        false => Ok(None),
    }
}

/// Does the same as [`platform`] for an image that a registry has. Makes one attempt.
///
/// # Errors
/// Those of the registry, and [`Kind::Corrupt`] if the config has another digest.
pub(crate) async fn stored_platform<S: Source>(
    registry: &S,
    repository: &Repository,
    config: &Descriptor,
) -> Result<Option<Platform>> {
    if !has_platform(config)? {
        return Ok(None);
    }
    let mut stream = registry.blob(repository, config, 0).await?;
    let (mut bytes, mut throughput) = (Vec::new(), ThroughputGuard::default());
    let longest = StallTimeouts::default().read;
    while bytes.len() as u64 <= config.size
        && let Some(chunk) = throughput.next(&mut stream, longest).await
    {
        bytes.extend_from_slice(&chunk?);
    }
    match Digest::of(&bytes) == config.digest {
        true => platform_in(config, &bytes),
        false => Err(Error::new(Kind::Corrupt, format!("config {} is damaged", config.digest))),
    }
}

/// Returns `true` for the config of an image.
///
/// # Errors
/// [`Kind::TooLarge`] for one that is not read into memory.
fn has_platform(config: &Descriptor) -> Result<bool> {
    if config.is_image_config() && config.size > MANIFEST_LIMIT {
        return Err(too_large(config.size).context("cannot read the image's config"));
    }
    Ok(config.is_image_config())
}

fn platform_in(config: &Descriptor, bytes: &[u8]) -> Result<Option<Platform>> {
    known_platform(&mut serde_json::Deserializer::from_slice(bytes)).map_err(|cause| {
        Error::new(Kind::Corrupt, format!("config {} cannot be read", config.digest)).because(cause)
    })
}

/// A body that hashes the blob while it passes, and resumes it after a broken connection.
///
/// Fails with [`Kind::Corrupt`] before the last chunk if length or digest differ from the
/// descriptor. Counts bytes and retries in `context`.
pub(crate) fn verified<S: Source>(
    source: Arc<S>,
    repository: Repository,
    blob: Descriptor,
    context: Arc<HostContext>,
) -> Body {
    let size = blob.size;
    let download = Download {
        source,
        repository,
        blob,
        context,
        offset: 0,
        hasher: Sha256::new(),
        stream: None,
        fruitless: 0,
        throughput: ThroughputGuard::default(),
    };
    let chunks = stream::try_unfold(download, |mut download| async move {
        let chunk = download.next().await.map_err(Error::of_source)?;
        Ok(chunk.map(|chunk| (chunk, download)))
    });
    Body::new(size, chunks)
}

struct Download<S> {
    source: Arc<S>,
    repository: Repository,
    blob: Descriptor,
    context: Arc<HostContext>,
    offset: u64,
    hasher: Sha256,
    stream: Option<ByteStream>,
    /// Attempts in a row without a byte, or all attempts that ended as a trickle.
    fruitless: u32,
    throughput: ThroughputGuard,
}

impl<S: Source> Download<S> {
    /// The next chunk; `None` after the last one. Verifies the blob before its last chunk.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.offset == self.blob.size {
            // only an empty blob gets here unverified
            return if self.blob.size == 0 { self.verify().map(|()| None) } else { Ok(None) };
        }
        loop {
            match self.receive().await {
                Ok(chunk) => {
                    self.fruitless = 0;
                    self.offset += chunk.len() as u64;
                    self.context.stats.bytes.add(chunk.len() as u64);
                    self.hasher.update(&chunk);
                    if self.offset >= self.blob.size {
                        self.verify().map_err(|error| self.mark_retryable(error))?;
                    }
                    return Ok(Some(chunk));
                }
                Err(error) => {
                    self.stream = None;
                    // a trickle has bytes, and still counts
                    self.fruitless = (self.fruitless + 1).max(self.throughput.trickles);
                    tracing::debug!(blob = %self.blob.digest, offset = self.offset, %error, "the download broke");
                    // before the first byte no upload waits
                    let longest = if self.offset > 0 { WAIT_INSIDE } else { Duration::MAX };
                    sleep(self.context.grant_retry_within(longest, error, self.fruitless)?).await;
                }
            }
        }
    }

    async fn receive(&mut self) -> Result<Bytes> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let opened = self.source.blob(&self.repository, &self.blob, self.offset).await?;
                self.stream.insert(opened)
            }
        };
        let chunk = self.throughput.next(stream, self.context.policy.stall.read).await;
        chunk.unwrap_or_else(|| {
            let problem =
                format!("the connection ended after {} of {} B", self.offset, self.blob.size);
            Err(Error::new(Kind::Unavailable, problem))
        })
    }

    /// Marks corruption as transient if it came from a mirror: another read can succeed.
    fn mark_retryable(&self, error: Error) -> Error {
        match self.source.report_corrupt(&self.blob.digest) {
            true => Error::new(Kind::Unavailable, "a mirror sent damaged content").because(error),
            false => error,
        }
    }

    fn verify(&mut self) -> Result<()> {
        let blob = &self.blob;
        if self.offset > blob.size {
            let problem = format!("blob {} is longer than its {} B", blob.digest, blob.size);
            return Err(corrupt(problem));
        }
        let actual = Digest::from_hasher(std::mem::replace(&mut self.hasher, Sha256::new()));
        if actual != blob.digest {
            return Err(corrupt(format!("blob {} has digest {actual}", blob.digest)));
        }
        self.context.policy.record_success();
        Ok(())
    }
}

/// The error for content that differs from its descriptor.
pub(crate) fn corrupt(problem: String) -> Error {
    Error::new(Kind::Corrupt, problem)
        .hint("check the source: it serves damaged content, and the destination commits none of it")
}

/// Splits a body into one body per consumer, and a future that feeds them.
///
/// The slowest consumer sets the pace, through a bounded channel. A dropped consumer is skipped.
/// The future ends with the body, or without consumers.
pub(crate) fn tee(body: Body, consumers: usize) -> (Vec<Body>, impl Future<Output = ()> + Send) {
    let size = body.size();
    let (senders, bodies) = (0..consumers)
        .map(|_| {
            let (sender, receiver) = mpsc::channel(TEE_DEPTH);
            (sender, Body::new(size, received(receiver, size)))
        })
        .unzip::<_, _, Vec<_>, Vec<_>>();
    (bodies, feed(body.into_stream(), senders).boxed())
}

/// The chunks of one consumer; an error if they end before `size` bytes.
fn received(
    receiver: mpsc::Receiver<Result<Bytes>>,
    size: u64,
) -> impl Stream<Item = Result<Bytes>> + Send {
    stream::unfold((receiver, size), |(mut receiver, left)| async move {
        let item = match receiver.recv().await {
            Some(item) => item,
            None if left == 0 => return None,
            None => Err(Error::new(Kind::Unavailable, "the shared download was cancelled")),
        };
        let left = item.as_ref().map_or(0, |chunk| left.saturating_sub(chunk.len() as u64));
        Some((item, (receiver, left)))
    })
}

async fn feed(mut stream: ByteStream, mut senders: Vec<mpsc::Sender<Result<Bytes>>>) {
    while let Some(item) = stream.next().await {
        let sent = join_all(senders.iter().map(|sender| sender.send(item.clone()))).await;
        let mut alive = sent.iter().map(|sent| sent.is_ok());
        senders.retain(|_| alive.next().unwrap_or(false));
        if senders.is_empty() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
