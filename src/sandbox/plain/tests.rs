//! The plain registry over real sockets.

mod blobs;
mod manifests;

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    model::Digest,
    sandbox::{Mode, Options, Sandbox},
};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

struct Registry {
    sandbox: Sandbox,
    client: reqwest::Client,
}

/// A response with its whole body.
struct Answer {
    status: StatusCode,
    headers: reqwest::header::HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    fn is(self, status: u16) -> Answer {
        assert_eq!(self.status.as_u16(), status, "{}", String::from_utf8_lossy(&self.body));
        self
    }

    /// Asserts a refusal and its code.
    #[track_caller]
    fn refuses(self, status: u16, code: &str) {
        let answer = self.is(status);
        assert_eq!(answer.json()["errors"][0]["code"], code);
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name}")).to_str().unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

type Headers<'a> = &'a [(&'static str, &'a str)];

impl Registry {
    async fn start() -> Registry {
        let options = Options { mode: Mode::Plain, ..Options::default() };
        let sandbox = Sandbox::start(options).await.unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Registry { sandbox, client }
    }

    /// Builds a request to a path, or to a returned location.
    async fn ask(
        &self,
        method: &str,
        at: &str,
        headers: Headers<'_>,
        body: Option<&[u8]>,
    ) -> Answer {
        let url = match at.starts_with('/') {
            true => format!("http://{}{at}", self.sandbox.address()),
            false => at.to_owned(),
        };
        let mut request = self.client.request(method.parse::<Method>().unwrap(), url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.body(body.to_vec());
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Answer { status, headers, body: response.bytes().await.unwrap().to_vec() }
    }

    async fn get(&self, at: &str) -> Answer {
        self.ask("GET", at, &[], None).await
    }

    async fn start_upload(&self, repository: &str) -> String {
        let path = format!("/v2/{repository}/blobs/uploads/");
        self.ask("POST", &path, &[], None).await.is(202).header("location").to_owned()
    }

    async fn push_blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let location = self.start_upload(repository).await;
        self.ask("PUT", &format!("{location}?digest={digest}"), &[], Some(bytes)).await.is(201);
        digest
    }

    async fn push(&self, repository: &str, at: &str, manifest: &Value) -> Answer {
        let media_type = manifest["mediaType"].as_str().unwrap_or(MANIFEST);
        let path = format!("/v2/{repository}/manifests/{at}");
        let headers = [("content-type", media_type)];
        self.ask("PUT", &path, &headers, Some(manifest.to_string().as_bytes())).await
    }

    /// Pushes the config and layer of an image, and returns its manifest.
    async fn image(&self, repository: &str, text: &str) -> Value {
        let config = self.push_blob(repository, b"{}").await;
        let layer = self.push_blob(repository, text.as_bytes()).await;
        image(&config, &layer, text.len())
    }
}

fn image(config: &Digest, layer: &Digest, size: usize) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2,
        },
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": size,
        }],
    })
}

fn digest(manifest: &Value) -> Digest {
    Digest::of(manifest.to_string().as_bytes())
}

#[tokio::test]
async fn the_base_path_identifies_a_registry() {
    let registry = Registry::start().await;
    for path in ["/v2/", "/v2"] {
        let answer = registry.get(path).await.is(200);
        assert_eq!(answer.header("docker-distribution-api-version"), "registry/2.0");
    }
}

#[tokio::test]
async fn unknown_paths_are_refused() {
    let registry = Registry::start().await;
    for (method, path, status, code) in [
        ("GET", "/", 404, "NAME_UNKNOWN"),
        ("GET", "/v2/a", 404, "NAME_UNKNOWN"),
        ("GET", "/v2/A/tags/list", 400, "NAME_INVALID"),
        ("GET", "/v2/a/blobs/x", 400, "DIGEST_INVALID"),
        ("GET", "/v2/a/manifests/absent", 404, "MANIFEST_UNKNOWN"),
        ("GET", "/v2/a/manifests/.no-tag", 404, "MANIFEST_UNKNOWN"),
        ("GET", "/v2/a/manifests/sha256:x", 400, "DIGEST_INVALID"),
        ("GET", "/v2/a/referrers/x", 400, "DIGEST_INVALID"),
        ("DELETE", "/v2/a/manifests/absent", 404, "MANIFEST_UNKNOWN"),
        ("PUT", "/v2/", 405, "UNSUPPORTED"),
        ("POST", "/v2/a/manifests/x", 405, "UNSUPPORTED"),
        ("DELETE", "/v2/a/tags/list", 405, "UNSUPPORTED"),
        ("GET", "/v2/a/blobs/uploads/", 405, "UNSUPPORTED"),
        ("PATCH", "/v2/a/blobs/uploads/absent", 404, "BLOB_UPLOAD_UNKNOWN"),
    ] {
        println!("{method} {path}");
        registry.ask(method, path, &[], None).await.refuses(status, code);
    }
}
