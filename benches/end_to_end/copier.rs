//! The limit: a copier that knows every digest beforehand and only moves bytes.
//!
//! It runs as a separate process with 32 connections per side, without discovery, retries or
//! decisions; it verifies the digests. It opens an upload while it opens the download, and waits
//! only for referenced content. The same code fills a source with a corpus.

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
use reqwest::{Body, Certificate, Client, Method, Response, header};
use sha2::{Digest as _, Sha256};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};

use crate::{
    corpus::{Blob, Corpus, Manifest},
    https,
    order::{Mount, Order, Work},
};

/// Connections per side.
const CONNECTIONS: usize = 32;
/// Concurrent tasks: more than one side handles, so that neither waits for the other.
const CONCURRENT: usize = 3 * CONNECTIONS;
/// The role of a child process.
pub(crate) const ROLE: &str = "copier";

/// Runs the role with the arguments after [`ROLE`]: task, corpus, the URLs of both registries.
///
/// # Errors
/// The first failure.
#[allow(clippy::print_stdout, reason = "the parent reads it")]
pub(crate) fn run_role(arguments: &[String]) -> Result<()> {
    let [task, corpus, from, to] = arguments else {
        anyhow::bail!("the role needs four arguments")
    };
    let corpus: Corpus = serde_json::from_slice(&fs::read(corpus)?)?;
    let copier = Arc::new(Copier::new(Some(from), to)?);
    block_on(async {
        match task.as_str() {
            "check" => copier.clone().check(&corpus).await,
            _ => copier.clone().copy(corpus).await,
        }
    })?;
    let (source, destination) =
        (copier.source_requests.load(Relaxed), copier.destination_requests.load(Relaxed));
    let bytes = copier.bytes.load(Relaxed);
    println!(
        "{}",
        serde_json::json!({ "source": source, "destination": destination, "bytes": bytes })
    );
    Ok(())
}

/// Pushes a new corpus to the registry with this URL.
///
/// # Errors
/// The first failure.
pub(crate) fn fill(corpus: Corpus, to: &str) -> Result<()> {
    let copier = Arc::new(Copier::new(None, to)?);
    block_on(copier.copy(corpus))
}

