//! The HTTP server around the backends: listeners, the choice of the backend, latency, faults,
//! journal.
//!
//! Request bodies stream: this module never reads one.

mod listener;

use std::{
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
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{
    Call, Ecr, Faults, Listener, Upstream,
    fault::{self, Name, Side, Target},
    journal::{Count, Entry, Journal, Operation, Record},
    plain::Plain,
};
use listener::{Connection, Door};

/// State that all requests share.
pub(super) struct Server {
    pub(super) rooms: Backends,
    pub(super) faults: Faults,
    pub(super) journal: Journal,
    pub(super) latency: Duration,
    /// Cancelled when the sandbox stops; ends every fault that blocks.
    pub(super) stopped: CancellationToken,
}

/// The registries of this sandbox. ECR imports from the upstreams.
pub(super) enum Backends {
    Plain(Box<Plain>),
    Cloud(Arc<Upstream>, Box<Ecr>),
}

impl Server {
    /// Serves a listener until the sandbox stops and active requests are answered.
    pub(super) async fn serve(self: Arc<Self>, listener: Listener, socket: TcpListener) {
        let stopped = self.stopped.clone().cancelled_owned();
        let door = Door::new(socket, self.faults.clone(), self.side(listener));
        let answer = async |State((server, listener)): State<(Arc<Server>, Listener)>,
                            ConnectInfo(connection): ConnectInfo<Connection>,
                            request: Request| {
            server.answer(listener, connection, request).await
        };
        let service = Router::new()
            .fallback(answer)
            .with_state((self, listener))
            .into_make_service_with_connect_info::<Connection>();
        let served = axum::serve(door, service).with_graceful_shutdown(stopped).await;
        served.expect("serving never ends with an error");
    }

    async fn answer(
        &self,
        listener: Listener,
        connection: Connection,
        request: Request,
    ) -> Response {
        let at = SystemTime::now();
        let host = host(&request);
        let method = request.method().clone();
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let operation = operation(&request);
        let (sent, received) = (Count::default(), Count::default());

        let room = self.room(&host, listener, &request);
        let target = Target { side: room.side(), method: &method, host: &host, path: &path };
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
            response = match fault::apply::instead(&self.faults, &target) {
                Some(instead) => instead,
                None => {
                    let request = request.map(|body| sent.watch(body));
                    let hang_up = move || connection.drop_now();
                    let request = fault::apply::request(
                        &self.faults,
                        &target,
                        request,
                        &self.stopped,
                        hang_up,
                    );
                    let call = Call { host: host.clone(), listener, request };
                    let response = room.answer(call).await;
                    fault::apply::response(&self.faults, &target, response, &self.stopped)
                }
            };
            status = Some(response.status());
            response = with_length(response).map(|body| received.watch(body));
        }
        let said = response.extensions().get::<Operation>().map(|said| said.0.clone());
        let operation = said.or(operation);
        let (request_bytes, response_bytes) = (0, 0);
        let entry =
            Entry { at, method, host, path, operation, status, request_bytes, response_bytes };
        self.journal.add(Record { entry, request: sent, response: received });
        response
    }

    /// The side that a listener serves; any if one listener serves both.
    fn side(&self, listener: Listener) -> Side {
        match (&self.rooms, listener) {
            (Backends::Plain(_), _) | (_, Listener::Ecr) => Side::Ecr,
            (_, Listener::Upstream) => Side::Upstream,
            (_, Listener::Only) => Side::Any,
        }
    }

    fn room(&self, host: &str, listener: Listener, request: &Request) -> Room<'_> {
        let (method, path) = (request.method(), request.uri().path());
        match &self.rooms {
            Backends::Plain(plain) => Room::Plain(plain),
            Backends::Cloud(_, ecr) if is_for_aws(host, listener, method, path) => Room::Ecr(ecr),
            Backends::Cloud(upstream, _) => Room::Upstream(upstream),
        }
    }
}

