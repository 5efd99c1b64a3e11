//! One run of a probe: its requests, their record, and the things that it makes.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use aws_sdk_ecr::{config::http::HttpResponse, error::SdkError};
use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        interceptors::{
            Intercept,
            context::{
                AfterDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
            },
        },
        runtime_components::RuntimeComponents,
    },
};
use aws_smithy_types::config_bag::ConfigBag;
use ecr_mirror::model::Digest;
use http::{HeaderMap, Method};
use serde_json::{Value, json};
use url::Url;

use super::{
    backend::Backend,
    made::{Made, remove},
    probe::{Behaves, Probe},
    transcript::{self, Exchange},
};

pub(crate) const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// The pause between two looks at a state that ECR may tell late.
const PAUSE: Duration = Duration::from_secs(5);

/// One run of a probe.
pub(crate) struct ProbeRun {
    pub(crate) backend: Arc<Backend>,
    probe: &'static Probe,
    behaves: Behaves,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    is_question: bool,
    recorded: Recorded,
    made: Vec<Made>,
}

/// The record of a run.
#[derive(Default)]
pub(crate) struct Recorded {
    pub(crate) exchanges: Vec<Exchange>,
    /// Details for the table that do not decide.
    pub(crate) notes: Vec<String>,
}

/// The answer to a request of the registry protocol. Without a status, the connection was closed.
pub(crate) struct Answer {
    pub(crate) status: Option<u16>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// The answer to a call of an AWS API.
pub(crate) struct ApiAnswer {
    /// The name of the error, like `RepositoryNotFoundException`.
    pub(crate) error: Option<String>,
    pub(crate) body: Value,
}

/// A pushed image.
pub(crate) struct Pushed {
    pub(crate) digest: Digest,
    pub(crate) layer: Digest,
    /// The manifest.
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The status, with the code of the first error if there is one.
    pub(crate) fn code(&self) -> String {
        let Some(status) = self.status else { return "the connection was closed".to_owned() };
        match self.json()["errors"][0]["code"].as_str() {
            Some(code) => format!("{status} {code}"),
            None => status.to_string(),
        }
    }

    /// Fails unless the status is this one.
    fn expect(self, status: u16, what: &str) -> Result<Self> {
        ensure!(self.status == Some(status), "{what}: {} {}", self.code(), self.text());
        Ok(self)
    }
}

impl ApiAnswer {
    /// The error's name, or `accepted`.
    pub(crate) fn outcome(&self) -> String {
        self.error.clone().unwrap_or_else(|| "accepted".to_owned())
    }

