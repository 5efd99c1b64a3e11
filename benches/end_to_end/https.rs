//! Registries over TLS, as users have them: the embedded registries behind HTTPS, in a process of
//! their own that counts every request.
//!
//! A `GET` of a blob is answered 307 to a second host, which also uses TLS. A new connection takes
//! two more round trips: one for TCP, one for TLS 1.3. Clients may use HTTP/2 or HTTP/1.1. The
//! certificates are those of the tests; their CA is [`CA_FILE`].

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use ecr_mirror::sandbox::{self, Mode, RecordRequests, Sandbox};
use futures::StreamExt;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde::{Deserialize, Serialize};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// The role of the server's process.
pub(crate) const ROLE: &str = "https";

macro_rules! pem {
    ($name:literal) => {
        concat!(env!("CARGO_MANIFEST_DIR"), "/src/registry/tests/tls/", $name)
    };
}

/// The CA of the servers' certificate, as a PEM file.
pub(crate) const CA_FILE: &str = pem!("ca.pem");
pub(crate) const CA: &[u8] = include_bytes!(pem!("ca.pem"));

/// A registry that is served over TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    /// One plain registry.
    Plain,
    /// The embedded ECR, which refuses requests above ECR's published rates.
    Ecr,
}

impl Service {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Ecr => "ecr",
        }
    }
}

/// The requests to a registry and to the host of its blobs.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub(crate) requests: u64,
    /// Bytes of blobs that were sent.
    pub(crate) bytes: u64,
    /// Requests that were answered 429.
    pub(crate) refused: u64,
}

/// Serves until stdin ends, with the arguments after [`ROLE`]: service, latency, directory.
///
/// Prints the addresses, and for each line of stdin the counts since the last one.
///
/// # Errors
/// If it cannot serve.
#[allow(clippy::print_stdout, reason = "the parent reads it")]
pub(crate) fn run_role(arguments: &[String]) -> Result<()> {
    let [service, latency, directory] = arguments else {
        anyhow::bail!("the role needs three arguments")
    };
    let latency: humantime::Duration = latency.parse().context("a latency is a time")?;
    let mut options = sandbox::Options {
        mode: Mode::Plain,
        directory: Some(PathBuf::from(directory)),
        latency: latency.into(),
        record: RecordRequests::Nowhere,
        ..sandbox::Options::default()
    };
    if service == Service::Ecr.name() {
        options.mode = Mode::Standing;
        options.faults = vec!["quotas".parse().context("it is a fault")?];
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let registry = runtime.block_on(Registry::start(options))?;
    println!("export SANDBOX_HTTP={}", registry.sandbox.ecr_address());
    println!("export SANDBOX_REGISTRY={}", registry.address);
    for line in io::stdin().lines() {
        line?;
        println!("{}", serde_json::to_string(&registry.take_counts())?);
    }
    Ok(())
}

struct Registry {
    sandbox: Sandbox,
    address: SocketAddr,
    /// The name of the second host.
    blobs_at: String,
    latency: Duration,
    requests: AtomicU64,
    bytes: Arc<AtomicU64>,
    refused: AtomicU64,
}

/// The host that a request arrived at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Registry,
    Blobs,
}

impl Registry {
    async fn start(options: sandbox::Options) -> Result<Arc<Registry>> {
        let latency = options.latency;
        let (first, second) =
            (TcpListener::bind("127.0.0.1:0").await?, TcpListener::bind("127.0.0.1:0").await?);
        let registry = Arc::new(Registry {
            sandbox: Sandbox::start(options).await?,
            address: first.local_addr()?,
            // a client must see another host, not only another port
            blobs_at: format!("localhost:{}", second.local_addr()?.port()),
            latency,
            requests: AtomicU64::new(0),
            bytes: Arc::default(),
            refused: AtomicU64::new(0),
        });
        let tls = TlsAcceptor::from(Arc::new(tls()?));
        for (side, socket) in [(Side::Registry, first), (Side::Blobs, second)] {
            let listener = TlsListener::start(socket, tls.clone(), latency)?;
            let answering = registry.clone();
            let answer = async move |request: Request| answering.answer(side, request).await;
            let service = Router::new().fallback(answer).into_make_service();
            tokio::spawn(axum::serve(listener, service).into_future());
        }
        Ok(registry)
    }

