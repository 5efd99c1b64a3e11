//! Parses a path under `/v2/`.

use crate::model::{Digest, Repository, TagOrDigest};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// `/v2/`: clients test for a registry and for authentication here.
    Base,
    /// `/v2/_catalog`.
    Catalog,
    Repository(Repository, Resource),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Resource {
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
pub(crate) enum RouteError {
    UnknownPath,
    /// Not a valid repository name.
    Name,
    /// Not a SHA-256 digest.
    Digest,
    /// Not a valid tag.
    Tag,
}

impl Route {
    /// Parses the path of a request, without its query.
    pub(crate) fn read(path: &str) -> Result<Route, RouteError> {
        let colons = path.replace("%3A", ":").replace("%3a", ":");
        let rest = colons.strip_prefix("/v2").ok_or(RouteError::UnknownPath)?;
        match rest {
            "" | "/" => return Ok(Route::Base),
            "/_catalog" => return Ok(Route::Catalog),
            _ => {}
        }
        let segments: Vec<&str> =
            rest.strip_prefix('/').ok_or(RouteError::UnknownPath)?.split('/').collect();
        let (name, resource) = match segments.as_slice() {
            [name @ .., "tags", "list"] => (name, Resource::Tags),
            [name @ .., "blobs", "uploads"] | [name @ .., "blobs", "uploads", ""] => {
                (name, Resource::Uploads)
            }
            [name @ .., "blobs", "uploads", id] => (name, Resource::Upload((*id).to_owned())),
            [name @ .., "manifests", pointer] => (name, Resource::Manifest(read_pointer(pointer)?)),
            [name @ .., "blobs", digest] => (name, Resource::Blob(read_digest(digest)?)),
            [name @ .., "referrers", digest] => (name, Resource::Referrers(read_digest(digest)?)),
            _ => return Err(RouteError::UnknownPath),
        };
        let name = name.join("/").parse().map_err(|_| RouteError::Name)?;
        Ok(Route::Repository(name, resource))
    }
}

fn read_pointer(text: &str) -> Result<TagOrDigest, RouteError> {
    if text.contains(':') {
        return read_digest(text).map(TagOrDigest::Digest);
    }
    text.parse().map(TagOrDigest::Tag).map_err(|_| RouteError::Tag)
}

fn read_digest(text: &str) -> Result<Digest, RouteError> {
    text.parse().map_err(|_| RouteError::Digest)
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
    fn every_path_of_the_protocol_is_parsed() {
        let within = |name: &str, resource| Ok(Route::Repository(name.parse().unwrap(), resource));
        let d = digest();
        for (path, expected) in [
            ("/v2", Ok(Route::Base)),
            ("/v2/", Ok(Route::Base)),
            ("/v2/_catalog", Ok(Route::Catalog)),
            ("/v2/a/tags/list", within("a", Resource::Tags)),
            ("/v2/a/b/c/tags/list", within("a/b/c", Resource::Tags)),
            ("/v2/a/blobs/uploads", within("a", Resource::Uploads)),
            ("/v2/a/blobs/uploads/", within("a", Resource::Uploads)),
            ("/v2/a/blobs/uploads/x", within("a", Resource::Upload("x".to_owned()))),
            ("/v2/manifests/manifests/1", {
                within("manifests", Resource::Manifest(TagOrDigest::Tag("1".parse().unwrap())))
            }),
            (&format!("/v2/a/manifests/{d}"), {
                within("a", Resource::Manifest(TagOrDigest::Digest(d.clone())))
            }),
            (&format!("/v2/a/blobs/{d}"), within("a", Resource::Blob(d.clone()))),
            (&format!("/v2/a/blobs/{}", d.as_str().replace(':', "%3A")), {
                within("a", Resource::Blob(d.clone()))
            }),
            (&format!("/v2/a/referrers/{d}"), within("a", Resource::Referrers(d.clone()))),
            ("/", Err(RouteError::UnknownPath)),
            ("/v2x", Err(RouteError::UnknownPath)),
            ("/v2/a", Err(RouteError::UnknownPath)),
            ("/v2/A/tags/list", Err(RouteError::Name)),
            ("/v2/tags/list", Err(RouteError::Name)),
            ("/v2/../tags/list", Err(RouteError::Name)),
            ("/v2/a/manifests/.x", Err(RouteError::Tag)),
            ("/v2/a/manifests/sha256:x", Err(RouteError::Digest)),
            ("/v2/a/blobs/x", Err(RouteError::Digest)),
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
