//! A request to a registry, and its result: a response, or a refusal.

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use reqwest::Response;
use tokio::sync::OwnedSemaphorePermit;
use url::Url;

use super::{
    auth::Authorization,
    challenge::Challenge,
    errors::Operation,
    read_body::read_body,
    redact::RequestSecrets,
    scope::Scope,
    transport::{ConnectionPool, connection_broke},
};
use crate::{
    model::{Digest, Error, Kind, Result},
    remote::ByteStream,
};

/// A request without its login.
pub(crate) struct ApiRequest<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) scope: &'a Scope,
    pub(crate) operation: Operation,
    pub(crate) pool: ConnectionPool,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl<'a> ApiRequest<'a> {
    pub(crate) fn new(method: Method, url: Url, scope: &'a Scope, operation: Operation) -> Self {
        let (pool, headers, body) = (ConnectionPool::Calls, HeaderMap::new(), Bytes::new());
        Self { method, url, scope, operation, pool, headers, body }
    }
}

/// A 2xx response; holds the permit of its connection.
pub(crate) struct ApiResponse {
    /// The request as errors name it.
    pub(crate) subject: String,
    /// The URL that answered, after redirects.
    pub(crate) url: Url,
    pub(crate) response: Response,
    pub(crate) permit: OwnedSemaphorePermit,
    /// The longest time without data of the body.
    pub(crate) stall: Duration,
}

impl ApiResponse {
    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(crate) fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The `Content-Length`.
    pub(crate) fn length(&self) -> Option<u64> {
        self.header(header::CONTENT_LENGTH)?.parse().ok()
    }

    pub(crate) fn protocol_error(&self, problem: &str) -> Error {
        Error::new(Kind::Protocol, format!("{}: {problem}", self.subject))
    }

    /// Checks that the response confirms a push; see [`confirmation`].
    pub(crate) fn confirmation(&self, digest: &Digest) -> Result<Confirmation> {
        confirmation(&self.subject, self.status(), self.headers(), digest)
    }

    /// The secrets of the request, to redact them from texts of the response.
    pub(crate) fn secrets(&self) -> RequestSecrets {
        RequestSecrets::for_response(&self.response)
    }

    /// Reads and parses a body of at most `limit` bytes.
    ///
    /// The only way to the content of a response. Its value cannot contain the login, and its
    /// errors contain no secret of the request.
    ///
    /// # Errors
    /// Those of reading and parsing; [`Kind::Protocol`] if the body or its type contain the login.
    pub(crate) async fn document<T>(
        self,
        limit: u64,
        parse: impl FnOnce(Bytes) -> Result<T>,
    ) -> Result<T> {
        let secrets = self.secrets();
        let content_type = self.headers().get(header::CONTENT_TYPE).cloned();
        let body = read_body(self.response, limit, &self.subject, self.stall).await?;
        let repeats_login = secrets.login_is_in(&body)
            || content_type.is_some_and(|value| secrets.login_is_in(value.as_bytes()));
        let parsed = match repeats_login {
            true => Err(Error::new(Kind::Protocol, "it repeats the login of the request")
                .hint("check the proxies in front of the registry, such as one in debug mode, and change the password")),
            false => parse(body).map_err(|error| secrets.redact_error(error)),
        };
        parsed.map_err(|error| error.context(format!("{}: cannot use the response", self.subject)))
    }

    /// The body while it arrives; holds the permit.
    pub(crate) fn stream(self) -> ByteStream {
        let Self { subject, response, permit, .. } = self;
        let chunks = response.bytes_stream().map_err(move |error| {
            let _held = &permit;
            connection_broke(error, &subject)
        });
        chunks.boxed()
    }
}

/// The login and the connection's permit for one request that cannot be repeated.
pub(crate) struct PreparedUpload {
    /// The request as errors name it.
    pub(crate) subject: String,
    pub(crate) secrets: RequestSecrets,
    pub(crate) authorization: Option<Authorization>,
    pub(crate) scope: Scope,
    pub(crate) permit: OwnedSemaphorePermit,
}

/// The answer to an upload: success, a redirect that keeps the method, or a refusal.
pub(crate) struct UploadAnswer {
    /// The request as errors name it.
    pub(crate) subject: String,
    pub(crate) url: Url,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) refusal: Option<Error>,
}

/// The evidence in a response that content is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Confirmation {
    /// The response names the content.
    Named,
    /// The status says so, and no header: ask for the content.
    StatusOnly,
}

/// Checks that a response confirms that this content is stored: by status 201, or by 200 or 204
/// with its digest. Another digest is an error with every status.
///
/// Source: OCI distribution specification 1.1, "Pushing blobs" and "Pushing manifests".
///
/// # Errors
/// [`Kind::Protocol`], with the status.
pub(crate) fn confirmation(
    subject: &str,
    status: StatusCode,
    headers: &HeaderMap,
    digest: &Digest,
) -> Result<Confirmation> {
    let stored = headers.get("docker-content-digest").map(HeaderValue::as_bytes);
    let is_same = stored.map(|stored| stored == digest.as_str().as_bytes());
    let has_location = headers.contains_key(header::LOCATION);
    let problem = match (status, is_same) {
        (_, Some(false)) => "the registry confirms another digest than",
        (StatusCode::CREATED | StatusCode::OK | StatusCode::NO_CONTENT, Some(true)) => {
            return Ok(Confirmation::Named);
        }
        (StatusCode::CREATED, None) if has_location => return Ok(Confirmation::Named),
        (StatusCode::CREATED, None) => return Ok(Confirmation::StatusOnly),
        _ => "the status does not confirm",
    };
    Err(unconfirmed(subject, status, problem, digest))
}

/// The error for a response that claims to have stored content.
pub(crate) fn unconfirmed(
    subject: &str,
    status: StatusCode,
    problem: &str,
    digest: &Digest,
) -> Error {
    let problem = format!("{subject}: {}: {problem} {digest}", status.as_u16());
    Error::new(Kind::Protocol, problem)
        .hint("check for a proxy that answers in place of the registry, such as a login page")
}

/// A response other than 2xx.
pub(crate) struct Rejected {
    pub(crate) error: Error,
    pub(crate) wants_login: bool,
    pub(crate) challenges: Vec<Challenge>,
}
