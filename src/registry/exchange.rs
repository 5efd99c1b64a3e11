//! A request to a registry and what comes back: an answer, or a no.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, Method, StatusCode, header};
use reqwest::Response;
use tokio::sync::OwnedSemaphorePermit;
use url::Url;

use super::{
    ByteStream, Pace,
    access::Access,
    auth::Pass,
    challenge::Challenge,
    errors::{Doing, Refusal},
    token::limited,
    transport::Lane,
};
use crate::model::{Error, Kind, Result};

/// A request, before anything but itself is decided.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) access: &'a Access,
    pub(super) doing: Doing,
    pub(super) lane: Lane,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl<'a> Call<'a> {
    pub(super) fn new(method: Method, url: Url, access: &'a Access, doing: Doing) -> Self {
        let (headers, body) = (HeaderMap::new(), Bytes::new());
        Self { method, url, access, doing, lane: Lane::Calls, headers, body }
    }
}

/// A 2xx answer; holds its connection's permit.
pub(super) struct Answer {
    /// How an error names the request.
    pub(super) subject: String,
    pub(super) response: Response,
    pub(super) permit: OwnedSemaphorePermit,
    /// How long nothing of its body may come.
    pub(super) stall: Duration,
}

impl Answer {
    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(super) fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The body, of at most `limit` bytes.
    pub(super) async fn bytes(self, limit: u64) -> Result<Bytes> {
        limited(self.response, limit, &self.subject, self.stall).await
    }

    /// The body as it comes; the permit goes with it.
    pub(super) fn stream(self) -> ByteStream {
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

/// Leave to send one request that cannot be repeated; holds its connection's permit.
pub(super) struct Leave {
    pub(super) pass: Option<Pass>,
    pub(super) access: Access,
    pub(super) doing: Doing,
    pub(super) permit: OwnedSemaphorePermit,
}

/// Whether a URL is the registry's, which alone sees its login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    Own,
    Other,
}

/// A refusal and what belongs to it.
pub(super) struct No {
    pub(super) refusal: Refusal,
    pub(super) subject: String,
    pub(super) wants_login: bool,
    pub(super) offered: Vec<Challenge>,
}

impl No {
    /// Slows the pace down where the answer was "too many".
    pub(super) fn slow_down(&self, pace: Option<&Pace>) {
        if let Some(pace) = pace
            && self.refusal.is_throttle()
        {
            pace.throttled();
        }
    }
}
