//! The HTTP server around the backends: listeners, the choice of the backend, latency, faults,
//! journal.
//!
//! Request bodies stream: this module never reads one.

mod listener;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    Router,
    body::{Body, HttpBody},
    extract::{ConnectInfo, Request, State},
    http::{Method, StatusCode, header},
    response::Response,
};
use futures::StreamExt;
use parking_lot::RwLock;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{
    Ecr, Faults, IncomingRequest, Upstream,
    fault::{self, Name, Side, Target},
    is_loopback,
    journal::{Count, Entry, Journal, Operation, Record, WHOLE},
    plain::Plain,
};
use listener::{ActiveRequest, Connection, ConnectionLimits, Listener};

pub(super) struct Server {
    pub(super) backends: Backends,
    /// The ordinary registries beside the upstreams, by host [`without_port`].
    pub(super) plain_hosts: RwLock<HashMap<String, PlainHost>>,
    pub(super) faults: Faults,
    pub(super) journal: Journal,
    pub(super) latency: Duration,
    /// Cancelled when the sandbox stops; ends every fault that blocks.
    pub(super) stopped: CancellationToken,
}

/// A host that is an ordinary registry, and an upstream for some repositories.
pub(super) struct PlainHost {
    pub(super) registry: Arc<Plain>,
    pub(super) from_upstream: Vec<String>,
}

impl PlainHost {
    /// False for the paths of the upstream: its repositories and its token service.
    fn serves(&self, path: &str) -> bool {
        let Some(path) = path.strip_prefix("/v2/") else { return path == "/v2" };
        let is_in = |repository: &String| {
            path.strip_prefix(repository.as_str()).is_some_and(|rest| rest.starts_with('/'))
        };
        !self.from_upstream.iter().any(is_in)
    }
}

