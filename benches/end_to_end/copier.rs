//! The limit: a copier that knows every digest beforehand, and so only moves bytes.
//!
//! It runs as a process of its own, with 32 connections to each side, no discovery, no retries and
//! no judgement; what it hashes it checks. An upload is opened while its download is, and nothing
//! waits but for what it names. The same code fills a source with a corpus.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt, stream};
use reqwest::{Body, Client, Method, Response, header};
use sha2::{Digest as _, Sha256};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};

use crate::{
    corpus::{Blob, Corpus, Manifest},
    order::{Mount, Order, Work},
};

/// How many connections there are to each side.
const CONNECTIONS: usize = 32;
/// How many things are begun at once: more than one side works on, so that none waits for the other.
const BEGUN: usize = 3 * CONNECTIONS;
/// The role a child process plays.
pub(crate) const ROLE: &str = "copier";

/// Plays the role with the arguments after [`ROLE`]: what to do, the corpus, both addresses.
///
/// # Errors
/// The first thing that goes wrong.
#[allow(clippy::print_stdout, reason = "the parent reads it")]
pub(crate) fn play(arguments: &[String]) -> Result<()> {
    let [task, corpus, from, to] = arguments else { anyhow::bail!("started by hand") };
    let corpus: Corpus = serde_json::from_slice(&fs::read(corpus)?)?;
    let copier = Arc::new(Copier::new(Some(from), to)?);
    block_on(async {
        match task.as_str() {
            "ask" => copier.clone().ask(&corpus).await,
            _ => copier.clone().copy(corpus).await,
        }
    })?;
    let (source, destination) = (copier.asked.load(Relaxed), copier.pushed.load(Relaxed));
    let bytes = copier.bytes.load(Relaxed);
    println!(
        "{}",
        serde_json::json!({ "source": source, "destination": destination, "bytes": bytes })
    );
    Ok(())
}

/// Pushes a corpus that was made here.
///
/// # Errors
/// The first thing that goes wrong.
pub(crate) fn fill(corpus: Corpus, to: &str) -> Result<()> {
    let copier = Arc::new(Copier::new(None, to)?);
    block_on(copier.copy(corpus))
}

/// How many tags of the corpus the registry does not have, or with another digest.
///
/// # Errors
/// When the registry cannot be asked.
pub(crate) fn count_wrong(corpus: &Corpus, at: &str) -> Result<u64> {
    let copier = Arc::new(Copier::new(None, at)?);
    block_on(async {
        let tags = corpus.tags().map(|(repository, tag, digest)| {
            (format!("http://{at}/v2/{repository}/manifests/{tag}"), digest.to_owned())
        });
        let wrong = AtomicU64::new(0);
        stream::iter(tags)
            .for_each_concurrent(CONNECTIONS, |(url, digest)| {
                let asked = copier.head(url);
                let wrong = &wrong;
                async move {
                    if !asked.await.is_ok_and(|found| found == digest) {
                        wrong.fetch_add(1, Relaxed);
                    }
                }
            })
            .await;
        Ok(wrong.into_inner())
    })
}

fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

struct Copier {
    client: Client,
    /// None: blobs are made instead of read.
    from: Option<String>,
    to: String,
    source: Arc<Semaphore>,
    destination: Semaphore,
    asked: AtomicU64,
    pushed: AtomicU64,
    bytes: AtomicU64,
}

impl Copier {
    fn new(from: Option<&str>, to: &str) -> Result<Copier> {
        let client = Client::builder()
            .no_proxy()
            .http1_only()
            .tls_certs_only([])
            .pool_max_idle_per_host(CONNECTIONS)
            .build()?;
        Ok(Copier {
            client,
            from: from.map(str::to_owned),
            to: to.to_owned(),
            source: Arc::new(Semaphore::new(CONNECTIONS)),
            destination: Semaphore::new(CONNECTIONS),
            asked: AtomicU64::new(0),
            pushed: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        })
    }

    /// Everything as soon as what it names is there.
    async fn copy(self: Arc<Self>, corpus: Corpus) -> Result<()> {
        let mut order = Order::of(corpus)?;
        let mut running = JoinSet::new();
        loop {
            while running.len() < BEGUN
                && let Some((number, work)) = order.next()
            {
                let copier = self.clone();
                running.spawn(async move {
                    match work {
                        Work::Place(blob) => copier.place(blob).await,
                        Work::Mount(mount) => copier.mount(mount).await,
                        Work::Put(manifest) => copier.put(manifest).await,
                    }
                    .map(|()| number)
                });
            }
            let Some(done) = running.join_next().await else { break };
            order.done(done??);
        }
        ensure!(order.is_over(), "something waits for what never comes");
        Ok(())
    }

    /// What each tag points to, on both sides.
    async fn ask(self: Arc<Self>, corpus: &Corpus) -> Result<()> {
        let from = self.from.clone().unwrap_or_default();
        let ask = |side: &str| {
            let url = |repository: &str, tag: &str| {
                format!("http://{side}/v2/{repository}/manifests/{tag}")
            };
            let tags = corpus.tags();
            let questions: Vec<_> =
                tags.map(|(name, tag, digest)| (url(name, tag), digest.to_owned())).collect();
            let copier = self.clone();
            at_once(questions, move |(url, digest)| {
                let copier = copier.clone();
                async move {
                    ensure!(copier.head(url).await? == digest, "a tag points elsewhere");
                    Ok(())
                }
            })
        };
        futures::try_join!(ask(&from), ask(&self.to))?;
        let count = corpus.tags().count() as u64;
        self.asked.store(count, Relaxed);
        self.pushed.store(count, Relaxed);
        Ok(())
    }

