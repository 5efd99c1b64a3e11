//! The HTTP client of the AWS SDK: the connections, proxies and TLS trust of registries.
//!
//! A request that gets no response fails with an [`Error`] that already has its kind and hint. A
//! refusal contains no secret of the session before the SDK reads or logs it.

use std::{fmt, sync::Arc, time::Duration};

use aws_credential_types::provider::future::ProvideCredentials as CredentialsFuture;
use aws_sdk_ecr::config::{
    HttpClient, ProvideCredentials, RuntimeComponents, SharedCredentialsProvider,
    http::{HttpRequest, HttpResponse},
};
use aws_smithy_runtime_api::client::{
    http::{HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector},
    result::ConnectorError,
};
use aws_smithy_types::body::SdkBody;
use reqwest::Request;
use url::form_urlencoded;

use crate::{
    model::{Error, Kind, Result},
    registry::{KnownSecrets, Transport, transport::authority},
    remote::stall::within,
};

/// The largest response, in bytes. The largest real ones have the manifests of 100 images.
const RESPONSE_LIMIT: u64 = 64 << 20;

/// Headers with a secret that AWS or a metadata service knows.
const SECRET_HEADERS: [&str; 2] = ["x-amz-security-token", "x-amz-sso_bearer_token"];

/// Connections for the SDK's requests; clones share them.
#[derive(Clone)]
pub(super) struct SdkHttp {
    /// The error that every request gets, if AWS's CA bundle is unusable.
    transport: Result<Transport>,
    secrets: KnownSecrets,
}

impl SdkHttp {
    pub(super) fn new(transport: Result<Transport>, secrets: KnownSecrets) -> Self {
        Self { transport, secrets }
    }

    async fn send(&self, request: HttpRequest, limit: Duration) -> Result<HttpResponse> {
        let transport = self.transport.as_ref().map_err(Error::clone)?;
        let request = self.convert(&request)?;
        let subject = format!("{} {}", request.method(), authority(request.url()));
        let problem = format!("{subject}: no response for");
        let exchange = transport.exchange(request, RESPONSE_LIMIT, &subject);
        let response = within(limit, &problem, exchange).await??;
        let unusable = || Error::new(Kind::Protocol, format!("{subject}: unusable response"));
        let (parts, body) = response.into_parts();
        let is_refusal = !parts.status.is_success();
        let redact = |text: &[u8]| self.secrets.redact(&String::from_utf8_lossy(text));
        let body = if is_refusal { SdkBody::from(redact(&body)) } else { SdkBody::from(body) };
        let status = parts.status.as_u16().try_into().map_err(|_| unusable())?;
        let mut converted = HttpResponse::new(status, body);
        for (name, value) in &parts.headers {
            let value = match is_refusal {
                true => redact(value.as_bytes()),
                false => value.to_str().map_err(|_| unusable())?.to_owned(),
            };
            // a header that the SDK cannot hold has no meaning for it
            let _ = converted.headers_mut().try_append(name.as_str().to_owned(), value);
        }
        Ok(converted)
    }

    /// The request for the transport. Records its secrets.
    fn convert(&self, request: &HttpRequest) -> Result<Request> {
        let unusable = || Error::new(Kind::Configuration, "cannot send a request to AWS");
        let method = request.method().parse().map_err(|_| unusable())?;
        let url = request.uri().parse().map_err(|error| {
            let problem = format!("`{}` is not a URL of AWS", request.uri());
            Error::new(Kind::Configuration, problem).because(error)
        })?;
        let body = request.body().bytes().ok_or_else(unusable)?;
        let mut converted = Request::new(method, url);
        for (name, value) in request.headers() {
            let name: http::HeaderName = name.parse().map_err(|_| unusable())?;
            let mut sent: http::HeaderValue = value.parse().map_err(|_| unusable())?;
            if SECRET_HEADERS.contains(&name.as_str()) {
                self.secrets.record(value);
                sent.set_sensitive(true);
            }
            sent.set_sensitive(sent.is_sensitive() || name == http::header::AUTHORIZATION);
            converted.headers_mut().append(name, sent);
        }
        let tokens = form_urlencoded::parse(body).filter(|(name, _)| name == "WebIdentityToken");
        tokens.for_each(|(_, token)| self.secrets.record(&token));
        if !body.is_empty() {
            *converted.body_mut() = Some(body.to_vec().into());
        }
        Ok(converted)
    }
}

impl fmt::Debug for SdkHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SdkHttp")
    }
}

impl HttpClient for SdkHttp {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        // the transport limits the time to connect; the session limits an attempt
        let connect = settings.connect_timeout().unwrap_or_default();
        let limit = settings.read_timeout().map_or(Duration::MAX, |read| read + connect);
        SharedHttpConnector::new(LimitedHttp { http: self.clone(), limit })
    }
}

/// The client with the longest time until a response.
#[derive(Debug)]
struct LimitedHttp {
    http: SdkHttp,
    limit: Duration,
}

impl HttpConnector for LimitedHttp {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (http, limit) = (self.http.clone(), self.limit);
        HttpConnectorFuture::new(async move {
            http.send(request, limit).await.map_err(|error| match error.kind() {
                Kind::Unavailable => ConnectorError::io(error.into()),
                Kind::Stalled => ConnectorError::timeout(error.into()),
                // the SDK does not retry it
                _ => ConnectorError::user(error.into()),
            })
        })
    }
}

/// Credentials whose secrets are recorded before their first use.
#[derive(Debug)]
pub(super) struct RecordedCredentials {
    pub(super) provider: SharedCredentialsProvider,
    pub(super) secrets: KnownSecrets,
}

impl ProvideCredentials for RecordedCredentials {
    fn provide_credentials<'a>(&'a self) -> CredentialsFuture<'a>
    where
        Self: 'a,
    {
        CredentialsFuture::new(async move {
            let found = self.provider.provide_credentials().await?;
            self.secrets.record(found.secret_access_key());
            found.session_token().into_iter().for_each(|token| self.secrets.record(token));
            Ok(found)
        })
    }

    fn fallback_on_interrupt(&self) -> Option<aws_sdk_ecr::config::Credentials> {
        self.provider.fallback_on_interrupt()
    }
}

/// Wraps the provider so that its secrets are recorded.
pub(super) fn recorded(
    provider: SharedCredentialsProvider,
    secrets: &KnownSecrets,
) -> SharedCredentialsProvider {
    let secrets = secrets.clone();
    SharedCredentialsProvider::new(
        Arc::new(RecordedCredentials { provider, secrets }) as Arc<dyn ProvideCredentials>
    )
}
