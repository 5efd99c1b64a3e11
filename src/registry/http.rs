//! A request to a registry and what comes back: an answer, or a no.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, Method, StatusCode, header};
use reqwest::Response;
use tokio::sync::OwnedSemaphorePermit;
use url::Url;

use super::{
    RateLimiter,
    auth::Authorization,
    challenge::Challenge,
    errors::{Operation, RefusalDetails},
    redact::RequestSecrets,
    scope::Scope,
    token::limited,
    transport::ConnectionPool,
};
use crate::{
    model::{Error, Kind, Result},
    remote::ByteStream,
};

/// A request, before anything but itself is decided.
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
    pub(crate) fn new(method: Method, url: Url, access: &'a Scope, doing: Operation) -> Self {
        let (headers, body) = (HeaderMap::new(), Bytes::new());
        Self {
            method,
            url,
            scope: access,
            operation: doing,
            pool: ConnectionPool::Calls,
            headers,
            body,
        }
    }
}

/// A 2xx answer; holds its connection's permit.
pub(crate) struct ApiResponse {
    /// How an error names the request.
    pub(crate) subject: String,
    pub(crate) response: Response,
    pub(crate) permit: OwnedSemaphorePermit,
    /// How long nothing of its body may come.
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

    /// What the request carried, which what comes from the answer is shown without.
    pub(crate) fn sent(&self) -> RequestSecrets {
        RequestSecrets::for_answer(&self.response)
    }

    /// What `read` makes of the body, of at most `limit` bytes.
    ///
    /// The one way to what an answer says: nothing of the login is in what comes out of it, and
    /// nothing of what the request carried in an error.
    ///
    /// # Errors
    /// Those of reading, and [`Kind::Protocol`] where the login is in the body or in its type.
    pub(crate) async fn document<T>(
        self,
        limit: u64,
        read: impl FnOnce(Bytes) -> Result<T>,
    ) -> Result<T> {
        let sent = self.sent();
        let kind = self.headers().get(header::CONTENT_TYPE).cloned();
        let body = limited(self.response, limit, &self.subject, self.stall).await?;
        let is_repeated = sent.is_in(&body) || kind.is_some_and(|kind| sent.is_in(kind.as_bytes()));
        let read = match is_repeated {
            true => Err(repeated()),
            false => read(body).map_err(|error| sent.redact_error(error)),
        };
        read.map_err(|error| error.context(format!("{}: the answer cannot be used", self.subject)))
    }

    /// The body as it comes; the permit goes with it.
    pub(crate) fn stream(self) -> ByteStream {
        let Self { subject, response, permit, .. } = self;
        let chunks = response.bytes_stream().map(move |chunk| {
            let _held = &permit;
            chunk.map_err(|error| {
                Error::new(Kind::Unavailable, format!("{subject}: the connection broke"))
                    .because(error.without_url())
            })
        });
        chunks.boxed()
    }
}

fn repeated() -> Error {
    Error::new(Kind::Protocol, "it repeats the login that it was asked with")
        .hint("look at what is between here and the registry, such as a proxy that is being debugged, and change the password")
}

/// Leave to send one request that cannot be repeated; holds its connection's permit.
pub(crate) struct PreparedUpload {
    /// How an error names the request.
    pub(crate) subject: String,
    pub(crate) secrets: RequestSecrets,
    pub(crate) authorization: Option<Authorization>,
    pub(crate) access: Scope,
    pub(crate) doing: Operation,
    pub(crate) permit: OwnedSemaphorePermit,
}

/// Whether a URL is the registry's, which alone sees its login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UrlOwner {
    Own,
    Other,
}

/// A refusal and what belongs to it.
pub(crate) struct Rejected {
    pub(crate) refusal: RefusalDetails,
    pub(crate) subject: String,
    pub(crate) wants_login: bool,
    pub(crate) offered: Vec<Challenge>,
}

impl Rejected {
    /// Slows the pace down where the answer was "too many".
    pub(crate) fn slow_down(&self, pace: Option<&RateLimiter>) {
        if let Some(pace) = pace
            && self.refusal.is_throttle()
        {
            pace.slow_down();
        }
    }
}