    fn take_counts(&self) -> Counts {
        Counts {
            requests: self.requests.swap(0, Relaxed),
            bytes: self.bytes.swap(0, Relaxed),
            refused: self.refused.swap(0, Relaxed),
        }
    }

    async fn answer(&self, side: Side, request: Request) -> Response {
        self.requests.fetch_add(1, Relaxed);
        let path = request.uri().path();
        let calls_aws = path == "/";
        let reads_blob = request.method() == Method::GET && path.contains("/blobs/sha256:");
        if side == Side::Registry && reads_blob {
            pause(self.latency).await;
            let location = format!("https://{}{path}", self.blobs_at);
            return (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location)])
                .into_response();
        }
        let response = self.sandbox.answer(request).await;
        if response.status() == StatusCode::TOO_MANY_REQUESTS {
            self.refused.fetch_add(1, Relaxed);
        }
        let response = match calls_aws {
            true => with_https_urls(response).await,
            false => with_https_location(response),
        };
        if !reads_blob {
            return response;
        }
        let bytes = self.bytes.clone();
        response.map(|body| {
            Body::from_stream(body.into_data_stream().inspect(move |chunk| {
                let sent = chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
                bytes.fetch_add(sent, Relaxed);
            }))
        })
    }
}

/// The response with its own scheme in `Location`: the sandbox names itself by plain HTTP.
fn with_https_location(mut response: Response) -> Response {
    let location = response.headers().get(header::LOCATION).and_then(|url| url.to_str().ok());
    let https = location.and_then(|url| Some(format!("https:{}", url.strip_prefix("http:")?)));
    if let Some(Ok(url)) = https.map(HeaderValue::try_from) {
        response.headers_mut().insert(header::LOCATION, url);
    }
    response
}

/// The response of AWS with its own scheme in the URL of the registry.
async fn with_https_urls(response: Response) -> Response {
    let (mut head, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let body = String::from_utf8_lossy(&body).replace("\"http://", "\"https://");
    head.headers.insert(header::CONTENT_LENGTH, body.len().into());
    Response::from_parts(head, Body::from(body))
}

/// Waits for this long. Even a zero sleep takes a millisecond.
async fn pause(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

fn tls() -> Result<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certificate = CertificateDer::from_pem_slice(include_bytes!(pem!("server.pem")))?;
    let key = PrivateKeyDer::from_pem_slice(include_bytes!(pem!("server.key")))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Accepts connections whose handshakes run beside each other.
struct TlsListener {
    address: SocketAddr,
    accepted: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
}

impl TlsListener {
    fn start(mut socket: TcpListener, tls: TlsAcceptor, latency: Duration) -> io::Result<Self> {
        let address = socket.local_addr()?;
        let (sender, accepted) = mpsc::channel(1);
        tokio::spawn(async move {
            loop {
                let (stream, client) = axum::serve::Listener::accept(&mut socket).await;
                let (tls, sender) = (tls.clone(), sender.clone());
                tokio::spawn(async move {
                    // TCP and TLS 1.3 take a round trip each
                    pause(2 * latency).await;
                    stream.set_nodelay(true)?;
                    // fails for a client that rejects the certificate; the client reports it
                    let stream = tls.accept(stream).await?;
                    // fails when the server ends
                    let _ = sender.send((stream, client)).await;
                    io::Result::Ok(())
                });
            }
        });
        Ok(Self { address, accepted })
    }
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        match self.accepted.recv().await {
            Some(accepted) => accepted,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}
