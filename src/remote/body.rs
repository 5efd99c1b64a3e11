//! A blob on its way: verified as it passes, resumed where it breaks, shared where several want it.
//!
//! No consumer ever sees the last chunk of a blob whose digest or length is
//! wrong, so that an upload of it cannot complete.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::{FutureExt, Stream, StreamExt, future::join_all, stream};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::{ByteStream, HostContext, Source, stall::ThroughputGuard};
use crate::model::{
    Descriptor, Digest, Error, Kind, Platform, Repository, Result,
    content::{MANIFEST_LIMIT, too_large},
    event::{Counter, Progress},
};

/// Chunks that wait for the slowest of several consumers, each at most about half a MiB.
const TEE_DEPTH: usize = 1;

/// A blob's bytes, to be sent once.
pub struct Body {
    size: u64,
    stream: ByteStream,
    flow: Arc<BodyStats>,
}

/// What the sender of a body watches: whether it moves, and what broke it.
#[derive(Debug, Default)]
pub struct BodyStats {
    /// Bytes handed on so far.
    pub moved: Counter,
    fault: OnceLock<Error>,
}

impl BodyStats {
    /// Why the body ended early, if it did: an HTTP client tells only that it did.
    pub fn fault(&self) -> Option<Error> {
        self.fault.get().cloned()
    }
}

impl Body {
    /// A body of exactly `size` bytes; the stream must yield them or fail.
    pub fn new(size: u64, stream: impl Stream<Item = Result<Bytes>> + Send + 'static) -> Self {
        let flow = Arc::new(BodyStats::default());
        let watched = Arc::clone(&flow);
        let stream = stream.inspect(move |item| match item {
            Ok(chunk) => watched.moved.add(chunk.len() as u64),
            Err(error) => drop(watched.fault.set(error.clone())),
        });
        Self { size, stream: stream.boxed(), flow }
    }

    /// The same body, with what passes added to an image's progress.
    pub fn with_progress(mut self, progress: Arc<Progress>) -> Self {
        let show = move |item: &Result<Bytes>| {
            if let Ok(chunk) = item {
                progress.pushed.add(chunk.len() as u64);
            }
        };
        self.stream = self.stream.inspect(show).boxed();
        self
    }

    /// The length in bytes, for `Content-Length`.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What to watch while it is being sent.
    pub fn flow(&self) -> Arc<BodyStats> {
        Arc::clone(&self.flow)
    }

    /// The bytes.
    pub fn into_stream(self) -> ByteStream {
        self.stream
    }

    /// The same body once its first bytes have come, so that it is known to be there.
    ///
    /// # Errors
    /// Those of the stream, when it begins with one.
    pub async fn begin(mut self) -> Result<Self> {
        if let Some(first) = self.stream.next().await {
            self.stream = stream::iter([Ok(first?)]).chain(self.stream).boxed();
        }
        Ok(self)
    }

    /// The bytes in memory, for the small blobs that are read rather than copied.
    ///
    /// # Errors
    /// Those of the stream.
    pub async fn read(self) -> Result<Vec<u8>> {
        let mut stream = self.stream;
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.next().await {
            bytes.extend_from_slice(&chunk?);
        }
        Ok(bytes)
    }
}

/// The platform in an image's configuration, which `open` reads; `None`, and nothing is read,
/// where the descriptor is not of an image's.
///
/// # Errors
/// Those of reading it, and [`Kind::Corrupt`] where it tells none.
pub(crate) async fn platform(
    config: &Descriptor,
    open: impl FnOnce() -> Body,
) -> Result<Option<Platform>> {
    let is_image = config.media_type == oci_client::manifest::IMAGE_CONFIG_MEDIA_TYPE
        || config.media_type == oci_client::manifest::IMAGE_DOCKER_CONFIG_MEDIA_TYPE;
    if !is_image {
        return Ok(None);
    }
    if config.size > MANIFEST_LIMIT {
        return Err(too_large(config.size).context("cannot read the image's config"));
    }
    let bytes = open().read().await?;
    serde_json::from_slice(&bytes).map(Some).map_err(|cause| {
        Error::new(Kind::Corrupt, format!("config {} tells no platform", config.digest))
            .because(cause)
    })
}

