//! What each public registry does in its own way, as data.
//!
//! Everything here was seen at the real registries and trips up clients that
//! were written against one of them only. A host that is not known is an open
//! registry that serves everything itself.

/// How one registry behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Quirks {
    /// Whether a token is wanted, and from where.
    pub auth: Auth,
    /// The host that blobs are redirected to; none: they are served in place.
    pub blobs_at: Option<&'static str>,
    /// The host, and the path in front of repositories there, that manifests are redirected to.
    pub manifests_at: Option<(&'static str, &'static str)>,
    /// Whether `HEAD` of a blob works.
    pub blob_head: BlobHead,
    /// What a repository nobody may see answers, and one that is not there.
    pub hidden: Hidden,
    /// Tags on a page where the client does not say, and the most there are.
    pub page: Option<usize>,
    /// Whether manifests are served under their own media type.
    pub content_type: ContentType,
    /// Whether `Accept` decides if a manifest is found.
    pub accept: Accept,
    /// Whether `tags/list` tells digests too.
    pub tag_list: TagList,
    /// Whether the referrers API is there.
    pub referrers: Referrers,
    /// Whether pulls are counted.
    pub pulls: Pulls,
}

/// Whether a token is wanted, and from where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Auth {
    /// Everything can be read without.
    Open,
    /// The challenge names a token service.
    Token {
        /// Its host; none: the registry's own.
        host: Option<&'static str>,
        /// Its path.
        path: &'static str,
        /// The challenge's `service`.
        service: Service,
        /// The challenge's `scope`.
        scope: Scope,
    },
}

/// A challenge's `service`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    /// The registry's host.
    Host,
    /// This name.
    Named(&'static str),
    /// There is none.
    Absent,
}

/// A challenge's `scope`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// `repository:<name>:pull`, and a token is good for its repositories only.
    Repository,
    /// This word; a token is good for every repository.
    Literal(&'static str),
}

/// What `HEAD` of a blob gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlobHead {
    /// Its size.
    Answered,
    /// 401, although `GET` with the same token works.
    Unauthorized,
}

/// What a repository nobody may see answers, and one that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hidden {
    /// 401 for both, so that nobody learns which it is, even with a token.
    AlwaysUnauthorized,
    /// 401 and 404.
    Told,
    /// 403 and 404.
    Denied,
}

/// The `Content-Type` of manifests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContentType {
    /// The manifest's media type.
    Right,
    /// `text/html`, whatever it is.
    Html,
}

/// Whether `Accept` decides if a manifest is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accept {
    /// It does not.
    Ignored,
    /// A manifest of an OCI type that `Accept` does not name is 404.
    Needed,
}

/// What `tags/list` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TagList {
    /// Names.
    Names,
    /// Names, and digests, sizes and times in a field `manifest`.
    WithManifests,
}

/// Whether the referrers API is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Referrers {
    /// It is.
    Native,
    /// 404: clients look for the fallback tag.
    Absent,
}

/// Whether pulls are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pulls {
    /// They are not.
    Free,
    /// `GET` of a manifest counts, and headers tell what is left.
    Metered,
}

/// A registry without anything special.
const ORDINARY: Quirks = Quirks {
    auth: Auth::Open,
    blobs_at: None,
    manifests_at: None,
    blob_head: BlobHead::Answered,
    hidden: Hidden::Told,
    page: None,
    content_type: ContentType::Right,
    accept: Accept::Ignored,
    tag_list: TagList::Names,
    referrers: Referrers::Native,
    pulls: Pulls::Free,
};

const fn token(host: Option<&'static str>, path: &'static str, service: Service) -> Auth {
    Auth::Token { host, path, service, scope: Scope::Repository }
}

/// The manners of the registry at `host`, when it is asked for `repository`.
pub(crate) fn of(host: &str, repository: &str) -> Quirks {
    match host {
        "docker.io" => Quirks {
            auth: token(Some("auth.docker.io"), "/token", Service::Named("registry.docker.io")),
            blobs_at: Some("production.cloudflare.docker.com"),
            hidden: Hidden::AlwaysUnauthorized,
            pulls: Pulls::Metered,
            ..ORDINARY
        },
        "quay.io" => Quirks {
            auth: token(None, "/v2/auth", Service::Host),
            blobs_at: Some("cdn01.quay.io"),
            page: Some(100),
            ..ORDINARY
        },
        "ghcr.io" => Quirks {
            auth: token(None, "/token", Service::Host),
            blobs_at: Some("pkg-containers.githubusercontent.com"),
            hidden: Hidden::Denied,
            page: Some(100),
            accept: Accept::Needed,
            referrers: Referrers::Absent,
            ..ORDINARY
        },
        "public.ecr.aws" => Quirks {
            auth: Auth::Token {
                host: None,
                path: "/token/",
                service: Service::Host,
                scope: Scope::Literal("aws"),
            },
            blobs_at: Some("d5l0dvt14r5h8.cloudfront.net"),
            blob_head: BlobHead::Unauthorized,
            page: Some(1000),
            ..ORDINARY
        },
        "nvcr.io" => Quirks {
            auth: token(None, "/proxy_auth", Service::Absent),
            blobs_at: Some("layers.nvcr.io"),
            content_type: ContentType::Html,
            ..ORDINARY
        },
        "registry.k8s.io" => Quirks {
            blobs_at: Some("artifacts-downloads.googleapis.com"),
            manifests_at: Some(("us-west1-docker.pkg.dev", "k8s-artifacts-prod/images")),
            ..ORDINARY
        },
        "mcr.microsoft.com" => {
            Quirks { blobs_at: Some("westeurope.data.mcr.microsoft.com"), ..ORDINARY }
        }
        "cgr.dev" => Quirks {
            auth: token(None, "/token", Service::Host),
            blobs_at: Some("9236a389bd48b984df91adc1bc924620.r2.cloudflarestorage.com"),
            hidden: Hidden::Denied,
            ..ORDINARY
        },
        _ => google(host, repository),
    }
}

fn google(host: &str, repository: &str) -> Quirks {
    let is_google =
        host == "gcr.io" || host.ends_with(".gcr.io") || host.ends_with("-docker.pkg.dev");
    if !is_google {
        return ORDINARY;
    }
    // public buckets of content are read without a token, as Kubernetes' are
    let is_open = host == "mirror.gcr.io" || repository.starts_with("k8s-artifacts-prod/");
    let auth = if is_open { Auth::Open } else { token(None, "/v2/token", Service::Host) };
    let blobs_at = Some("artifacts-downloads.googleapis.com");
    Quirks { auth, blobs_at, tag_list: TagList::WithManifests, ..ORDINARY }
}

/// The host under the name it is known by here: Docker Hub has several.
pub(crate) fn canonical(host: &str) -> &str {
    match host {
        "registry-1.docker.io" | "index.docker.io" | "registry.hub.docker.com" => "docker.io",
        host => host,
    }
}

/// The registry whose token service this host and path are; `None` where it is none.
///
/// The host is the service's own, as in the realm; the path has no trailing slash.
pub(crate) fn token_service(host: &str, path: &str) -> Option<String> {
    if host == "auth.docker.io" {
        return (path == "/token").then(|| "docker.io".to_owned());
    }
    match of(host, "").auth {
        Auth::Token { host: None, path: own, .. } if own.trim_end_matches('/') == path => {
            Some(host.to_owned())
        }
        _ => None,
    }
}