    async fn head(&self, url: String) -> Result<String> {
        let accept = "application/vnd.oci.image.index.v1+json, \
                      application/vnd.oci.image.manifest.v1+json";
        let asked = self.client.head(url).header(header::ACCEPT, accept).send().await?;
        let digest = asked.error_for_status()?.headers().get("docker-content-digest").cloned();
        Ok(digest.context("the registry tells no digest")?.to_str()?.to_owned())
    }

    /// GET and POST at once, the one streamed into the other's PUT.
    async fn place(self: Arc<Self>, blob: Blob) -> Result<()> {
        let repository = blob.repositories.first().context("somebody needs every blob")?;
        let uploads = format!("http://{}/v2/{repository}/blobs/uploads/", self.to);
        let opened = self.push(Method::POST, &uploads, None);
        let (body, session) = futures::try_join!(self.content(repository, &blob), opened)?;
        let location = session.headers().get(header::LOCATION);
        let location = location.context("no session")?.to_str()?.to_owned();
        let separator = if location.contains('?') { '&' } else { '?' };
        let url = format!("{location}{separator}digest={}", blob.digest);
        self.push(Method::PUT, &url, Some((body, blob.size))).await.map(drop)
    }

    async fn content(&self, repository: &str, blob: &Blob) -> Result<Body> {
        let Some(from) = &self.from else {
            let pieces = blob.content.clone().pieces();
            return Ok(Body::wrap_stream(stream::iter(
                pieces.map(Ok::<_, std::convert::Infallible>),
            )));
        };
        self.asked.fetch_add(1, Relaxed);
        let url = format!("http://{from}/v2/{repository}/blobs/{}", blob.digest);
        let connection = self.source.clone().acquire_owned().await?;
        let read = self.client.get(url).send().await?.error_for_status()?;
        self.bytes.fetch_add(blob.size, Relaxed);
        Ok(hashed(read, blob.digest.clone(), connection))
    }

    async fn mount(&self, Mount { to, digest, from }: Mount) -> Result<()> {
        let base = &self.to;
        let url = format!("http://{base}/v2/{to}/blobs/uploads/?mount={digest}&from={from}");
        let answer = self.push(Method::POST, &url, None).await?;
        ensure!(answer.status() == 201, "a blob was not mounted");
        Ok(())
    }

    async fn put(self: Arc<Self>, manifest: Manifest) -> Result<()> {
        let Manifest { repository, tag, digest, media_type, content } = manifest;
        let at = tag.unwrap_or(digest);
        let url = format!("http://{}/v2/{repository}/manifests/{at}", self.to);
        self.pushed.fetch_add(1, Relaxed);
        let _connection = self.destination.acquire().await?;
        let request = self.client.put(url).header(header::CONTENT_TYPE, media_type).body(content);
        request.send().await?.error_for_status()?;
        Ok(())
    }

    async fn push(&self, method: Method, url: &str, body: Option<(Body, u64)>) -> Result<Response> {
        self.pushed.fetch_add(1, Relaxed);
        let _connection = self.destination.acquire().await?;
        let request = self.client.request(method, url);
        let request = match body {
            Some((body, size)) => request.header(header::CONTENT_LENGTH, size).body(body),
            None => request.header(header::CONTENT_LENGTH, 0),
        };
        Ok(request.send().await?.error_for_status()?)
    }
}

/// The body, which ends in an error when its bytes are not those of the digest; then its connection
/// is free.
fn hashed(read: Response, digest: String, connection: OwnedSemaphorePermit) -> Body {
    let state = (read.bytes_stream(), Sha256::new(), connection);
    Body::wrap_stream(stream::try_unfold(Some(state), move |state| {
        let expected = digest.clone();
        async move {
            let Some((mut bytes, mut hasher, connection)) = state else { return anyhow::Ok(None) };
            if let Some(piece) = bytes.next().await.transpose()? {
                hasher.update(&piece);
                return Ok(Some((piece, Some((bytes, hasher, connection)))));
            }
            let found: String =
                hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
            ensure!(expected.ends_with(&found), "a blob has another digest");
            Ok(None)
        }
    }))
}

/// Works on all of them, so many at once.
async fn at_once<T, F>(items: Vec<T>, work: impl Fn(T) -> F) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let mut running = JoinSet::new();
    for item in items {
        if running.len() == CONNECTIONS {
            running.join_next().await.context("some are running")???;
        }
        running.spawn(work(item));
    }
    while let Some(done) = running.join_next().await {
        done??;
    }
    Ok(())
}

/// The arguments that make a child process play the role.
pub(crate) fn arguments<'a>(
    task: &'a str,
    corpus: &'a Path,
    from: &'a str,
    to: &'a str,
) -> Vec<&'a str> {
    vec![ROLE, task, corpus.to_str().unwrap_or_default(), from, to]
}
