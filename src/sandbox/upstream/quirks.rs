//! The peculiarities of each public registry, as data.
//!
//! All were observed at the real registries; each breaks clients that were tested with one registry
//! only. An unknown host is an open registry that serves everything itself.

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Quirks {
    pub auth: Auth,
    /// The host that blobs are redirected to; `None` to serve them in place.
    pub blobs_at: Option<&'static str>,
    /// The host and path prefix that manifests are redirected to.
    pub manifests_at: Option<(&'static str, &'static str)>,
    pub blob_head: BlobHead,
    /// The response for a private repository, and for a missing one.
    pub hidden: Hidden,
    /// Default and maximum number of tags per page.
    pub page: Option<usize>,
    pub content_type: ContentType,
    pub accept: Accept,
    pub tag_list: TagList,
    pub paging: Paging,
    pub token_body: TokenBody,
    pub digest_tags: DigestTags,
    pub referrers: Referrers,
    pub pulls: Pulls,
    pub repositories: RepositoryList,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Auth {
    /// Reads need no token.
    Open,
    /// The challenge asks for a user and a password with each request.
    Basic { realm: &'static str },
    /// The challenge names a token service.
    Token {
        /// Its host; `None` for the registry's own.
        host: Option<&'static str>,
        path: &'static str,
        service: Service,
        scope: Scope,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Host,
    Named(&'static str),
    /// The challenge has no `service`.
    Absent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// `repository:<name>:pull`; a token is valid for its repositories only.
    Repository,
    /// This word; a token is valid for every repository.
    Literal(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlobHead {
    /// 200 with the blob's size.
    Answered,
    /// 401, although `GET` with the same token works.
    Unauthorized,
}

/// The response for a private repository, and for a missing one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hidden {
    /// 401 for both, even with a token, so that clients cannot distinguish them.
    AlwaysUnauthorized,
    /// 401 and 404.
    UnauthorizedOrMissing,
    /// 403 and 404.
    DeniedOrMissing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContentType {
    /// The manifest's media type.
    Correct,
    /// Always `text/html`.
    Html,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accept {
    Ignored,
    /// An OCI manifest whose type `Accept` does not include is 404.
    Needed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TagList {
    Names,
    /// Names, and the digests of an image's platforms as if they were names.
    WithDigests,
    /// Names, and a field `manifest` with digests, sizes and times.
    WithManifests,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paging {
    /// A `Link` to the path of the request, with `last`.
    Last,
    /// A `Link` with an opaque `next_page` in place of `last`.
    NextPage,
    /// Full pages without a `Link`, also where names follow.
    Unlinked,
    /// A `Link` to a path without the first component of the repository.
    FirstComponentMissing,
}

/// The fields of a token service's response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenBody {
    /// `token`, `access_token`, `expires_in` and `issued_at`.
    Full,
    /// `token` only, unless a fault sets the tokens' lifetime.
    Token,
    /// `access_token` only, unless a fault sets the tokens' lifetime.
    AccessToken,
}

/// The meaning of a tag like `sha256-` and 64 digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DigestTags {
    /// A tag like any other.
    Tags,
    /// Without such a tag, the manifest with this digest.
    Digests,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Referrers {
    Native,
    /// 404: clients read the fallback tag.
    Absent,
    /// 401 without a challenge, also with a valid token.
    Unauthorized,
    /// 303 to a page of this host.
    PageOf(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pulls {
    Free,
    /// `GET` of a manifest counts; headers report the rest.
    Metered,
}

/// The list of repositories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RepositoryList {
    /// `_catalog`, for everyone.
    Catalog,
    /// No `_catalog`.
    OtherApi,
    /// GitLab's API; `_catalog` for the user `admin`.
    GitLab,
    /// Harbor's API; `_catalog` for the user `admin`.
    Harbor,
}

pub(crate) const ORDINARY: Quirks = Quirks {
    auth: Auth::Open,
    blobs_at: None,
    manifests_at: None,
    blob_head: BlobHead::Answered,
    hidden: Hidden::UnauthorizedOrMissing,
    page: None,
    content_type: ContentType::Correct,
    accept: Accept::Ignored,
    tag_list: TagList::Names,
    paging: Paging::Last,
    token_body: TokenBody::Full,
    digest_tags: DigestTags::Tags,
    referrers: Referrers::Native,
    pulls: Pulls::Free,
    repositories: RepositoryList::Catalog,
};

pub(crate) const fn token(
    host: Option<&'static str>,
    path: &'static str,
    service: Service,
) -> Auth {
    Auth::Token { host, path, service, scope: Scope::Repository }
}

pub(crate) const DOCKER_HUB: Quirks = Quirks {
    auth: token(Some("auth.docker.io"), "/token", Service::Named("registry.docker.io")),
    blobs_at: Some("production.cloudflare.docker.com"),
    hidden: Hidden::AlwaysUnauthorized,
    pulls: Pulls::Metered,
    repositories: RepositoryList::OtherApi,
    ..ORDINARY
};

pub(crate) const QUAY: Quirks = Quirks {
    auth: token(None, "/v2/auth", Service::Host),
    blobs_at: Some("cdn01.quay.io"),
    page: Some(100),
    token_body: TokenBody::Token,
    repositories: RepositoryList::OtherApi,
    ..ORDINARY
};

pub(crate) const GITHUB: Quirks = Quirks {
    auth: token(None, "/token", Service::Host),
    blobs_at: Some("pkg-containers.githubusercontent.com"),
    hidden: Hidden::DeniedOrMissing,
    page: Some(100),
    token_body: TokenBody::Token,
    accept: Accept::Needed,
    referrers: Referrers::Absent,
    ..ORDINARY
};

pub(crate) const GOOGLE: Quirks = Quirks {
    auth: token(None, "/v2/token", Service::Host),
    blobs_at: Some("artifacts-downloads.googleapis.com"),
    tag_list: TagList::WithManifests,
    ..ORDINARY
};

pub(crate) fn of_registry(host: &str, repository: &str) -> Quirks {
    match host {
        "docker.io" => DOCKER_HUB,
        "quay.io" => QUAY,
        "ghcr.io" => GITHUB,
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
            token_body: TokenBody::Token,
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
            hidden: Hidden::DeniedOrMissing,
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
    // public repositories, such as Kubernetes', need no token
    let is_open = host == "mirror.gcr.io" || repository.starts_with("k8s-artifacts-prod/");
    if is_open { Quirks { auth: Auth::Open, ..GOOGLE } } else { GOOGLE }
}

/// The host under its name in image references: Docker Hub has several.
pub(crate) fn canonical(host: &str) -> &str {
    match host {
        "registry-1.docker.io" | "index.docker.io" | "registry.hub.docker.com" => "docker.io",
        host => host,
    }
}

/// The registry whose token service has this host and path, if any.
///
/// The host is the service's own, as in the realm; the path has no trailing slash.
pub(crate) fn token_service(host: &str, path: &str) -> Option<String> {
    if host == "auth.docker.io" {
        return (path == "/token").then(|| "docker.io".to_owned());
    }
    match of_registry(host, "").auth {
        Auth::Token { host: None, path: own, .. } if own.trim_end_matches('/') == path => {
            Some(host.to_owned())
        }
        _ => None,
    }
}
