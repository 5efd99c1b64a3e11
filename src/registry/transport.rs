//! How requests reach their hosts, and the clients that carry them.
//!
//! The one place that knows about the sandbox, proxies, TLS trust and
//! connections. Bodies go over HTTP/1.1 on many connections, small calls may
//! share one of HTTP/2. Nothing is decompressed, redirected or timed out here
//! behind a caller's back: digests, credentials and uploads depend on it.
//! The breakers of hosts that are down are asked and told here and nowhere else.

use std::{
    error::Error as StdError,
    fmt, io,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use http::{HeaderValue, StatusCode, header::HOST};
use reqwest::{Client, ClientBuilder, Request, Response, dns::Resolve, redirect::Policy};
use tokio::time::{Instant, timeout};
use url::{Host as UrlHost, Url};

use super::{Certificate, redact::RequestSecrets};
use crate::{
    model::{Descriptor, Error, Host, Kind, Result},
    remote::{HostContext, retry_budget::RetryPolicy},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
const KEEPALIVE: Duration = Duration::from_secs(30);

/// How requests reach their hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Each at its own address.
    Direct,
    /// Every host at this loopback address by plain HTTP, its own name in the `Host` header.
    Sandbox(SocketAddr),
}

/// What a request is for, as far as its connection is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectionPool {
    /// Small calls.
    Calls,
    /// Blob bytes.
    Blobs,
}

/// Up to how many bytes a blob is a small call: it needs no connection of its own, and leaves no
/// large buffer behind in one.
const SMALL: u64 = 64 << 10;

impl ConnectionPool {
    /// The lane for reading this blob.
    pub(crate) fn of(blob: &Descriptor) -> Self {
        if blob.size <= SMALL { Self::Calls } else { Self::Blobs }
    }
}

/// The connections of a run; clones share them.
#[derive(Clone)]
pub struct Transport {
    reach: Network,
    certificate: Option<Certificate>,
    names: Option<Arc<dyn Resolve>>,
    /// By [`Route`]; made when something first goes that way, because reading
    /// the system's certificates takes longer than asking a registry.
    clients: Arc<[OnceLock<Result<Clients>>; 3]>,
}

#[derive(Clone)]
struct Clients {
    calls: Client,
    blobs: Client,
}

/// Which way a request goes.
#[derive(Debug, Clone, Copy)]
enum ProxyRoute {
    /// Through the system's proxies.
    Outer,
    /// To this machine, past all proxies.
    Local,
    /// To this machine without TLS: an empty one needs no CA certificates.
    Bare,
}

impl Transport {
    /// Makes ready; reads and connects to nothing yet.
    pub fn new(reach: Network) -> Self {
        Self { reach, certificate: None, names: None, clients: Arc::default() }
    }

    /// The same reach with connections of its own that trust this, too.
    pub fn trusting(&self, certificate: &Certificate) -> Self {
        let (certificate, names) = (Some(certificate.clone()), self.names.clone());
        Self { certificate, names, ..Self::new(self.reach) }
    }

    /// The same reach, with hosts' names looked up by this and not by the system.
    pub fn resolving(&self, names: Arc<dyn Resolve>) -> Self {
        Self { names: Some(names), certificate: self.certificate.clone(), ..Self::new(self.reach) }
    }

    /// Whether more is trusted than the system trusts.
    #[cfg(test)]
    pub(crate) fn has_own_ca(&self) -> bool {
        self.certificate.is_some()
    }

    /// How requests reach their hosts.
    pub fn reach(&self) -> Network {
        self.reach
    }

    fn clients(&self, url: &Url) -> Result<&Clients> {
        let route = match (self.is_sandbox(), is_loopback(url), url.scheme()) {
            (true, ..) | (_, true, "http") => ProxyRoute::Bare,
            (_, true, _) => ProxyRoute::Local,
            _ => ProxyRoute::Outer,
        };
        let made = self.clients[route as usize].get_or_init(|| self.make(route));
        made.as_ref().map_err(Error::clone)
    }

