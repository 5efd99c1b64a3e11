//! A scripted HTTP host over real sockets. It records its requests, and counts the bytes that it
//! sends before the client disconnects.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request,
    http::{Response, StatusCode},
};
use bytes::Bytes;
use ecr_mirror::model::Digest;
use futures::{StreamExt, stream};
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinHandle};

/// A recorded request: `METHOD /path?query`, and its `Authorization`.
#[derive(Debug, Clone)]
pub(super) struct RecordedRequest {
    pub(super) line: String,
    pub(super) authorization: Option<String>,
}

#[derive(Default)]
struct Seen {
    requests: Mutex<Vec<RecordedRequest>>,
    sent: AtomicU64,
}

/// The host. Dropping it stops the server.
pub(super) struct Host {
    pub(super) address: SocketAddr,
    seen: Arc<Seen>,
    server: JoinHandle<()>,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Host {
    /// Serves the answers of the script, which is created for the host's address.
    pub(super) async fn serve<S>(script: impl FnOnce(SocketAddr) -> S) -> Self
    where
        S: Fn(&RecordedRequest) -> Response<Body> + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, script) = (Arc::<Seen>::default(), Arc::new(script(address)));
        let log = Arc::clone(&seen);
        let app = Router::new().fallback(move |request: Request| {
            let (log, script) = (Arc::clone(&log), Arc::clone(&script));
            async move {
                let recorded = RecordedRequest {
                    line: format!("{} {}", request.method(), request.uri()),
                    authorization: (request.headers().get("authorization"))
                        .map(|value| value.to_str().unwrap().to_owned()),
                };
                log.requests.lock().unwrap().push(recorded.clone());
                // the request body may break off
                let _ = to_bytes(request.into_body(), usize::MAX).await;
                counted(script(&recorded), log)
            }
        });
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, seen, server }
    }

    pub(super) fn requests(&self) -> Vec<RecordedRequest> {
        self.seen.requests.lock().unwrap().clone()
    }

    /// Bytes of response bodies that the client or the buffers on the way to it accepted.
    pub(super) fn sent(&self) -> u64 {
        self.seen.sent.load(Relaxed)
    }
}

fn counted(response: Response<Body>, seen: Arc<Seen>) -> Response<Body> {
    response.map(|body| {
        Body::from_stream(body.into_data_stream().inspect(move |chunk| {
            let length = chunk.as_ref().map_or(0, Bytes::len);
            seen.sent.fetch_add(length as u64, Relaxed);
        }))
    })
}

pub(super) fn reply(status: u16, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

pub(super) fn with(mut response: Response<Body>, name: &str, value: &str) -> Response<Body> {
    let name: axum::http::HeaderName = name.parse().unwrap();
    response.headers_mut().append(name, value.parse().unwrap());
    response
}

/// A body that starts with this text and never ends.
pub(super) fn endless(beginning: &str) -> Body {
    let first = Bytes::copy_from_slice(beginning.as_bytes());
    let more = Bytes::from_static(&[b'a'; 64 << 10]);
    let chunks = stream::iter([first]).chain(stream::repeat(more));
    Body::from_stream(chunks.map(Ok::<_, Infallible>))
}

/// A 401 that points to a token service.
pub(super) fn token_challenge(realm: &str) -> Response<Body> {
    with(reply(401, ""), "www-authenticate", &format!("Bearer realm=\"{realm}\""))
}

/// Content of the host's only repository, by the end of the path.
#[derive(Default)]
pub(super) struct Content(Vec<(String, Bytes)>);

impl Content {
    /// Adds a blob.
    pub(super) fn blob(&mut self, bytes: impl Into<Bytes>) -> Digest {
        let bytes = bytes.into();
        let digest = Digest::of(&bytes);
        self.0.push((format!("/blobs/{digest}"), bytes));
        digest
    }

    /// Adds a manifest. Tag `1` points to the last one added.
    pub(super) fn manifest(&mut self, document: &Value) -> Digest {
        let bytes = Bytes::from(document.to_string());
        let digest = Digest::of(&bytes);
        self.0.push((format!("/manifests/{digest}"), bytes.clone()));
        self.0.retain(|(path, _)| path != "/manifests/1");
        self.0.push(("/manifests/1".to_owned(), bytes));
        digest
    }

    pub(super) fn answer(&self, recorded: &RecordedRequest) -> Response<Body> {
        match self.0.iter().find(|(path, _)| recorded.line.ends_with(path)) {
            None => reply(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":""}]}"#),
            Some((_, bytes)) => {
                let digest = Digest::of(bytes);
                let answer =
                    with(reply(200, bytes.clone()), "content-length", &bytes.len().to_string());
                with(answer, "docker-content-digest", digest.as_str())
            }
        }
    }
}