enum Room<'a> {
    Plain(&'a Plain),
    Upstream(&'a Upstream),
    Ecr(&'a Ecr),
}

impl Room<'_> {
    fn side(&self) -> Side {
        match self {
            Room::Upstream(_) => Side::Upstream,
            Room::Plain(_) | Room::Ecr(_) => Side::Ecr,
        }
    }

    async fn answer(&self, call: Call) -> Response {
        match self {
            Room::Plain(plain) => plain.answer(call).await,
            Room::Upstream(upstream) => upstream.answer(call).await,
            Room::Ecr(ecr) => ecr.answer(call).await,
        }
    }
}

/// The request's host in lower case.
fn host(request: &Request) -> String {
    let header = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = request.uri().authority().map(|authority| authority.as_str());
    authority.or(header).unwrap_or_default().to_ascii_lowercase()
}

/// The operation in the `x-amz-target` header.
fn operation(request: &Request) -> Option<String> {
    let target = request.headers().get("x-amz-target")?.to_str().ok()?;
    Some(target.rsplit('.').next().unwrap_or(target).to_owned())
}

/// True if AWS must answer: decided by a known host name, else by the listener. With one listener
/// only AWS calls POST to the root.
fn is_for_aws(host: &str, listener: Listener, method: &Method, path: &str) -> bool {
    if is_aws(host.split(':').next().unwrap_or_default()) {
        return true;
    }
    let loopback = host.parse::<crate::model::Host>().is_ok_and(|host| host.is_loopback());
    match listener {
        Listener::Ecr => loopback,
        Listener::Only => loopback && method == Method::POST && path == "/",
        Listener::Upstream => false,
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
    fn every_request_has_its_room() {
        use Listener::{Ecr, Only, Upstream};
        for (host, listener, method, path, expected) in [
            ("123456789012.dkr.ecr.us-east-1.amazonaws.com", Only, "GET", "/v2/", true),
            ("123456789012.dkr.ecr-fips.us-east-1.amazonaws.com", Only, "GET", "/v2/", true),
            ("123456789012.dkr-ecr.us-east-1.on.aws", Only, "GET", "/v2/", true),
            ("123456789012.dkr-ecr-fips.us-east-1.on.aws", Only, "GET", "/v2/", true),
            ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", Only, "GET", "/v2/", true),
            ("123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu", Only, "GET", "/v2/", true),
            ("123456789012.dkr.ecr.us-east-1.amazonaws.com:443", Only, "GET", "/v2/", true),
            (
                "prod-us-east-1-starport-layer-bucket.s3.us-east-1.amazonaws.com",
                Only,
                "GET",
                "/x",
                true,
            ),
            ("api.ecr.us-east-1.amazonaws.com", Only, "POST", "/", true),
            ("ecr.us-east-1.api.aws", Only, "POST", "/", true),
            ("sts.amazonaws.com", Only, "POST", "/", true),
            ("secretsmanager.eu-west-1.amazonaws.com", Only, "POST", "/", true),
            ("127.0.0.1:4000", Only, "POST", "/", true),
            ("localhost:4000", Ecr, "GET", "/v2/a/tags/list", true),
            ("127.0.0.1:4000", Only, "GET", "/v2/", false),
            ("127.0.0.1:4000", Upstream, "POST", "/", false),
            ("public.ecr.aws", Only, "GET", "/v2/", false),
            ("public.ecr.aws", Ecr, "GET", "/v2/", false),
            ("quayio-production-s3.s3.amazonaws.com", Only, "GET", "/x", false),
            ("docker.io", Only, "GET", "/v2/", false),
            ("ecr.example.com", Only, "POST", "/", false),
            ("", Only, "GET", "/v2/", false),
        ] {
            let method: Method = method.parse().unwrap();
            let to_aws = is_for_aws(host, listener, &method, path);
            assert_eq!(to_aws, expected, "{method} {path} of {host} by {listener:?}");
        }
    }
}