    /// The body of a call that must succeed.
    pub(crate) fn accepted(self) -> Result<Value> {
        match self.error {
            None => Ok(self.body),
            Some(error) => bail!("{error}: {}", self.body["message"]),
        }
    }
}

impl ProbeRun {
    pub(crate) fn new(backend: Arc<Backend>, probe: &'static Probe, behaves: Behaves) -> Self {
        Self { backend, probe, behaves, state: Mutex::default() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    pub(crate) fn into_recorded(self) -> Recorded {
        self.state.into_inner().expect("no holder panics").recorded
    }

    /// Ends the preparation: the following requests ask the question. From now on the embedded ECR
    /// behaves otherwise, if it should.
    pub(crate) fn prepared(&self) {
        self.state().is_question = true;
        if self.behaves == Behaves::Otherwise {
            self.backend.add_fault(self.probe.otherwise);
        }
    }

    /// Adds a detail to the table.
    pub(crate) fn note(&self, text: impl Into<String>) {
        self.state().recorded.notes.push(text.into());
    }

    /// Registers a thing before the request that makes it.
    pub(crate) fn will_make(&self, thing: Made) {
        self.state().made.push(thing);
    }

    /// Removes everything that was made, the last first. Returns the things that are left.
    pub(crate) async fn remove_made(&self) -> Vec<String> {
        let made = std::mem::take(&mut self.state().made);
        let mut left = Vec::new();
        for thing in made.iter().rev() {
            if let Err(error) = remove(self, thing).await {
                left.push(format!("{thing}: {error:#}"));
            }
        }
        left
    }

    /// Looks until there is an answer, at most for `limit` at AWS. The embedded ECR is asked once.
    pub(crate) async fn until<T, F>(
        &self,
        limit: Duration,
        look: impl Fn() -> F,
    ) -> Result<Option<T>>
    where
        F: Future<Output = Result<Option<T>>>,
    {
        let began = Instant::now();
        loop {
            let seen = look().await?;
            if seen.is_some() || self.backend.sandbox().is_some() || began.elapsed() > limit {
                return Ok(seen);
            }
            self.backend.wait(PAUSE).await;
        }
    }
}

/// Names, and the things that most probes make.
impl ProbeRun {
    /// A name of this probe's own, with this last part.
    pub(crate) fn name(&self, last: &str) -> String {
        format!("{}/{}/{last}", self.backend.prefix, self.probe.id)
    }

    /// A prefix of rules and templates of this probe's own, of at most 30 characters.
    pub(crate) fn short_prefix(&self) -> String {
        let number = crate::probes::number(self.probe.id);
        format!("{}/p{number}", self.backend.prefix)
    }

    /// Creates a repository of this probe's own, and returns its name.
    pub(crate) async fn repository(&self) -> Result<String> {
        self.repository_with("a", |create| create).await
    }

    /// Creates a repository with this last part of its name and these settings.
    pub(crate) async fn repository_with(
        &self,
        last: &str,
        settings: impl FnOnce(CreateRepository) -> CreateRepository,
    ) -> Result<String> {
        let name = self.name(last);
        self.will_make(Made::Repository(name.clone()));
        let made =
            self.api(|ecr| settings(ecr.create_repository().repository_name(&name)).send()).await?;
        made.accepted().context("cannot create the probe's repository")?;
        Ok(name)
    }

    /// Opens an upload.
    pub(crate) async fn open_upload(&self, repository: &str) -> Result<Url> {
        let answer = self.post(&format!("{repository}/blobs/uploads/")).await?;
        let answer = answer.expect(202, "cannot open an upload")?;
        self.url(answer.header("location").context("no Location")?)
    }

    /// Ends an upload with this body.
    pub(crate) async fn put_upload(
        &self,
        upload: &Url,
        digest: &str,
        body: &[u8],
    ) -> Result<Answer> {
        let mut url = upload.clone();
        url.query_pairs_mut().append_pair("digest", digest);
        let length = body.len().to_string();
        let headers = [("content-type", "application/octet-stream"), ("content-length", &length)];
        self.send(Method::PUT, url, &headers, body).await
    }

    /// Pushes a blob.
    pub(crate) async fn push_blob(&self, repository: &str, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        let upload = self.open_upload(repository).await?;
        let answer = self.put_upload(&upload, digest.as_str(), bytes).await?;
        answer.expect(201, "cannot push a blob")?;
        Ok(digest)
    }

    /// Pushes the blobs of an image, and returns its manifest.
    pub(crate) async fn push_blobs(&self, repository: &str, content: &str) -> Result<Pushed> {
        let config = format!(r#"{{"architecture":"amd64","os":"linux","author":"{content}"}}"#);
        let layer = self.push_blob(repository, content.as_bytes()).await?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": IMAGE,
            "config": {
                "mediaType": CONFIG,
                "digest": self.push_blob(repository, config.as_bytes()).await?.as_str(),
                "size": config.len(),
            },
            "layers": [{ "mediaType": LAYER, "digest": layer.as_str(), "size": content.len() }],
        });
        let text = manifest.to_string();
        Ok(Pushed { digest: Digest::of(text.as_bytes()), layer, text })
    }

    /// Pushes an image.
    pub(crate) async fn push_image(&self, repository: &str, tag: &str) -> Result<Pushed> {
        let image = self.push_blobs(repository, &format!("layer of {tag}")).await?;
        let answer = self.put_manifest(repository, tag, IMAGE, &image.text).await?;
        answer.expect(201, "cannot push an image")?;
        Ok(image)
    }

    pub(crate) async fn put_manifest(
        &self,
        repository: &str,
        at: &str,
        media_type: &str,
        text: &str,
    ) -> Result<Answer> {
        let url = self.url(&format!("/v2/{repository}/manifests/{at}"))?;
        self.send(Method::PUT, url, &[("content-type", media_type)], text.as_bytes()).await
    }
}

pub(crate) type CreateRepository =
    aws_sdk_ecr::operation::create_repository::builders::CreateRepositoryFluentBuilder;

/// Requests of the registry protocol, with the program's login.
impl ProbeRun {
    /// A URL of the registry.
    pub(crate) fn url(&self, location: &str) -> Result<Url> {
        Ok(Url::parse(&format!("https://{}", self.backend.host))?.join(location)?)
    }

    /// Sends a POST without a body to this path below `/v2/`.
    pub(crate) async fn post(&self, path: &str) -> Result<Answer> {
        let url = self.url(&format!("/v2/{path}"))?;
        self.send(Method::POST, url, &[("content-length", "0")], b"").await
    }

    /// Sends a GET to this path below `/v2/`.
    pub(crate) async fn get(&self, path: &str) -> Result<Answer> {
        self.read(Method::GET, path, "*/*").await
    }

    /// Sends a GET or HEAD to this path below `/v2/`, with this `Accept`.
    pub(crate) async fn read(&self, method: Method, path: &str, accept: &str) -> Result<Answer> {
        let url = self.url(&format!("/v2/{path}"))?;
        self.send(method, url, &[("accept", accept)], b"").await
    }

