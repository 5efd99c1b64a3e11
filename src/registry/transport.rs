//! Sends requests to hosts: sandbox, proxies, TLS trust and connections are known here only.
//!
//! Blobs use HTTP/1.1 on many connections; small calls can share an HTTP/2 connection. Digests,
//! credentials and uploads depend on untouched requests, so that nothing is decompressed,
//! redirected or timed out implicitly. The only user of the circuit breakers.

use std::{
    error::Error as StdError,
    fmt, io,
    iter::successors,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{CONTENT_LENGTH, HOST},
};
use reqwest::{Client, ClientBuilder, Request, Response, dns::Resolve, redirect::Policy};
use rustls::ClientConfig;
use tokio::time::Instant;
use url::{Host as UrlHost, Url};

use super::{
    read_body::read_body,
    redact::{RequestSecrets, public_query},
    tls::{self, SetupError},
};
use crate::{
    model::{
        Descriptor, Error, Host, Kind, Result,
        certificate::{Certificate, ClientCertificate},
        hints,
    },
    remote::{HostContext, RetryPolicy, circuit_breaker::FailedRequest, stall::within_since},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// A machine outside a cloud has no metadata service, and drops the packets to its address.
const METADATA_TIMEOUT: Duration = Duration::from_secs(1);
const KEEPALIVE: Duration = Duration::from_secs(30);

/// The network in which hosts are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Each host at its own address.
    Direct,
    /// All hosts at this loopback address by plain HTTP, with their names in the `Host` header.
    Sandbox(SocketAddr),
}

/// The connections of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectionPool {
    Calls,
    Blobs,
}

/// The largest blob, in bytes, that is read as a small call: it leaves no large buffer behind in a
/// shared connection.
const SMALL: u64 = 64 << 10;

impl ConnectionPool {
    /// The pool for reading this blob.
    pub(crate) fn of(blob: &Descriptor) -> Self {
        if blob.size <= SMALL { Self::Calls } else { Self::Blobs }
    }
}

/// The connections of a run; clones share them.
#[derive(Clone)]
pub struct Transport {
    network: Network,
    /// Trusted in addition to the system's.
    certificate: Certificate,
    client_certificate: Option<Arc<ClientCertificate>>,
    connect_timeout: Duration,
    names: Option<Arc<dyn Resolve>>,
    /// By [`ProxyRoute`] and [`ConnectionPool`]; made on first use, because reading the system's
    /// certificates takes longer than a request.
    clients: Arc<[OnceLock<Result<[Client; 2]>>; 4]>,
}

/// The route of a request.
#[derive(Debug, Clone, Copy)]
enum ProxyRoute {
    /// Through the system's proxies.
    Outer,
    /// To this machine, without a proxy.
    Local,
    /// To this machine without TLS, which needs no CA certificates.
    Bare,
    /// To a metadata service of a cloud, at a link-local address.
    Metadata,
}

impl From<Network> for Transport {
    fn from(network: Network) -> Self {
        Self::new(network)
    }
}

impl Transport {
    /// Opens no connection and reads no certificate yet.
    pub fn new(network: Network) -> Self {
        Self {
            network,
            certificate: Certificate::default(),
            client_certificate: None,
            connect_timeout: CONNECT_TIMEOUT,
            names: None,
            clients: Arc::default(),
        }
    }

    /// The same network with separate connections that also trust this certificate.
    pub fn trusting(&self, certificate: &Certificate) -> Self {
        let certificate = self.certificate.and(certificate);
        Self { certificate, clients: Arc::default(), ..self.clone() }
    }

    /// The same network with separate connections that present this certificate.
    pub fn presenting(&self, certificate: &Arc<ClientCertificate>) -> Self {
        let client_certificate = Some(Arc::clone(certificate));
        Self { client_certificate, clients: Arc::default(), ..self.clone() }
    }

    /// The same network with separate connections and this timeout to open one.
    pub(crate) fn connecting_within(&self, connect_timeout: Duration) -> Self {
        Self { connect_timeout, clients: Arc::default(), ..self.clone() }
    }

