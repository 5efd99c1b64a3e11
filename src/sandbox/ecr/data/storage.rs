//! The S3 behind ECR: layers by pre-signed URL, on another host than the registry.
//!
//! The URL alone authorizes: a forwarded `Authorization` header is refused, as S3 refuses two
//! mechanisms at once.

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderValue, Method, StatusCode, header, request::Parts},
    response::Response,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{
    model::Digest,
    sandbox::{
        Naming,
        distribution::{self, Blob, query},
        ecr::{Ecr, clock::since_epoch, identity::checksum, registry::Registry},
        is_loopback,
    },
};

/// Validity of a URL, in seconds.
const URL_SECONDS: u64 = 3600;

impl Ecr {
    /// The pre-signed URL of a layer, on another host than `host`.
    pub(in crate::sandbox::ecr) fn storage_url(
        &self,
        registry: &Registry,
        repository: &str,
        digest: &Digest,
        host: &str,
    ) -> String {
        let Registry { account, region, .. } = registry;
        let encoded = URL_SAFE_NO_PAD.encode(repository);
        let key = format!("{region}/{account}/{encoded}/{}", digest.hex());
        let signed_at = since_epoch().as_secs();
        let base = if self.naming == Naming::Loopback && is_loopback(host) {
            // clients treat another name of the same machine as another host
            format!("http://{}/s3", other_loopback(host))
        } else {
            format!("http://prod-{region}-starport-layer-bucket.s3.{region}.amazonaws.com")
        };
        format!(
            "{base}/{key}?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires={URL_SECONDS}&X-Amz-Date={signed_at}&X-Amz-SignedHeaders=host&X-Amz-Signature={}",
            signature(&key, &signed_at.to_string())
        )
    }
}

fn other_loopback(host: &str) -> String {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) => (name, format!(":{port}")),
        None => (host, String::new()),
    };
    let other = if name == "localhost" { "127.0.0.1" } else { "localhost" };
    format!("{other}{port}")
}

fn signature(key: &str, signed_at: &str) -> String {
    checksum(&format!("{key} {signed_at}"))
}

pub(in crate::sandbox::ecr) async fn answer(ecr: &Ecr, request: Request) -> Response {
    match read(ecr, &request.into_parts().0).await {
        Ok(response) => response,
        Err((status, code, message)) => refused(status, code, message),
    }
}

async fn read(
    ecr: &Ecr,
    request: &Parts,
) -> Result<Response, (StatusCode, &'static str, &'static str)> {
    if request.headers.contains_key(header::AUTHORIZATION) {
        let text = "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter or the Authorization header should be specified";
        return Err((StatusCode::BAD_REQUEST, "InvalidArgument", text));
    }
    let mismatch = (
        StatusCode::FORBIDDEN,
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided.",
    );
    let uri = &request.uri;
    let path = uri.path();
    let key = path.strip_prefix("/s3/").or_else(|| path.strip_prefix('/')).unwrap_or(path);
    let signed_at = query(uri, "X-Amz-Date").ok_or(mismatch)?;
    // a URL is signed for one method
    if request.method != Method::GET
        || query(uri, "X-Amz-Signature") != Some(signature(key, &signed_at))
    {
        return Err(mismatch);
    }
    let signed_at: u64 = signed_at.parse().map_err(|_| mismatch)?;
    if since_epoch().as_secs() > signed_at + URL_SECONDS {
        return Err((StatusCode::FORBIDDEN, "AccessDenied", "Request has expired"));
    }
    let missing = (StatusCode::NOT_FOUND, "NoSuchKey", "The specified key does not exist.");
    let (registry, repository, digest) = layer(ecr, key).ok_or(missing)?;
    let opened = registry.store.open_blob(&repository, &digest).await.ok().flatten();
    let (file, size) = opened.ok_or(missing)?;
    let blob = Blob { digest: &digest, size, media_type: "binary/octet-stream" };
    let body = async |range| distribution::file_body(file, range).await;
    let mut response = distribution::blob(&request.method, &request.headers, blob, body).await;
    // S3 does not know about registries
    response.headers_mut().remove("docker-content-digest");
    Ok(response)
}

fn layer(ecr: &Ecr, key: &str) -> Option<(std::sync::Arc<Registry>, String, Digest)> {
    let mut parts = key.split('/');
    let (region, account, encoded) = (parts.next()?, parts.next()?, parts.next()?);
    let digest: Digest = format!("sha256:{}", parts.next()?).parse().ok()?;
    let repository = String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()?;
    Some((ecr.registry(account, region).ok()?, repository, digest))
}

fn refused(status: StatusCode, code: &str, message: &str) -> Response {
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/xml");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