/// The registries of this sandbox. ECR imports from the upstreams.
pub(super) enum Backends {
    Plain(Arc<Plain>),
    Cloud(Arc<Upstream>, Box<Ecr>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListenerRole {
    Both,
    Upstream,
    Ecr,
}

impl Server {
    /// Serves a listener until the sandbox stops and active requests are answered.
    pub(super) async fn serve(self: Arc<Self>, listener: ListenerRole, socket: TcpListener) {
        let stopped = self.stopped.clone().cancelled_owned();
        let accepting = Listener::new(
            socket,
            self.faults.clone(),
            self.side(listener),
            ConnectionLimits::default(),
        );
        let answer = async |State((server, listener)): State<(Arc<Server>, ListenerRole)>,
                            ConnectInfo(connection): ConnectInfo<Connection>,
                            request: Request| {
            server.answer(listener, connection, request).await
        };
        let service = Router::new()
            .fallback(answer)
            .with_state((self, listener))
            .into_make_service_with_connect_info::<Connection>();
        let served = axum::serve(accepting, service).with_graceful_shutdown(stopped).await;
        served.expect("serving never ends with an error");
    }

    /// Answers a request that arrived elsewhere, as the listener of AWS does.
    pub(super) async fn answer_directly(&self, request: Request) -> Response {
        self.answer(ListenerRole::Ecr, Connection::default(), request).await
    }

    async fn answer(
        &self,
        listener: ListenerRole,
        connection: Connection,
        request: Request,
    ) -> Response {
        let at = SystemTime::now();
        let host = host(&request);
        let method = request.method().clone();
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let operation = operation(&request);
        let (sent, received) = (Count::default(), Count::default());
        let active = connection.begin_request();

        let backend = self.backend(&host, listener, &request);
        let target = Target { side: backend.side(), method: &method, host: &host, path: &path };
        // even a zero sleep takes a millisecond
        if !self.latency.is_zero() {
            tokio::time::sleep(self.latency).await;
        }
        if self.faults.hits(Name::Silent, &target).is_some() {
            self.stopped.cancelled().await;
        }
        let mut status = None;
        let mut response = Response::new(Body::empty());
        if self.faults.hits(Name::Reset, &target).is_some() {
            connection.drop_now();
        } else {
            response = match fault::apply::replacement(&self.faults, &target, request.headers()) {
                Some(replacement) => {
                    // 307 and 308: the client sends the body to the other place
                    if !matches!(replacement.status().as_u16(), 307 | 308) {
                        fault::apply::discard_start(request.into_body()).await;
                    }
                    replacement
                }
                None => {
                    let request = request.map(|body| sent.count_body(body));
                    let dropped = connection.clone();
                    let drop_connection = move || dropped.drop_now();
                    let request = fault::apply::request(
                        &self.faults,
                        &target,
                        request,
                        &self.stopped,
                        drop_connection,
                    );
                    let incoming = IncomingRequest { host: host.clone(), request };
                    let response = backend.answer(incoming).await;
                    if self.faults.hits(Name::ResetAfter, &target).is_some() {
                        connection.drop_now();
                    }
                    fault::apply::response(&self.faults, &target, response, &self.stopped)
                }
            };
            status = Some(response.status());
            response = with_length(response).map(|body| received.count_body(body));
        }
        let named = response.extensions().get::<Operation>().map(|named| named.0.clone());
        let operation = named.or(operation);
        let (request_bytes, response_bytes) = (0, 0);
        let entry =
            Entry { at, method, host, path, operation, status, request_bytes, response_bytes };
        self.journal.add(Record { entry, request: sent, response: received });
        response.map(|body| until_sent(body, active))
    }

    /// The side that a listener serves; any if one listener serves both.
    fn side(&self, listener: ListenerRole) -> Side {
        match (&self.backends, listener) {
            (Backends::Plain(_), _) | (_, ListenerRole::Ecr) => Side::Ecr,
            (_, ListenerRole::Upstream) => Side::Upstream,
            (_, ListenerRole::Both) => Side::Any,
        }
    }

    fn backend(&self, host: &str, listener: ListenerRole, request: &Request) -> Backend<'_> {
        let (method, path) = (request.method(), request.uri().path());
        let plain_hosts = self.plain_hosts.read();
        if let Some(plain) = plain_hosts.get(&without_port(host)).filter(|it| it.serves(path)) {
            return Backend::Plain(Arc::clone(&plain.registry));
        }
        match &self.backends {
            Backends::Plain(plain) => Backend::Plain(Arc::clone(plain)),
            Backends::Cloud(_, ecr) if is_for_aws(host, listener, method, path) => {
                Backend::Ecr(ecr)
            }
            Backends::Cloud(upstream, _) => Backend::Upstream(upstream),
        }
    }
}

enum Backend<'a> {
    Plain(Arc<Plain>),
    Upstream(&'a Upstream),
    Ecr(&'a Ecr),
}

impl Backend<'_> {
    fn side(&self) -> Side {
        match self {
            Backend::Upstream(_) => Side::Upstream,
            Backend::Plain(_) | Backend::Ecr(_) => Side::Ecr,
        }
    }

    async fn answer(&self, incoming: IncomingRequest) -> Response {
        match self {
            Backend::Plain(plain) => plain.answer(incoming).await,
            Backend::Upstream(upstream) => upstream.answer(incoming).await,
            Backend::Ecr(ecr) => ecr.answer(incoming).await,
        }
    }
}

/// The host in lower case, without a usual port, which clients omit.
pub(super) fn without_port(host: &str) -> String {
    let bare = host.strip_suffix(":443").or_else(|| host.strip_suffix(":80"));
    bare.unwrap_or(host).to_ascii_lowercase()
}

/// The request's host in lower case.
fn host(request: &Request) -> String {
    let header = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = request.uri().authority().map(|authority| authority.as_str());
    authority.or(header).unwrap_or_default().to_ascii_lowercase()
}

fn operation(request: &Request) -> Option<String> {
    let target = request.headers().get("x-amz-target")?.to_str().ok()?;
    Some(target.rsplit('.').next().unwrap_or(target).to_owned())
}

/// True if AWS must answer: decided by a known host name, else by the listener. With one listener
/// only AWS calls POST to the root.
fn is_for_aws(host: &str, listener: ListenerRole, method: &Method, path: &str) -> bool {
    if is_aws(host.split(':').next().unwrap_or_default()) {
        return true;
    }
    let loopback = is_loopback(host);
    match listener {
        ListenerRole::Ecr => loopback,
        ListenerRole::Both => loopback && method == Method::POST && path == "/",
        ListenerRole::Upstream => false,
    }
}

/// True for the host of a private ECR registry, of its layer bucket, or of an AWS API. The domain
/// alone does not decide: other registries keep content in AWS too.
fn is_aws(name: &str) -> bool {
    const DOMAINS: [&str; 10] = [
        ".amazonaws.com",
        ".amazonaws.com.cn",
        ".amazonaws.eu",
        ".on.aws",
        ".api.aws",
        ".amazonwebservices.com.cn",
        ".c2s.ic.gov",
        ".sc2s.sgov.gov",
        ".cloud.adc-e.uk",
        ".csp.hci.ic.gov",
    ];
    const SERVICES: [&str; 6] =
        ["ecr", "ecr-fips", "sts", "sts-fips", "secretsmanager", "secretsmanager-fips"];
    let labels: Vec<&str> = name.split('.').collect();
    let ours = match labels.as_slice() {
        ["api", service, ..] if SERVICES.contains(service) => true,
        [service, ..] if SERVICES.contains(service) => true,
        [_, "dkr", "ecr" | "ecr-fips", ..] | [_, "dkr-ecr" | "dkr-ecr-fips", ..] => true,
        [bucket, "s3", ..] => bucket.ends_with("-starport-layer-bucket"),
        _ => false,
    };
    ours && DOMAINS.iter().any(|domain| name.ends_with(domain))
}

/// Keeps the request active until the body is sent.
fn until_sent(body: Body, active: ActiveRequest) -> Body {
    match body.size_hint().exact() {
        // sent at once
        Some(length) if length <= WHOLE => body,
        _ => Body::from_stream(body.into_data_stream().inspect(move |_| {
            let _held = &active;
        })),
    }
}

/// Sets `Content-Length` if the body knows its length, before a wrapper hides it.
fn with_length(mut response: Response) -> Response {
    let bodiless =
        response.status().is_informational() || response.status() == StatusCode::NO_CONTENT;
    if let Some(length) = response.body().size_hint().exact()
        && !bodiless
        && !response.headers().contains_key(header::CONTENT_LENGTH)
    {
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_listeners_select_the_backend() {
        use ListenerRole::{Both, Ecr, Upstream};
        for (host, listener, method, path, expected) in [
            ("123456789012.dkr.ecr.us-east-1.amazonaws.com", Both, "GET", "/v2/", true),
            ("123456789012.dkr.ecr-fips.us-east-1.amazonaws.com", Both, "GET", "/v2/", true),
            ("123456789012.dkr-ecr.us-east-1.on.aws", Both, "GET", "/v2/", true),
            ("123456789012.dkr-ecr-fips.us-east-1.on.aws", Both, "GET", "/v2/", true),
            ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", Both, "GET", "/v2/", true),
            ("123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu", Both, "GET", "/v2/", true),
            ("123456789012.dkr.ecr.us-east-1.amazonaws.com:443", Both, "GET", "/v2/", true),
            (
                "prod-us-east-1-starport-layer-bucket.s3.us-east-1.amazonaws.com",
                Both,
                "GET",
                "/x",
                true,
            ),
            ("api.ecr.us-east-1.amazonaws.com", Both, "POST", "/", true),
            ("ecr.us-east-1.api.aws", Both, "POST", "/", true),
            ("sts.amazonaws.com", Both, "POST", "/", true),
            ("secretsmanager.eu-west-1.amazonaws.com", Both, "POST", "/", true),
            ("127.0.0.1:4000", Both, "POST", "/", true),
            ("localhost:4000", Ecr, "GET", "/v2/a/tags/list", true),
            ("127.0.0.1:4000", Both, "GET", "/v2/", false),
            ("127.0.0.1:4000", Upstream, "POST", "/", false),
            ("public.ecr.aws", Both, "GET", "/v2/", false),
            ("public.ecr.aws", Ecr, "GET", "/v2/", false),
            ("quayio-production-s3.s3.amazonaws.com", Both, "GET", "/x", false),
            ("docker.io", Both, "GET", "/v2/", false),
            ("ecr.example.com", Both, "POST", "/", false),
            ("", Both, "GET", "/v2/", false),
        ] {
            let method: Method = method.parse().unwrap();
            let to_aws = is_for_aws(host, listener, &method, path);
            assert_eq!(to_aws, expected, "{method} {path} of {host} by {listener:?}");
        }
    }
}
