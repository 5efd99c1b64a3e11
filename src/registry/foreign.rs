//! Reads a foreign layer from the URLs in its descriptor, if the registry does not serve it.
//!
//! The URLs come from a manifest: their hosts receive no credentials and no client certificate, the
//! registry's CA is not trusted for them, and the content is verified as
//! any blob is.
//!
//! Source: OCI image specification, "Content Descriptors", `urls`.

use http::{HeaderValue, Method, header};
use reqwest::Request;
use url::Url;

use super::{
    client::{REDIRECTS, Registry},
    errors::Operation,
    http::ApiResponse,
    range,
    redirect::{location, may_follow},
    transport::ConnectionPool,
};
use crate::{
    model::{Descriptor, Error, Kind, Result},
    remote::ByteStream,
};

/// The largest number of URLs that are tried; real layers have one or two.
const URLS: usize = 8;

impl Registry {
    /// Opens the layer at this offset, from the first of its URLs that serves it.
    ///
    /// # Errors
    /// That of the last URL; `refusal`, the registry's, if no URL can be used.
    pub(crate) async fn open_foreign(
        &self,
        layer: &Descriptor,
        from: u64,
        refusal: Error,
    ) -> Result<ByteStream> {
        let mut failure = refusal;
        let urls = layer.urls.iter().take(URLS).filter_map(|url| Url::parse(url).ok());
        for url in urls.filter(|url| may_follow(&self.transport, &self.base, url)) {
            match self.open_url(url, layer, from).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = error,
            }
        }
        let problem =
            format!("neither the registry nor the URLs of foreign layer {} serve it", layer.digest);
        Err(failure.context(problem).hint(
            "set `foreign_layers = \"skip\"` to mirror the image without it, or read it from a \
             registry that has it",
        ))
    }

    async fn open_url(&self, mut url: Url, layer: &Descriptor, from: u64) -> Result<ByteStream> {
        let permit = self.permit(None).await;
        let stall = self.context.policy.stall.read;
        for _ in 0..=REDIRECTS {
            let subject = self.subject(&Method::GET, &url);
            let mut request = Request::new(Method::GET, url.clone());
            let identity = HeaderValue::from_static("identity");
            request.headers_mut().insert(header::ACCEPT_ENCODING, identity);
            range::add(request.headers_mut(), from);
            let pool = ConnectionPool::of(layer);
            let response = self.outside.send(pool, request, &self.context, &subject).await?;
            if response.status().is_success() {
                let response = ApiResponse { subject, url, response, permit, stall };
                let surplus = range::bytes_to_skip(&response, layer, from)?;
                return range::skip(surplus, response.stream(), stall).await;
            }
            let next = location(&self.transport, &url, response.headers());
            match next.filter(|_| response.status().is_redirection()) {
                Some(next) => url = next,
                None => {
                    return Err(self
                        .rejected(response, &subject, Operation::Read, None)
                        .await
                        .error);
                }
            }
        }
        let subject = self.subject(&Method::GET, &url);
        Err(Error::new(Kind::Protocol, format!("{subject}: more than {REDIRECTS} redirects")))
    }
}
