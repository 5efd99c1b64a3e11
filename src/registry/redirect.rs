//! Where URLs lead, and what of them is shown.
//!
//! Guards that nothing goes on from HTTPS to plain HTTP, and that no error shows what lets in
//! whoever has it.

use http::{HeaderMap, header};
use url::Url;

use super::transport::Transport;

/// How long a part of a path may be and still be shown, in bytes: as long as a digest of SHA-512
/// with its name; tags are no longer than 128.
const LONGEST_PART: usize = 135;

/// Where a redirect leads; never from HTTPS to plain HTTP.
pub(crate) fn next_hop(transport: &Transport, from: &Url, headers: &HeaderMap) -> Option<Url> {
    let location = headers.get(header::LOCATION)?.to_str().ok()?;
    from.join(location).ok().filter(|to| may_follow(transport, from, to))
}

/// Whether content may go on from one URL to the other: by HTTP of some kind, and never from
/// HTTPS to plain HTTP.
pub(crate) fn may_follow(transport: &Transport, from: &Url, to: &Url) -> bool {
    matches!(to.scheme(), "https" | "http") && (from.scheme() == "http" || transport.is_private(to))
}

/// A path as an error shows it: without upload state, and without its longest parts, because what
/// is longer than a digest may be a signature.
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
    fn a_redirect_is_absolute_or_relative_and_never_leaves_tls() {
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
