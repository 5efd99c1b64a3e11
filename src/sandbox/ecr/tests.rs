//! The embedded ECR over real sockets: the API through the AWS SDK, the data plane through a plain
//! HTTP client, so that no client code of ours is tested with it.

mod account;
mod api;
mod archive;
mod caching;
mod faults;
mod hosts;
mod images;
mod manifests;
mod pull_through;
mod repositories;
mod secrets;
mod standing;
mod uncached;
mod uploads;

use aws_sdk_ecr::config::{BehaviorVersion, Credentials, Region, retry::RetryConfig};
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    model::Digest,
    sandbox::{BlobMounting, Mode, Options, Sandbox},
};

const ACCOUNT: &str = "123456789012";
const REGION: &str = "eu-west-1";
const HOST: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// A sandbox and its clients.
struct World {
    sandbox: Sandbox,
    http: reqwest::Client,
    ecr: aws_sdk_ecr::Client,
    /// The `Basic …` header of the data plane.
    login: String,
}

/// A response of the data plane.
struct Answer {
    status: StatusCode,
    headers: reqwest::header::HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The status, and the code and message of the error envelope.
    fn refusal(&self) -> (u16, String, String) {
        let error = self.json()["errors"][0].clone();
        let text = |member: &str| error[member].as_str().unwrap_or_default().to_owned();
        (self.status.as_u16(), text("code"), text("message"))
    }

    fn assert_refused(&self, status: u16, code: &str, text: &str) {
        let (got_status, got_code, message) = self.refusal();
        assert_eq!((got_status, got_code.as_str()), (status, code), "{message}");
        assert!(message.contains(text), "{message}");
    }
}

impl World {
    async fn new() -> World {
        World::with(&[], BlobMounting::Off).await
    }

    async fn with(faults: &[&str], blob_mounting: BlobMounting) -> World {
        let faults = faults.iter().map(|fault| fault.parse().unwrap()).collect();
        World::start(Options { faults, blob_mounting, ..Options::default() }).await
    }

    async fn start(options: Options) -> World {
        let sandbox = Sandbox::start(options).await.unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        let ecr = sdk(&sandbox, REGION);
        let mut world = World { sandbox, http, ecr, login: String::new() };
        world.log_in().await;
        world
    }

    async fn log_in(&mut self) {
        let data = self.ecr.get_authorization_token().send().await.unwrap();
        let token = data.authorization_data()[0].authorization_token().unwrap();
        self.login = format!("Basic {token}");
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.sandbox.address())
    }

    /// A request to the data plane with the login.
    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, self.url(path));
        request.header("host", HOST).header("authorization", &self.login)
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Answer { status, headers, body: response.bytes().await.unwrap().to_vec() }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    async fn head(&self, path: &str) -> Answer {
        self.send(self.request(Method::HEAD, path)).await
    }

    async fn create(&self, repository: &str) {
        self.ecr.create_repository().repository_name(repository).send().await.unwrap();
    }

    /// Opens an upload session, and returns its path.
    async fn session(&self, repository: &str) -> String {
        let path = format!("/v2/{repository}/blobs/uploads/");
        let answer = self.send(self.request(Method::POST, &path)).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text());
        local(answer.header("location").unwrap())
    }

    async fn put_upload(&self, session: &str, digest: &Digest, body: &[u8]) -> Answer {
        let path = format!("{session}?digest={digest}");
        self.send(self.request(Method::PUT, &path).body(body.to_vec())).await
    }

    async fn push_blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let session = self.session(repository).await;
        let answer = self.put_upload(&session, &digest, bytes).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
        digest
    }

    async fn put_manifest(&self, repository: &str, at: &str, kind: &str, text: &str) -> Answer {
        let path = format!("/v2/{repository}/manifests/{at}");
        let request = self.request(Method::PUT, &path).header("content-type", kind);
        self.send(request.body(text.to_owned())).await
    }

    /// Pushes an image with one layer of `content`, and returns its digest and its layer's.
    async fn push_image(&self, repository: &str, tag: &str, content: &str) -> (Digest, Digest) {
        let config = self.push_blob(repository, format!("{{\"{content}\":1}}").as_bytes()).await;
        let layer = self.push_blob(repository, content.as_bytes()).await;
        let text = image(&config, &layer, content.len()).to_string();
        let answer = self.put_manifest(repository, tag, IMAGE, &text).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
        (Digest::of(text.as_bytes()), layer)
    }

    /// A raw API call with a signature of the right shape.
    async fn call(&self, operation: &str, input: &Value) -> Answer {
        let request = self.unsigned(operation).header("authorization", signature("ecr"));
        self.send(request.body(input.to_string())).await
    }

    fn unsigned(&self, operation: &str) -> reqwest::RequestBuilder {
        let target = format!("AmazonEC2ContainerRegistry_V20150921.{operation}");
        let request = self.http.post(self.url("/")).header("x-amz-target", target);
        request.header("content-type", "application/x-amz-json-1.1")
    }
}

fn sdk(sandbox: &Sandbox, region: &'static str) -> aws_sdk_ecr::Client {
    let config = aws_sdk_ecr::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(region))
        .credentials_provider(Credentials::new("AKIDSANDBOX", "secret", None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .endpoint_url(format!("http://{}", sandbox.ecr_address()))
        .build();
    aws_sdk_ecr::Client::from_conf(config)
}

fn signature(service: &str) -> String {
    let signature = "0".repeat(64);
    format!(
        "AWS4-HMAC-SHA256 Credential=AKID/20261120/{REGION}/{service}/aws4_request, SignedHeaders=host, Signature={signature}"
    )
}

/// The path and query of an absolute URL.
fn local(url: &str) -> String {
    let url: url::Url = url.parse().unwrap();
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}{query}", url.path())
}

fn image(config: &Digest, layer: &Digest, size: usize) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "config": { "mediaType": CONFIG, "digest": config, "size": 10 },
        "layers": [{ "mediaType": LAYER, "digest": layer, "size": size }],
    })
}

fn index(children: &[&Digest]) -> Value {
    let child = |digest: &&Digest| json!({ "mediaType": IMAGE, "digest": digest, "size": 1 });
    let manifests: Vec<Value> = children.iter().map(child).collect();
    json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests })
}

/// The exception's name of a failed SDK call.
fn code<T: std::fmt::Debug, E>(result: Result<T, aws_sdk_ecr::error::SdkError<E>>) -> String
where
    E: aws_sdk_ecr::error::ProvideErrorMetadata + std::fmt::Debug,
{
    use aws_sdk_ecr::error::ProvideErrorMetadata as _;
    let error = result.expect_err("it is refused");
    error.code().unwrap_or_default().to_owned()
}