/// Counts the corpus's tags that the registry lacks or has with another digest. A login is
/// `user:password` in base64.
///
/// # Errors
/// If the registry cannot be queried.
pub(crate) fn count_wrong(corpus: &Corpus, at: &str, login: Option<&str>) -> Result<u64> {
    let copier = Arc::new(Copier { login: login.map(str::to_owned), ..Copier::new(None, at)? });
    block_on(async {
        let tags = corpus.tags().map(|(repository, tag, digest)| {
            (format!("{at}/v2/{repository}/manifests/{tag}"), digest.to_owned())
        });
        let wrong = AtomicU64::new(0);
        stream::iter(tags)
            .for_each_concurrent(CONNECTIONS, |(url, digest)| {
                let response = copier.head(url);
                let wrong = &wrong;
                async move {
                    if !response.await.is_ok_and(|found| found == digest) {
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
    /// A URL; `None` to make the blobs instead of reading them.
    from: Option<String>,
    /// A URL.
    to: String,
    login: Option<String>,
    source: Arc<Semaphore>,
    destination: Semaphore,
    source_requests: AtomicU64,
    destination_requests: AtomicU64,
    bytes: AtomicU64,
}

impl Copier {
    fn new(from: Option<&str>, to: &str) -> Result<Copier> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .no_proxy()
            .http1_only()
            .tls_certs_only([Certificate::from_pem(https::CA)?])
            .pool_max_idle_per_host(CONNECTIONS)
            .build()?;
        Ok(Copier {
            client,
            from: from.map(str::to_owned),
            to: to.to_owned(),
            login: None,
            source: Arc::new(Semaphore::new(CONNECTIONS)),
            destination: Semaphore::new(CONNECTIONS),
            source_requests: AtomicU64::new(0),
            destination_requests: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        })
    }

    /// Copies everything, each item as soon as its references are there.
    async fn copy(self: Arc<Self>, corpus: Corpus) -> Result<()> {
        let mut order = Order::from_corpus(corpus)?;
        let mut running = JoinSet::new();
        loop {
            while running.len() < CONCURRENT
                && let Some((number, work)) = order.next()
            {
                let copier = self.clone();
                running.spawn(async move {
                    match work {
                        Work::Upload(blob) => copier.upload(blob).await,
                        Work::Mount(mount) => copier.mount(mount).await,
                        Work::Put(manifest) => copier.put(manifest).await,
                    }
                    .map(|()| number)
                });
            }
            let Some(done) = running.join_next().await else { break };
            order.done(done??);
        }
        ensure!(order.is_finished(), "an item waits for content that is never copied");
        Ok(())
    }

    /// Checks each tag's digest on both sides.
    async fn check(self: Arc<Self>, corpus: &Corpus) -> Result<()> {
        let from = self.from.clone().unwrap_or_default();
        let check = |side: &str| {
            let url =
                |repository: &str, tag: &str| format!("{side}/v2/{repository}/manifests/{tag}");
            let tags = corpus.tags();
            let tags: Vec<_> =
                tags.map(|(name, tag, digest)| (url(name, tag), digest.to_owned())).collect();
            let copier = self.clone();
            for_each_limited(tags, move |(url, digest)| {
                let copier = copier.clone();
                async move {
                    ensure!(copier.head(url).await? == digest, "a tag points elsewhere");
                    Ok(())
                }
            })
        };
        futures::try_join!(check(&from), check(&self.to))?;
        let count = corpus.tags().count() as u64;
        self.source_requests.store(count, Relaxed);
        self.destination_requests.store(count, Relaxed);
        Ok(())
    }

    async fn head(&self, url: String) -> Result<String> {
        let accept = "application/vnd.oci.image.index.v1+json, \
                      application/vnd.oci.image.manifest.v1+json";
        let mut request = self.client.head(url).header(header::ACCEPT, accept);
        if let Some(login) = &self.login {
            request = request.header(header::AUTHORIZATION, format!("Basic {login}"));
        }
        let response = request.send().await?;
        let digest = response.error_for_status()?.headers().get("docker-content-digest").cloned();
        Ok(digest.context("the response has no `Docker-Content-Digest`")?.to_str()?.to_owned())
    }

    /// Opens the download and the upload in parallel, then streams one into the other's PUT.
    async fn upload(self: Arc<Self>, blob: Blob) -> Result<()> {
        let repository = blob.repositories.first().context("a repository needs every blob")?;
        let uploads = format!("{}/v2/{repository}/blobs/uploads/", self.to);
        let opened = self.push(Method::POST, &uploads, None);
        let (body, session) = futures::try_join!(self.content(repository, &blob), opened)?;
        let location = session.headers().get(header::LOCATION);
        let location = location.context("the response has no `Location`")?.to_str()?.to_owned();
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
        self.source_requests.fetch_add(1, Relaxed);
        let url = format!("{from}/v2/{repository}/blobs/{}", blob.digest);
        let connection = self.source.clone().acquire_owned().await?;
        let read = self.client.get(url).send().await?.error_for_status()?;
        self.bytes.fetch_add(blob.size, Relaxed);
        Ok(hashed(read, blob.digest.clone(), connection))
    }

    async fn mount(&self, Mount { to, digest, from }: Mount) -> Result<()> {
        let base = &self.to;
        let url = format!("{base}/v2/{to}/blobs/uploads/?mount={digest}&from={from}");
        let answer = self.push(Method::POST, &url, None).await?;
        ensure!(answer.status() == 201, "a blob was not mounted");
        Ok(())
    }

    async fn put(self: Arc<Self>, manifest: Manifest) -> Result<()> {
        let Manifest { repository, tag, digest, media_type, content } = manifest;
        let at = tag.unwrap_or(digest);
        let url = format!("{}/v2/{repository}/manifests/{at}", self.to);
        self.destination_requests.fetch_add(1, Relaxed);
        let _connection = self.destination.acquire().await?;
        let request = self.client.put(url).header(header::CONTENT_TYPE, media_type).body(content);
        request.send().await?.error_for_status()?;
        Ok(())
    }

    async fn push(&self, method: Method, url: &str, body: Option<(Body, u64)>) -> Result<Response> {
        self.destination_requests.fetch_add(1, Relaxed);
        let _connection = self.destination.acquire().await?;
        let request = self.client.request(method, url);
        let request = match body {
            Some((body, size)) => request.header(header::CONTENT_LENGTH, size).body(body),
            None => request.header(header::CONTENT_LENGTH, 0),
        };
        Ok(request.send().await?.error_for_status()?)
    }
}

/// The body, which ends in an error if its digest is wrong, and releases its connection at the end.
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

/// Runs `work` on all items, [`CONNECTIONS`] at a time.
async fn for_each_limited<T, F>(items: Vec<T>, work: impl Fn(T) -> F) -> Result<()>
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

/// The arguments that start a child process in the role.
pub(crate) fn arguments<'a>(
    task: &'a str,
    corpus: &'a Path,
    from: &'a str,
    to: &'a str,
) -> Vec<&'a str> {
    vec![ROLE, task, corpus.to_str().unwrap_or_default(), from, to]
}