/// The blob, hashed as it passes; a broken connection is continued from where it stopped.
///
/// Fails with [`Kind::Corrupt`] before the last chunk when length or digest are
/// not the descriptor's. `meter` counts the bytes that come and the resumptions.
pub(crate) fn verified<S: Source>(
    source: Arc<S>,
    repository: Repository,
    blob: Descriptor,
    meter: Arc<HostContext>,
) -> Body {
    let size = blob.size;
    let download = Download {
        source,
        repository,
        blob,
        meter,
        offset: 0,
        hasher: Sha256::new(),
        stream: None,
        fruitless: 0,
        pulse: ThroughputGuard::default(),
    };
    let chunks = stream::try_unfold(download, |mut download| async move {
        Ok(download.next().await?.map(|chunk| (chunk, download)))
    });
    Body::new(size, chunks)
}

struct Download<S> {
    source: Arc<S>,
    repository: Repository,
    blob: Descriptor,
    meter: Arc<HostContext>,
    offset: u64,
    hasher: Sha256,
    stream: Option<ByteStream>,
    /// Attempts in a row that brought no byte, or so far ended as a trickle.
    fruitless: u32,
    pulse: ThroughputGuard,
}

impl<S: Source> Download<S> {
    /// The next chunk; `None` after the last one, which was verified before it was handed on.
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
                    self.meter.bytes.add(chunk.len() as u64);
                    self.hasher.update(&chunk);
                    if self.offset >= self.blob.size {
                        self.verify().map_err(|damage| self.blame(damage))?;
                    }
                    return Ok(Some(chunk));
                }
                Err(error) => self.recover(error).await?,
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
        let chunk = self.pulse.next(stream, self.meter.policy.stall.read).await;
        chunk.unwrap_or_else(|| {
            let problem =
                format!("the connection ended after {} of {} B", self.offset, self.blob.size);
            Err(Error::new(Kind::Unavailable, problem))
        })
    }

    /// Gets ready to continue, or gives up.
    async fn recover(&mut self, error: Error) -> Result<()> {
        self.stream = None;
        // a trickle brings bytes, and counts all the same
        self.fruitless = (self.fruitless + 1).max(self.pulse.trickles);
        tracing::debug!(blob = %self.blob.digest, offset = self.offset, %error, "download broke");
        self.meter.retry().pause(&self.meter, error, self.fruitless).await
    }

    /// The error for damage: what was handed on cannot be taken back, so that only a new reading
    /// helps, where one may.
    fn blame(&self, damage: Error) -> Error {
        match self.source.report_corrupt(&self.blob.digest) {
            true => Error::new(Kind::Unavailable, "a mirror sent damaged content").because(damage),
            false => damage,
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
        self.meter.policy.record_success();
        Ok(())
    }
}

/// The error for content that is not what its descriptor says.
pub(crate) fn corrupt(problem: String) -> Error {
    Error::new(Kind::Corrupt, problem)
        .hint("the source serves damaged content; nothing of it is committed at the destination")
}

/// Splits a body for `consumers` that each read at their own pace, and the work of feeding them.
///
/// The slowest of them sets the pace, through a bounded channel; one that is
/// dropped is fed no longer. The work ends with the body, or when nobody reads.
pub(crate) fn tee(body: Body, consumers: usize) -> (Vec<Body>, impl Future<Output = ()> + Send) {
    let size = body.size();
    let (senders, bodies): (Vec<_>, Vec<_>) = (0..consumers)
        .map(|_| {
            let (sender, receiver) = mpsc::channel(TEE_DEPTH);
            (sender, Body::new(size, received(receiver, size)))
        })
        .unzip();
    (bodies, feed(body.into_stream(), senders).boxed())
}

/// What is fed, and an error where feeding ends before all of it has come.
fn received(
    receiver: mpsc::Receiver<Result<Bytes>>,
    size: u64,
) -> impl Stream<Item = Result<Bytes>> + Send {
    stream::unfold((receiver, size), |(mut receiver, left)| async move {
        let item = match receiver.recv().await {
            Some(item) => item,
            None if left == 0 => return None,
            None => Err(Error::new(Kind::Unavailable, "the shared download was given up")),
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
