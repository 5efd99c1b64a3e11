//! Parses a path under `/v2/`.

use crate::model::{Digest, Repository, TagOrDigest};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// `/v2/`: clients test for a registry and for authentication here.
    Base,
    /// `/v2/_catalog`.
    Catalog,
    In(Repository, Place),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// `manifests/<tag or digest>`.
    Manifest(TagOrDigest),
    /// `blobs/<digest>`.
    Blob(Digest),
    /// `blobs/uploads/`.
    Uploads,
    /// `blobs/uploads/<session>`.
    Upload(String),
    /// `tags/list`.
    Tags,
    /// `referrers/<digest>`.
    Referrers(Digest),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Misrouted {
    Nowhere,
    /// Not a valid repository name.
    Name,
    /// Not a SHA-256 digest.
    Digest,
    /// Not a valid tag.
    Tag,
}

impl Route {
    /// Parses the path of a request, without its query.
    pub(crate) fn read(path: &str) -> Result<Route, Misrouted> {
        let colons = path.replace("%3A", ":").replace("%3a", ":");
        let rest = colons.strip_prefix("/v2").ok_or(Misrouted::Nowhere)?;
        match rest {
            "" | "/" => return Ok(Route::Base),
            "/_catalog" => return Ok(Route::Catalog),
            _ => {}
        }
        let segments: Vec<&str> =
            rest.strip_prefix('/').ok_or(Misrouted::Nowhere)?.split('/').collect();
        let (name, place) = match segments.as_slice() {
            [name @ .., "tags", "list"] => (name, Place::Tags),
            [name @ .., "blobs", "uploads"] | [name @ .., "blobs", "uploads", ""] => {
                (name, Place::Uploads)
            }
            [name @ .., "blobs", "uploads", id] => (name, Place::Upload((*id).to_owned())),
            [name @ .., "manifests", pointer] => (name, Place::Manifest(read_pointer(pointer)?)),
            [name @ .., "blobs", digest] => (name, Place::Blob(read_digest(digest)?)),
            [name @ .., "referrers", digest] => (name, Place::Referrers(read_digest(digest)?)),
            _ => return Err(Misrouted::Nowhere),
        };
        let name = name.join("/").parse().map_err(|_| Misrouted::Name)?;
        Ok(Route::In(name, place))
    }
}

fn read_pointer(text: &str) -> Result<TagOrDigest, Misrouted> {
    if text.contains(':') {
        return read_digest(text).map(TagOrDigest::Digest);
    }
    text.parse().map(TagOrDigest::Tag).map_err(|_| Misrouted::Tag)
}

fn read_digest(text: &str) -> Result<Digest, Misrouted> {
    text.parse().map_err(|_| Misrouted::Digest)
}

/// The first value of a query parameter, decoded. `+` is a space, as in Go's registries.
pub(crate) fn query(uri: &axum::http::Uri, name: &str) -> Option<String> {
    url::form_urlencoded::parse(uri.query()?.as_bytes())
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest() -> Digest {
        Digest::of(b"")
    }

    #[test]
    fn every_path_of_the_protocol_is_known() {
        let within = |name: &str, place| Ok(Route::In(name.parse().unwrap(), place));
        let d = digest();
        for (path, expected) in [
            ("/v2", Ok(Route::Base)),
            ("/v2/", Ok(Route::Base)),
            ("/v2/_catalog", Ok(Route::Catalog)),
            ("/v2/a/tags/list", within("a", Place::Tags)),
            ("/v2/a/b/c/tags/list", within("a/b/c", Place::Tags)),
            ("/v2/a/blobs/uploads", within("a", Place::Uploads)),
            ("/v2/a/blobs/uploads/", within("a", Place::Uploads)),
            ("/v2/a/blobs/uploads/x", within("a", Place::Upload("x".to_owned()))),
            ("/v2/manifests/manifests/1", {
                within("manifests", Place::Manifest(TagOrDigest::Tag("1".parse().unwrap())))
            }),
            (&format!("/v2/a/manifests/{d}"), {
                within("a", Place::Manifest(TagOrDigest::Digest(d.clone())))
            }),
            (&format!("/v2/a/blobs/{d}"), within("a", Place::Blob(d.clone()))),
            (&format!("/v2/a/blobs/{}", d.as_str().replace(':', "%3A")), {
                within("a", Place::Blob(d.clone()))
            }),
            (&format!("/v2/a/referrers/{d}"), within("a", Place::Referrers(d.clone()))),
            ("/", Err(Misrouted::Nowhere)),
            ("/v2x", Err(Misrouted::Nowhere)),
            ("/v2/a", Err(Misrouted::Nowhere)),
            ("/v2/A/tags/list", Err(Misrouted::Name)),
            ("/v2/tags/list", Err(Misrouted::Name)),
            ("/v2/../tags/list", Err(Misrouted::Name)),
            ("/v2/a/manifests/.x", Err(Misrouted::Tag)),
            ("/v2/a/manifests/sha256:x", Err(Misrouted::Digest)),
            ("/v2/a/blobs/x", Err(Misrouted::Digest)),
        ] {
            assert_eq!(Route::read(path), expected, "{path}");
        }
    }

    #[test]
    fn a_query_parameter_is_decoded() {
        let uri = "/x?digest=sha256%3Aab&n=1".parse().unwrap();
        assert_eq!(query(&uri, "digest").as_deref(), Some("sha256:ab"));
        assert_eq!(query(&uri, "last"), None);
    }
}