    fn make(&self, route: ProxyRoute) -> Result<Clients> {
        Clients::build(|| {
            let builder = Client::builder()
                .user_agent(concat!("ecr-mirror/", env!("CARGO_PKG_VERSION")))
                .redirect(Policy::none())
                .referer(false)
                .no_gzip()
                .no_brotli()
                .no_zstd()
                .no_deflate()
                .connect_timeout(CONNECT_TIMEOUT)
                .tcp_nodelay(true)
                .tcp_keepalive(KEEPALIVE);
            let builder = match (route, &self.certificate) {
                (ProxyRoute::Bare, _) => builder.tls_certs_only([]),
                (_, Some(extra)) => builder.tls_certs_merge(extra.0.clone()),
                (_, None) => builder,
            };
            let builder = match &self.names {
                Some(names) => builder.dns_resolver(Arc::clone(names)),
                None => builder,
            };
            match route {
                ProxyRoute::Outer => builder,
                ProxyRoute::Local | ProxyRoute::Bare => builder.no_proxy(),
            }
        })
    }

    pub(crate) fn is_sandbox(&self) -> bool {
        matches!(self.reach, Network::Sandbox(_))
    }

    /// Whether credentials may go there: over TLS, or to this machine.
    pub(crate) fn is_private(&self, url: &Url) -> bool {
        self.is_sandbox() || url.scheme() == "https" || is_loopback(url)
    }

    /// Whether two URLs have scheme, host and port in common; the sandbox has but one scheme.
    pub(crate) fn same_origin(&self, a: &Url, b: &Url) -> bool {
        let same_scheme = self.is_sandbox() || a.scheme() == b.scheme();
        same_scheme && authority(a) == authority(b)
    }

    /// Sends the request and waits for the head of the answer, while the host is not down:
    /// without limit where the body streams, which its sender watches.
    ///
    /// `subject` names the request in an error: never its query, which may carry secrets. What it
    /// carried goes with the answer, as [`Sent`], to be hidden where the answer repeats it.
    ///
    /// # Errors
    /// [`Kind::Unavailable`], exhausted where the host is known to be down; [`Kind::Stalled`].
    pub(crate) async fn send(
        &self,
        lane: ConnectionPool,
        mut request: Request,
        meter: &HostContext,
        subject: &str,
    ) -> Result<Response> {
        let clients = self.clients(request.url())?;
        let host = authority(request.url());
        let RetryPolicy { breakers, outage, stall, .. } = &meter.policy;
        breakers.acquire(outage, &host, subject)?;
        let carried = RequestSecrets::of(&request);
        if let Network::Sandbox(address) = self.reach {
            readdress(address, &mut request);
        }
        let client = match lane {
            ConnectionPool::Calls => &clients.calls,
            ConnectionPool::Blobs => &clients.blobs,
        };
        let streams = request.body().is_some_and(|body| body.as_bytes().is_none());
        let limit = if streams { Duration::MAX } else { stall.answer };
        meter.requests.add(1);
        let sent = Instant::now();
        let mut response = match timeout(limit, client.execute(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                // a body that streams may have broken itself: that says nothing of the host
                let is_hosts = error.is_connect() || !streams;
                let error = broken(error, subject);
                if is_hosts && error.kind() == Kind::Unavailable {
                    breakers.failed(outage, &host, sent, &error);
                }
                return Err(error);
            }
            Err(_) => {
                let error = stalled(subject, limit);
                breakers.failed(outage, &host, sent, &error);
                return Err(error);
            }
        };
        match is_unwell(response.status()) {
            true => {
                let problem = format!("{subject}: {}", response.status().as_u16());
                breakers.failed(outage, &host, sent, &Error::new(Kind::Unavailable, problem));
            }
            false => breakers.succeeded(&host),
        }
        response.extensions_mut().insert(carried);
        Ok(response)
    }
}

/// Whether an answer says that the host is not well, rather than anything about what was asked.
fn is_unwell(status: StatusCode) -> bool {
    let refuses = matches!(status, StatusCode::NOT_IMPLEMENTED | StatusCode::INSUFFICIENT_STORAGE);
    status.is_server_error() && !refuses
}