    /// The same network with separate connections and this name resolver.
    pub fn resolving(&self, names: Arc<dyn Resolve>) -> Self {
        Self { names: Some(names), clients: Arc::default(), ..self.clone() }
    }

    #[cfg(test)]
    pub(crate) fn has_own_ca(&self) -> bool {
        !self.certificate.0.is_empty()
    }

    /// The network in which hosts are reached.
    pub fn network(&self) -> Network {
        self.network
    }

    fn client(&self, pool: ConnectionPool, url: &Url) -> Result<&Client> {
        let route = match (self.is_sandbox(), is_loopback(url), url.scheme()) {
            (true, ..) | (_, true, "http") => ProxyRoute::Bare,
            (_, _, "http") if is_link_local(url) => ProxyRoute::Metadata,
            (_, true, _) => ProxyRoute::Local,
            _ => ProxyRoute::Outer,
        };
        let made = self.clients[route as usize].get_or_init(|| {
            // both pools share the certificates in memory
            let mut config = self.tls(route).map_err(no_client)?;
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            let blobs = self.builder(route, config.clone()).http1_only().build();
            config.alpn_protocols.insert(0, b"h2".to_vec());
            let calls = self.builder(route, config).http2_keep_alive_interval(KEEPALIVE);
            let calls = calls.http2_keep_alive_timeout(KEEPALIVE).build();
            Ok([calls.map_err(no_client)?, blobs.map_err(no_client)?])
        });
        made.as_ref().map(|clients| &clients[pool as usize]).map_err(Error::clone)
    }

    fn tls(&self, route: ProxyRoute) -> Result<ClientConfig, SetupError> {
        match route {
            ProxyRoute::Bare | ProxyRoute::Metadata => tls::trusting_nothing(),
            ProxyRoute::Outer | ProxyRoute::Local => {
                tls::client_config(&self.certificate, self.client_certificate.as_deref())
            }
        }
    }

