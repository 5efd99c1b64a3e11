//! Redirects, and URLs in errors.
//!
//! No redirect leads from HTTPS to plain HTTP. No error shows a part of a path that may be a
//! signature.

use http::{HeaderMap, header};
use url::Url;

use super::transport::Transport;

/// The longest part of a path that is shown, in bytes: a SHA-512 digest with its name. Tags have
/// at most 128.
const LONGEST_PART: usize = 135;

/// The target of a redirect; `None` if it must not be followed.
pub(crate) fn next_hop(transport: &Transport, from: &Url, headers: &HeaderMap) -> Option<Url> {
    let location = headers.get(header::LOCATION)?.to_str().ok()?;
    from.join(location).ok().filter(|to| may_follow(transport, from, to))
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
            let next = next_hop(&direct, &from.parse().unwrap(), &headers);
            assert_eq!(next.as_ref().map(Url::as_str), expected, "{from} {location}");
        }
    }
}