fn stalled(subject: &str, limit: Duration) -> Error {
    Error::new(Kind::Stalled, format!("{subject}: no answer for {} s", limit.as_secs()))
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("reach", &self.reach).finish_non_exhaustive()
    }
}

impl Clients {
    fn build(builder: impl Fn() -> ClientBuilder) -> Result<Self> {
        let unusable = |error: reqwest::Error| {
            Error::new(Kind::Configuration, "no TLS connection could be made").because(error).hint(
                "install the system's CA certificates (`ca-certificates`), or name them in `SSL_CERT_FILE` or `ca_file`",
            )
        };
        Ok(Self {
            calls: builder()
                .http2_keep_alive_interval(KEEPALIVE)
                .http2_keep_alive_timeout(KEEPALIVE)
                .build()
                .map_err(unusable)?,
            blobs: builder().http1_only().build().map_err(unusable)?,
        })
    }
}

/// The URL's host, with its port where that is not the scheme's own.
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

fn readdress(address: SocketAddr, request: &mut Request) {
    if let Ok(name) = HeaderValue::from_str(&authority(request.url())) {
        request.headers_mut().insert(HOST, name);
    }
    let url = request.url_mut();
    let host = match address {
        SocketAddr::V4(v4) => UrlHost::<&str>::Ipv4(*v4.ip()),
        SocketAddr::V6(v6) => UrlHost::Ipv6(*v6.ip()),
    };
    // none of the three can fail on an `http` or `https` URL
    let _ = url.set_scheme("http");
    let _ = url.set_host(Some(&host.to_string()));
    let _ = url.set_port(Some(address.port()));
}

/// The error for a request that got no answer.
fn broken(error: reqwest::Error, subject: &str) -> Error {
    let error = error.without_url();
    if error.is_connect() && is_tls(&error) {
        return Error::new(Kind::Configuration, format!("{subject}: no TLS with this host"))
            .because(error)
            .hint("if the registry has its own CA, name it as `ca_file`; if it speaks plain HTTP, set `plain_http = true`");
    }
    if is_endless(&error) {
        return Error::new(Kind::Protocol, format!("{subject}: an answer of too many headers"))
            .because(error);
    }
    if error.is_connect() {
        return Error::new(Kind::Unavailable, format!("{subject}: no connection"))
            .because(error)
            .hint("check the host's name, the network and the proxy settings (`HTTPS_PROXY`, `NO_PROXY`)");
    }
    Error::new(Kind::Unavailable, format!("{subject}: the connection broke")).because(error)
}

/// Whether the head of the answer is longer than any: another attempt would find it no shorter.
fn is_endless(error: &reqwest::Error) -> bool {
    let mut next: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(cause) = next {
        if cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse_too_large) {
            return true;
        }
        next = cause.source();
    }
    false
}

/// Whether a handshake failed: rustls' errors come as I/O errors of invalid data.
fn is_tls(error: &reqwest::Error) -> bool {
    let mut next: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(cause) = next {
        let io = cause.downcast_ref::<io::Error>();
        if io.is_some_and(|io| io.kind() == io::ErrorKind::InvalidData) {
            return true;
        }
        // an I/O error passes over what it wraps when asked for its source
        next = match io.and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => cause.source(),
        };
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sandbox_is_asked_in_every_hosts_name() {
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
    fn an_origin_is_scheme_host_and_port() {
        let sandbox = Network::Sandbox("127.0.0.1:4000".parse().unwrap());
        for (a, b, direct, within) in [
            ("https://a/x", "https://a:443/y", true, true),
            ("https://a/x", "http://a/y", false, true),
            ("https://a/x", "https://a:444/y", false, false),
            ("https://a/x", "https://b/x", false, false),
        ] {
            let (a, b) = (a.parse().unwrap(), b.parse().unwrap());
            for (reach, expected) in [(Network::Direct, direct), (sandbox, within)] {
                let transport = Transport::new(reach);
                assert_eq!(transport.same_origin(&a, &b), expected, "{a} {b} {reach:?}");
            }
        }
    }
}