    fn builder(&self, route: ProxyRoute, config: ClientConfig) -> ClientBuilder {
        let connect_timeout = match route {
            ProxyRoute::Metadata => METADATA_TIMEOUT,
            _ => self.connect_timeout,
        };
        let builder = Client::builder()
            .user_agent(concat!("ecr-mirror/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .referer(false)
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .connect_timeout(connect_timeout)
            .tcp_nodelay(true)
            .tcp_keepalive(KEEPALIVE)
            .tls_backend_preconfigured(config);
        let names = self.names.iter().cloned();
        let builder = names.fold(builder, ClientBuilder::dns_resolver);
        match route {
            ProxyRoute::Outer => builder,
            ProxyRoute::Local | ProxyRoute::Bare | ProxyRoute::Metadata => builder.no_proxy(),
        }
    }

    /// Sends a request of another protocol and reads a response of at most `limit` bytes: follows no
    /// circuit breaker and counts nothing. The caller limits the time.
    pub(crate) async fn exchange(
        &self,
        request: Request,
        limit: u64,
        subject: &str,
    ) -> Result<http::Response<Bytes>> {
        let client = self.client(ConnectionPool::Calls, request.url())?;
        let response = client.execute(request).await;
        let mut response = response.map_err(|error| no_response(error, subject))?;
        let mut read = http::Response::new(Bytes::new());
        *read.status_mut() = response.status();
        *read.headers_mut() = std::mem::take(response.headers_mut());
        *read.body_mut() = read_body(response, limit, subject, Duration::MAX).await?;
        Ok(read)
    }

    pub(crate) fn is_sandbox(&self) -> bool {
        matches!(self.network, Network::Sandbox(_))
    }

    /// Returns `true` if credentials may be sent there: over TLS, or to this machine.
    pub(crate) fn is_private(&self, url: &Url) -> bool {
        self.is_sandbox() || url.scheme() == "https" || is_loopback(url)
    }

    /// Returns `true` if scheme, host and port are equal; the sandbox has one scheme only.
    pub(crate) fn same_origin(&self, a: &Url, b: &Url) -> bool {
        let same_scheme = self.is_sandbox() || a.scheme() == b.scheme();
        same_scheme && authority(a) == authority(b)
    }

    /// Sends the request and waits for the head of the response; logs a line of it. A streamed body has no timeout;
    /// its sender watches it.
    ///
    /// `subject` names the request in errors, without its query, which can contain secrets.
    /// Attaches the request's secrets to the response ([`RequestSecrets::for_response`]).
    ///
    /// # Errors
    /// [`Kind::Unavailable`], exhausted if the host counts as down; [`Kind::Stalled`].
    pub(crate) async fn send(
        &self,
        pool: ConnectionPool,
        mut request: Request,
        context: &HostContext,
        subject: &str,
    ) -> Result<Response> {
        let client = self.client(pool, request.url())?;
        let host = authority(request.url());
        let RetryPolicy { breakers, outage, stall, .. } = &context.policy;
        breakers.acquire(outage, &host, subject)?;
        let secrets = RequestSecrets::of_request(&request);
        let query = public_query(request.url());
        let is_head = request.method() == Method::HEAD;
        let pushed = content_length(request.headers())
            .or_else(|| Some(request.body()?.as_bytes()?.len() as u64));
        if let Network::Sandbox(address) = self.network {
            readdress(address, &mut request);
        }
        let streams = request.body().is_some_and(|body| body.as_bytes().is_none());
        let limit = if streams { Duration::MAX } else { stall.answer };
        context.stats.requests.add(1);
        let sent = Instant::now();
        let problem = format!("{subject}: no response for");
        let (answered, resumed) = within_since(limit, &problem, client.execute(request)).await;
        let ms = sent.elapsed().as_millis();
        if let Ok(Ok(response)) = &answered {
            let bytes = pushed.filter(|bytes| *bytes > 0);
            let bytes = bytes.or_else(|| content_length(response.headers())).filter(|_| !is_head);
            tracing::debug!(status = response.status().as_u16(), bytes, ms, "{subject}{query}");
        } else {
            tracing::debug!(ms, "{subject}{query}: no response");
        }
        let failed =
            |error: &Error| breakers.failed(outage, &host, &FailedRequest { sent, resumed, error });
        let mut response = match answered {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                // the source of a streamed body can break it, without a failure of this host
                let is_hosts = error.is_connect() || !streams;
                let error = no_response(error, subject);
                if is_hosts && error.kind() == Kind::Unavailable {
                    failed(&error);
                }
                return Err(error);
            }
            Err(error) => {
                failed(&error);
                return Err(error.hint(hints::NETWORK));
            }
        };
        match is_host_failure(response.status()) {
            true => {
                let problem = format!("{subject}: {}", response.status().as_u16());
                failed(&Error::new(Kind::Unavailable, problem));
            }
            false => breakers.succeeded(&host),
        }
        response.extensions_mut().insert(secrets);
        Ok(response)
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Returns `true` if the status describes the host, and not the request.
fn is_host_failure(status: StatusCode) -> bool {
    let refuses = matches!(status, StatusCode::NOT_IMPLEMENTED | StatusCode::INSUFFICIENT_STORAGE);
    status.is_server_error() && !refuses
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("network", &self.network).finish_non_exhaustive()
    }
}

/// The URL's host, with its port unless that is the scheme's default.
pub(crate) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

fn is_loopback(url: &Url) -> bool {
    authority(url).parse::<Host>().is_ok_and(|host| host.is_loopback())
}

/// Returns `true` for the addresses of the clouds' metadata services.
///
/// Source: ECS, EKS and EC2 user guides: 169.254.169.254, 169.254.170.2, 169.254.170.23, and their
/// addresses below `fd00:ec2::`.
fn is_link_local(url: &Url) -> bool {
    match url.host() {
        Some(UrlHost::Ipv4(address)) => address.is_link_local(),
        Some(UrlHost::Ipv6(address)) => address.segments()[..2] == [0xfd00, 0x0ec2],
        _ => false,
    }
}

fn readdress(address: SocketAddr, request: &mut Request) {
    if let Ok(name) = HeaderValue::from_str(&authority(request.url())) {
        request.headers_mut().insert(HOST, name);
    }
    let url = request.url_mut();
    let host = match address {
        SocketAddr::V4(v4) => UrlHost::<&str>::Ipv4(*v4.ip()),
        SocketAddr::V6(v6) => UrlHost::Ipv6(*v6.ip()),
    };
    // these cannot fail for an `http` or `https` URL
    let _ = url.set_scheme("http");
    let _ = url.set_host(Some(&host.to_string()));
    let _ = url.set_port(Some(address.port()));
}

/// The error for a client that cannot be made.
fn no_client(error: impl StdError + Send + Sync + 'static) -> Error {
    Error::new(Kind::Configuration, "cannot set up TLS").because(error).hint(
        "install the system's CA certificates (package `ca-certificates`), or set `SSL_CERT_FILE` or `ca_file`",
    )
}

/// The error for a request without a response.
fn no_response(error: reqwest::Error, subject: &str) -> Error {
    // TLS 1.3 refuses a client without a certificate after its handshake
    let failed = causes(&error).find_map(|cause| cause.downcast_ref::<rustls::Error>());
    if let Some((kind, hint)) = failed.map(tls::explain) {
        return Error::new(kind, format!("{subject}: the TLS handshake failed"))
            .because(error.without_url())
            .hint(hint);
    }
    let (kind, problem, hint) = match error.is_connect() {
        _ if is_head_too_large(&error) => {
            (Kind::Protocol, "the response has too many headers", None)
        }
        true => (Kind::Unavailable, "no connection", Some(hints::NETWORK)),
        false => return connection_broke(error, subject),
    };
    let error = Error::new(kind, format!("{subject}: {problem}")).because(error.without_url());
    hint.into_iter().fold(error, Error::hint)
}

/// The error for a connection that ended within a request or its response.
pub(crate) fn connection_broke(error: reqwest::Error, subject: &str) -> Error {
    Error::new(Kind::Unavailable, format!("{subject}: the connection broke"))
        .because(error.without_url())
}

/// Returns `true` if the head of the response exceeds the limit: a retry would not help.
fn is_head_too_large(error: &reqwest::Error) -> bool {
    let mut errors = causes(error).filter_map(|cause| cause.downcast_ref::<hyper::Error>());
    errors.any(hyper::Error::is_parse_too_large)
}

fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    successors(error.source(), |&cause| {
        // `source` of an I/O error skips the wrapped error
        match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => cause.source(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_to_the_sandbox_carry_the_hosts_name() {
        let address: SocketAddr = "127.0.0.1:4000".parse().unwrap();
        for (url, host) in [
            ("https://registry-1.docker.io/v2/a?b=c", "registry-1.docker.io"),
            ("http://localhost:5000/v2/a?b=c", "localhost:5000"),
            ("https://ghcr.io:443/v2/a?b=c", "ghcr.io"),
        ] {
            let mut request = Request::new(http::Method::GET, url.parse().unwrap());
            readdress(address, &mut request);
            assert_eq!(request.url().as_str(), "http://127.0.0.1:4000/v2/a?b=c");
            assert_eq!(request.headers()[HOST], host);
        }
    }

    #[test]
    fn an_origin_consists_of_scheme_host_and_port() {
        let sandbox = Network::Sandbox("127.0.0.1:4000".parse().unwrap());
        for (a, b, direct, within) in [
            ("https://a/x", "https://a:443/y", true, true),
            ("https://a/x", "http://a/y", false, true),
            ("https://a/x", "https://a:444/y", false, false),
            ("https://a/x", "https://b/x", false, false),
        ] {
            let (a, b) = (a.parse().unwrap(), b.parse().unwrap());
            for (network, expected) in [(Network::Direct, direct), (sandbox, within)] {
                let transport = Transport::new(network);
                assert_eq!(transport.same_origin(&a, &b), expected, "{a} {b} {network:?}");
            }
        }
    }
}
