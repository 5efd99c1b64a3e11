//! Uploads a blob with two requests: a POST opens a session, one PUT sends the whole blob.
//!
//! No PATCH, which ECR mishandles. There is no total timeout: an upload fails when the registry
//! accepts no more bytes, or does not respond. A body that waits for its source is the source's to
//! judge.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use http::{HeaderValue, Method, StatusCode, header};
use reqwest::Request;
use url::Url;

use super::{
    client::Registry,
    content::RepositoryClient,
    errors::Operation,
    http::{ApiRequest, ApiResponse},
    redirect::may_follow,
    transport::authority,
};
use crate::{
    model::{Descriptor, Digest, Repository, Result},
    remote::{Body, Mount, UploadSession, stall::stalled},
};

impl RepositoryClient<'_> {
    /// Opens an upload session.
    pub(crate) async fn open_upload(&self) -> Result<UploadSession> {
        let (registry, request) = (self.registry, self.session_request());
        let post = || async { session(registry, &registry.send(&request).await?) };
        registry.context.retry(post).await
    }

    /// Mounts the blob from another repository, or opens an upload session.
    pub(crate) async fn mount(self, digest: &Digest, from: &Repository) -> Result<Mount> {
        let client = Self { scope: self.scope.mounting_from(from), ..self };
        let mut request = client.session_request();
        request.url.set_query(Some(&format!("mount={digest}&from={from}")));
        let post = || async {
            let response = client.registry.send(&request).await?;
            match response.status() {
                StatusCode::CREATED => Ok(Mount::Mounted),
                _ => session(client.registry, &response).map(Mount::Session),
            }
        };
        client.registry.context.retry(post).await
    }

    /// Sends the whole blob to the session. Makes one attempt.
    pub(crate) async fn upload(
        self,
        blob: &Descriptor,
        session: UploadSession,
        body: Body,
    ) -> Result<()> {
        let Self { registry, scope } = self;
        let (stats, size) = (body.stats(), body.size());
        let mut request = Request::new(Method::PUT, completion(session.location, &blob.digest));
        let octets = HeaderValue::from_static("application/octet-stream");
        request.headers_mut().insert(header::CONTENT_TYPE, octets);
        request.headers_mut().insert(header::CONTENT_LENGTH, size.into());
        *request.body_mut() = Some(if size == 0 {
            // the client does not poll an empty stream, so that its digest would stay unchecked
            Bytes::from(body.read().await?).into()
        } else {
            let traffic = Arc::clone(&registry.context.stats);
            let count = move |chunk: &Bytes| traffic.bytes.add(chunk.len() as u64);
            reqwest::Body::wrap_stream(body.into_stream().inspect_ok(count))
        });
        // before the watch begins: waiting for a connection is no stall
        let prepared = registry.prepare_upload(&request, scope).await?;
        let subject = prepared.subject.clone();
        let sent = tokio::select! {
            sent = registry.send_upload(request, prepared) => sent,
            limit = stats.exceeded_limit(size, &registry.context.policy.stall) => {
                Err(stalled(&format!("{subject}: no data moved for"), limit))
            }
        };
        // the HTTP client reports that the body ended, and not why
        stats.fault().map_or(sent, Err)
    }

    fn session_request(&self) -> ApiRequest<'_> {
        self.request(Method::POST, "blobs/uploads/", Operation::Upload)
    }
}

fn session(registry: &Registry, response: &ApiResponse) -> Result<UploadSession> {
    let wrong = |problem: &str| {
        response.protocol_error(problem).hint(
            "check the registry and the proxies in front of it: a proxy may remove or rewrite \
             `Location`",
        )
    };
    let location = response.header(header::LOCATION).and_then(|to| registry.base.join(to).ok());
    let location =
        location.ok_or_else(|| wrong("the response has no `Location` for the upload"))?;
    let location = registry.over_tls(location);
    if may_follow(&registry.transport, &registry.base, &location) {
        return Ok(UploadSession { location });
    }
    let host = response.secrets().redact(&authority(&location));
    Err(wrong(&format!("the upload location `{host}` is less secure than the registry")))
}

/// The URL of the PUT: the session's with the digest.
fn completion(mut location: Url, digest: &Digest) -> Url {
    let query = match location.query() {
        Some(state) if !state.is_empty() => format!("{state}&digest={digest}"),
        _ => format!("digest={digest}"),
    };
    location.set_query(Some(&query));
    location
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_added_to_the_sessions_query() {
        let digest = Digest::of(b"");
        for (location, expected) in [
            ("https://a/u/1", "https://a/u/1?digest="),
            ("https://a/u/1?", "https://a/u/1?digest="),
            ("https://a/u/1?_state=a%2Bb%3D=", "https://a/u/1?_state=a%2Bb%3D=&digest="),
        ] {
            let url = completion(location.parse().unwrap(), &digest);
            assert_eq!(url.as_str(), format!("{expected}{digest}"));
        }
    }
}