    /// Sends a request with the program's login.
    pub(crate) async fn send(
        &self,
        method: Method,
        url: Url,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer> {
        let login = self.backend.login().await?;
        self.send_as(Some(&login), method, url, headers, body).await
    }

    /// Sends a request with this `Authorization`.
    pub(crate) async fn send_as(
        &self,
        login: Option<&str>,
        method: Method,
        url: Url,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer> {
        let (address, authority) = self.backend.address(&url)?;
        let mut request = self.backend.http.request(method.clone(), address);
        if self.backend.sandbox().is_some() {
            request = request.header("host", authority);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(login) = login {
            request = request.header("authorization", login);
        }
        let sent = request.body(body.to_vec()).send().await;
        let answer = match sent {
            Ok(response) => {
                let (status, headers) = (response.status().as_u16(), response.headers().clone());
                let body = response.bytes().await.context("the body broke off")?.to_vec();
                Answer { status: Some(status), headers, body }
            }
            Err(error) if error.is_request() && !error.is_connect() && !error.is_timeout() => {
                Answer { status: None, headers: HeaderMap::new(), body: Vec::new() }
            }
            Err(error) => return Err(error.without_url()).context(format!("{method} {url}")),
        };
        let text = transcript::of_registry(&method, &url, login.is_some(), headers, body, &answer);
        self.record(text);
        Ok(answer)
    }

    fn record(&self, text: String) {
        let mut state = self.state();
        let is_question = state.is_question;
        state.recorded.exchanges.push(Exchange { is_question, text });
    }
}

/// Calls of AWS APIs, with the program's session.
impl ProbeRun {
    /// Calls ECR's API.
    pub(crate) async fn api<T, E, F>(
        &self,
        call: impl FnOnce(aws_sdk_ecr::Client) -> F,
    ) -> Result<ApiAnswer>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: std::error::Error + 'static,
    {
        self.api_with(|config| config, call).await
    }

    /// Calls ECR's API with a changed configuration.
    pub(crate) async fn api_with<T, E, F>(
        &self,
        change: impl FnOnce(aws_sdk_ecr::config::Builder) -> aws_sdk_ecr::config::Builder,
        call: impl FnOnce(aws_sdk_ecr::Client) -> F,
    ) -> Result<ApiAnswer>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: std::error::Error + 'static,
    {
        let recorder = Recorder::default();
        let config = aws_sdk_ecr::config::Builder::from(&self.backend.session.config);
        let config = change(config).interceptor(recorder.clone()).build();
        let result = call(aws_sdk_ecr::Client::from_conf(config)).await;
        self.answered(recorder, result.err().map(aws_sdk_ecr::error::DisplayErrorContext))
    }

    /// Calls Secrets Manager.
    pub(crate) async fn secrets<T, E, F>(
        &self,
        call: impl FnOnce(aws_sdk_secretsmanager::Client) -> F,
    ) -> Result<ApiAnswer>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: std::error::Error + 'static,
    {
        let recorder = Recorder::default();
        let config = aws_sdk_secretsmanager::config::Builder::from(&self.backend.session.config);
        let config = config.interceptor(recorder.clone()).build();
        let result = call(aws_sdk_secretsmanager::Client::from_conf(config)).await;
        self.answered(recorder, result.err().map(aws_sdk_ecr::error::DisplayErrorContext))
    }

    fn answered(&self, recorder: Recorder, error: Option<impl ToString>) -> Result<ApiAnswer> {
        let error = error.map(|error| error.to_string()).unwrap_or_default();
        let recorded = std::mem::take(&mut *recorder.0.lock().expect("no holder panics"));
        self.record(format!("{}{}", recorded.request, recorded.response));
        // an error without an answer is not AWS's
        let Some(status) = recorded.status else { bail!("{error}") };
        let body: Value = serde_json::from_str(&recorded.body).unwrap_or_default();
        let name = body["__type"].as_str().unwrap_or("an error without a name");
        let name = name.rsplit('#').next().unwrap_or(name).to_owned();
        Ok(ApiAnswer { error: (status != 200).then_some(name), body })
    }
}

/// Records one call of the SDK.
#[derive(Debug, Clone, Default)]
struct Recorder(Arc<Mutex<Call>>);

#[derive(Debug, Default)]
struct Call {
    request: String,
    response: String,
    status: Option<u16>,
    body: String,
}

impl Intercept for Recorder {
    fn name(&self) -> &'static str {
        "Recorder"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request();
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let body = request.body().bytes().unwrap_or_default();
        let mut call = self.0.lock().expect("no holder panics");
        call.request = transcript::of_call(target, request.uri(), body);
        Ok(())
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response();
        let body = response.body().bytes().unwrap_or_default();
        let status = response.status().as_u16();
        let headers = response.headers().iter();
        let mut call = self.0.lock().expect("no holder panics");
        call.response = transcript::of_answer(Some(status), headers, body);
        call.status = Some(status);
        call.body = String::from_utf8_lossy(body).into_owned();
        Ok(())
    }
}
