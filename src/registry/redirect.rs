//! Redirects, and URLs in errors.
//!
//! No redirect leads from HTTPS to plain HTTP. No error shows a part of a path that may be a
//! signature.

use std::{error::Error as StdError, iter::successors};

use http::{HeaderMap, StatusCode, header};
use url::Url;

use super::transport::Transport;
use crate::model::{Error, Kind, Result};

/// The longest part of a path that is shown, in bytes: a SHA-512 digest with its name. Tags have
/// at most 128.
const LONGEST_PART: usize = 135;

/// The URL that `Location` names, relative to the URL of the request; `None` if it must not be used.
///
/// Source: RFC 3986, 5; RFC 9110, 10.2.2.
pub(crate) fn location(transport: &Transport, from: &Url, headers: &HeaderMap) -> Option<Url> {
    let location = headers.get(header::LOCATION)?.to_str().ok()?;
    from.join(location).ok().filter(|to| may_follow(transport, from, to))
}

/// The target of the redirect that `subject` was answered with.
///
/// # Errors
/// [`Kind::Protocol`] if it must not be followed.
pub(crate) fn next_hop(
    transport: &Transport,
    from: &Url,
    headers: &HeaderMap,
    subject: &str,
    status: StatusCode,
) -> Result<Url> {
    let problem = || format!("{subject}: {} without a valid `Location`", status.as_u16());
    location(transport, from, headers).ok_or_else(|| Error::new(Kind::Protocol, problem()))
}

/// Returns `true` for a redirect that keeps the method and the body.
pub(crate) fn keeps_method(status: StatusCode) -> bool {
    matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT)
}

/// The error for a redirect that turns an upload into a GET.
pub(crate) fn refused_redirect(subject: &str, status: StatusCode) -> Error {
    let code = status.as_u16();
    let problem = format!("{subject}: {code} redirects an upload, which only 307 and 308 may do");
    Error::new(Kind::Protocol, problem)
        .hint("name the registry's own host, with its scheme, or check the proxies in front of it")
}

/// The error for a 403 of the host that a registry redirected to. The registry signs the URL of
/// each redirect for a short time, so a retry asks the registry again.
pub(crate) fn expired_redirect(refusal: Error) -> Error {
    Error::new(Kind::Unavailable, "the host that the registry redirects to refuses the request")
        .because(refusal)
        .hint("check the clock, and the proxies and firewalls in front of that host")
}

/// Returns `true` for the error of [`expired_redirect`]: the registry itself did not fail.
pub(crate) fn is_expired_redirect(error: &Error) -> bool {
    let mut causes = successors(error.source(), |&cause| cause.source());
    let is_refusal = |cause: &Error| cause.kind() == Kind::Denied;
    error.kind() == Kind::Unavailable
        && causes.any(|cause| cause.downcast_ref().is_some_and(is_refusal))
}

/// Returns `true` if `to` is an HTTP URL, and not plain HTTP after HTTPS.
pub(crate) fn may_follow(transport: &Transport, from: &Url, to: &Url) -> bool {
    matches!(to.scheme(), "https" | "http") && (from.scheme() == "http" || transport.is_private(to))
}

/// The path as errors show it: without upload state, and without parts that are longer than a
/// digest, because they may be signatures.
pub(crate) fn redacted_path(path: &str) -> String {
    let uploads = "/blobs/uploads/";
    if let Some((before, state)) = path.split_once(uploads)
        && !state.is_empty()
    {
        return format!("{before}{uploads}…");
    }
    let part = |part| if str::len(part) > LONGEST_PART { "…" } else { part };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::transport::Network;

    #[test]
    fn redirects_are_absolute_or_relative_and_never_leave_tls() {
        let direct = Transport::new(Network::Direct);
        for (from, location, expected) in [
            ("https://a/v2/x", "https://b/y?z", Some("https://b/y?z")),
            ("https://a/v2/x", "/y", Some("https://a/y")),
            ("http://a/v2/x", "http://b/y", Some("http://b/y")),
            ("http://a/v2/x", "ftp://b/y", None),
            ("https://a/v2/x", "http://a/y", None),
            ("https://a/v2/x", "http://b/y", None),
            ("https://a/v2/x", "//b/y", Some("https://b/y")),
            ("https://a/v2/x", "file:///etc/passwd", None),
            ("https://a/v2/x", "http://localhost:1/y", Some("http://localhost:1/y")),
            ("https://a/v2/x", "http://localhost.example/y", None),
        ] {
            let headers = HeaderMap::from_iter([(header::LOCATION, location.parse().unwrap())]);
            let next = super::location(&direct, &from.parse().unwrap(), &headers);
            assert_eq!(next.as_ref().map(Url::as_str), expected, "{from} {location}");
        }
    }
}
