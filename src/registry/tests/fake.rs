//! A scripted server that plays every host over real sockets, and records its requests.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request,
    http::{Response, StatusCode},
};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::net::TcpListener;

use crate::{
    registry::{ConnectionSettings, Credentials, Network, Registry, Transport},
    remote::HostContext,
};

/// One request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) line: String,
    pub(crate) authorization: Option<String>,
    pub(crate) range: Option<String>,
    pub(crate) content_length: Option<String>,
    pub(crate) content_range: Option<String>,
    pub(crate) body: Bytes,
}

impl Asked {
    fn head(request: &Request) -> Self {
        let text = |name: &str| request.headers().get(name).map(|v| v.to_str().unwrap().to_owned());
        let host = text("host").unwrap();
        Self {
            line: format!("{} {host}{}", request.method(), request.uri()),
            authorization: text("authorization"),
            range: text("range"),
            content_length: text("content-length"),
            content_range: text("content-range"),
            body: Bytes::new(),
        }
    }
}

type Script = dyn Fn(&Asked) -> Response<Body> + Send + Sync;

pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    server: tokio::task::JoinHandle<()>,
    pub(crate) context: Arc<HostContext>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Fake {
    /// Answers with what the script says to `METHOD host/path?query`.
    pub(crate) async fn new(
        script: impl Fn(&Asked) -> Response<Body> + Send + Sync + 'static,
    ) -> Self {
        Self::early(|_| None, script).await
    }

    /// Sends the answer of `early` before it reads the request's body, else as [`Self::new`].
    pub(crate) async fn early(
        early: impl Fn(&Asked) -> Option<Response<Body>> + Send + Sync + 'static,
        script: impl Fn(&Asked) -> Response<Body> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (log, script) = (Arc::clone(&asked), Arc::new(script) as Arc<Script>);
        let early = Arc::new(early);
        let app = Router::new().fallback(move |request: Request| {
            let (log, script) = (Arc::clone(&log), Arc::clone(&script));
            let early = Arc::clone(&early);
            async move {
                let mut asked = Asked::head(&request);
                if let Some(answer) = early(&asked) {
                    log.lock().push(asked);
                    return answer;
                }
                let Ok(body) = to_bytes(request.into_body(), usize::MAX).await else {
                    return reply(400, "");
                };
                asked.body = body;
                log.lock().push(asked.clone());
                script(&asked)
            }
        });
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, asked, server, context: Arc::default() }
    }

    /// A client of this host, which the fake plays.
    pub(crate) fn registry(&self, host: &str, settings: ConnectionSettings) -> Arc<Registry> {
        let transport = Transport::new(Network::Sandbox(self.address));
        let context = Arc::clone(&self.context);
        Arc::new(Registry::new(host.parse().unwrap(), settings, &transport, context).unwrap())
    }

    pub(crate) fn anonymous(&self, host: &str) -> Arc<Registry> {
        let credentials = Credentials::Anonymous;
        self.registry(host, ConnectionSettings { credentials, ..ConnectionSettings::default() })
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().clone()
    }

    /// The recorded requests, as `METHOD host/path?query`.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }
}

pub(crate) fn reply(status: u16, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

pub(crate) fn with(
    mut response: Response<Body>,
    name: &'static str,
    value: &str,
) -> Response<Body> {
    response.headers_mut().append(name, value.parse().unwrap());
    response
}

/// An answer to a HEAD without `Content-Length`, which the caller adds.
pub(crate) fn head(status: u16) -> Response<Body> {
    reply(status, Body::from_stream(futures::stream::empty::<Result<Bytes, std::io::Error>>()))
}

/// The answer to a push that stored its content.
pub(crate) fn created() -> Response<Body> {
    with(reply(201, ""), "location", "/stored")
}

/// An error as registries write it.
pub(crate) fn error(status: u16, code: &str) -> Response<Body> {
    reply(status, serde_json::json!({"errors": [{"code": code, "message": "because"}]}).to_string())
}

/// A manifest's bytes.
pub(crate) const MANIFEST: &str = r#"{"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0},"layers":[]}"#;

/// A 401 with this challenge.
pub(crate) fn challenge(value: &str) -> Response<Body> {
    with(error(401, "UNAUTHORIZED"), "www-authenticate", value)
}
