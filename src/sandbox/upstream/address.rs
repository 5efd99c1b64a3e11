//! The registry that a request is for, and the URLs in its responses.
//!
//! In a run, requests and responses use the registries' real host names. Other clients know
//! loopback only: for them the first component of a repository is its host
//! (`127.0.0.1:5000/quay.io/a/b`), and every URL in a response leads to loopback.

use super::quirks::{self, Auth, RepositoryList};
use crate::sandbox::{Naming, is_loopback, profile::Profile};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Service {
    /// The token service of this registry; without one, of the registry that the scope names.
    Token(Option<String>),
    /// The host that blobs are redirected to, with the path there.
    Cdn(String),
    HubApi,
    QuayApi,
    /// GitLab's API on this host.
    GitLabApi(String),
    /// Harbor's API of this registry.
    HarborApi(String),
    /// `_catalog` of all registries, for clients that know loopback only.
    Catalog,
    Registry(Registry),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registry {
    pub host: String,
    /// The path as the real registry would receive it.
    pub path: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    host: String,
    naming: Naming,
    profile: Option<&'static Profile>,
}

impl Address {
    pub(crate) fn of(host: &str) -> Self {
        let naming = if is_loopback(host) { Naming::Loopback } else { Naming::RealHosts };
        Self { host: host.to_owned(), naming, profile: None }
    }

    pub(crate) fn like(self, profile: Option<&'static Profile>) -> Self {
        Self { profile, ..self }
    }

    /// The service behind the path, if any.
    pub(crate) fn service(&self, path: &str) -> Option<Service> {
        match self.naming {
            Naming::Loopback => loopback_service(path),
            Naming::RealHosts => Some(self.real_service(path)),
        }
    }

    fn real_service(&self, path: &str) -> Service {
        let host = quirks::canonical(&self.host);
        if let Some(registry) = self.token_service(host, path.trim_end_matches('/')) {
            return Service::Token(registry);
        }
        if host == "hub.docker.com" {
            return Service::HubApi;
        }
        if host == "quay.io" && path.starts_with("/api/v1/") {
            return Service::QuayApi;
        }
        match self.profile.map(|profile| profile.quirks.repositories) {
            Some(RepositoryList::GitLab) if path.starts_with("/api/v4/") => {
                return Service::GitLabApi(host.to_owned());
            }
            Some(RepositoryList::Harbor) if path.starts_with("/api/v2.0/") => {
                return Service::HarborApi(host.to_owned());
            }
            _ => {}
        }
        if path.starts_with("/blobs/") {
            return Service::Cdn(path.to_owned());
        }
        Service::Registry(Registry { host: host.to_owned(), path: path.to_owned() })
    }

    /// The registry whose token service has this host and path; `Some(None)` for a service of
    /// several registries.
    fn token_service(&self, host: &str, path: &str) -> Option<Option<String>> {
        let Some(profile) = self.profile else {
            return quirks::token_service(host, path).map(Some);
        };
        let Auth::Token { host: service, path: at, .. } = profile.quirks.auth else { return None };
        let is_service = at == path && service.is_none_or(|service| service == host);
        is_service.then(|| service.is_none().then(|| host.to_owned()))
    }

    /// The repository's name as the client knows it.
    pub(crate) fn client_name(&self, registry: &str, repository: &str) -> String {
        match self.naming {
            Naming::RealHosts => repository.to_owned(),
            Naming::Loopback => format!("{registry}/{repository}"),
        }
    }

    /// The registry of a request to `/v2/`; `None` for a loopback client, which has not named one
    /// yet.
    pub(crate) fn base_registry<'a>(&self, host: &'a str) -> Option<&'a str> {
        match self.naming {
            Naming::RealHosts => Some(host),
            Naming::Loopback => None,
        }
    }

    /// The URL of the registry's token service; without a registry, of the common one.
    pub(crate) fn realm(&self, registry: Option<&str>, auth: Auth) -> String {
        match (self.naming, registry, auth) {
            (Naming::RealHosts, Some(registry), Auth::Token { host, path, .. }) => {
                format!("http://{}{path}", host.unwrap_or(registry))
            }
            (_, Some(registry), _) => format!("http://{}/token/{registry}", self.host),
            (_, None, _) => format!("http://{}/token", self.host),
        }
    }

    /// A URL on the host that serves blobs. Never the host that the client called, so that clients
    /// that forward their token are detected.
    pub(crate) fn cdn_url(&self, host: &str, path: &str) -> String {
        match self.naming {
            Naming::RealHosts => format!("http://{host}{path}"),
            Naming::Loopback => {
                let (name, port) = self.host.rsplit_once(':').unwrap_or((&self.host, "80"));
                let other = if name == "localhost" { "127.0.0.1" } else { "localhost" };
                format!("http://{other}:{port}/cdn/{host}{path}")
            }
        }
    }

    /// The URL of a page of this host that is not the registry's.
    pub(crate) fn page_url(&self, host: &str, path: &str) -> String {
        match self.naming {
            Naming::RealHosts => format!("http://{host}/-/packages{path}"),
            Naming::Loopback => format!("http://{}/{host}/-/packages{path}", self.host),
        }
    }

    pub(crate) fn registry_url(&self, host: &str, path: &str) -> String {
        match self.naming {
            Naming::RealHosts => format!("http://{host}/v2/{path}"),
            Naming::Loopback => format!("http://{}/v2/{host}/{path}", self.host),
        }
    }

    pub(crate) fn url(&self, path_and_query: &str) -> String {
        format!("http://{}{path_and_query}", self.host)
    }
}

fn loopback_service(path: &str) -> Option<Service> {
    if path == "/token" {
        return Some(Service::Token(None));
    }
    if let Some(registry) = path.strip_prefix("/token/") {
        return Some(Service::Token(Some(quirks::canonical(registry).to_owned())));
    }
    if let Some(rest) = path.strip_prefix("/cdn/") {
        return rest.find('/').map(|at| Service::Cdn(rest[at..].to_owned()));
    }
    if path == "/v2/_catalog" {
        return Some(Service::Catalog);
    }
    let rest = path.strip_prefix("/v2")?.trim_start_matches('/');
    let (host, path) = match rest.split_once('/') {
        // a component without a dot is not a host: the registry is Docker Hub
        Some((host, path)) if host.contains('.') || host.contains(':') => (host, path),
        _ => ("docker.io", rest),
    };
    let host = quirks::canonical(host).to_owned();
    let path = match path {
        "" | "_catalog" => format!("/v2/{path}"),
        _ if host == "docker.io" && is_official(path) => format!("/v2/library/{path}"),
        _ => format!("/v2/{path}"),
    };
    Some(Service::Registry(Registry { host, path }))
}

/// True if the path names a repository of one component, such as `nginx` for `library/nginx`.
fn is_official(path: &str) -> bool {
    let mut parts = path.split('/').skip(1);
    let kind = parts.next();
    matches!(kind, Some("manifests" | "blobs" | "tags" | "referrers"))
        && parts.next().is_some()
        && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_paths_select_the_service() {
        let registry = |host: &str, path: &str| {
            Some(Service::Registry(Registry { host: host.into(), path: path.into() }))
        };
        let token = |registry: &str| Some(Service::Token(Some(registry.into())));
        for (host, path, expected) in [
            ("registry-1.docker.io", "/v2/", registry("docker.io", "/v2/")),
            ("auth.docker.io", "/token", token("docker.io")),
            ("quay.io", "/v2/auth", token("quay.io")),
            ("quay.io", "/v2/a/b/tags/list", registry("quay.io", "/v2/a/b/tags/list")),
            ("quay.io", "/api/v1/repository/a/b/tag/", Some(Service::QuayApi)),
            ("public.ecr.aws", "/token/", token("public.ecr.aws")),
            ("us-docker.pkg.dev", "/v2/token", token("us-docker.pkg.dev")),
            ("hub.docker.com", "/v2/namespaces/a", Some(Service::HubApi)),
            ("cdn01.quay.io", "/blobs/x", Some(Service::Cdn("/blobs/x".into()))),
            ("registry.example.com", "/token", registry("registry.example.com", "/token")),
            ("127.0.0.1:5000", "/token/quay.io", token("quay.io")),
            ("127.0.0.1:5000", "/token", Some(Service::Token(None))),
            ("127.0.0.1:5000", "/cdn/cdn01.quay.io/blobs/x", Some(Service::Cdn("/blobs/x".into()))),
            (
                "127.0.0.1:5000",
                "/v2/quay.io/a/b/tags/list",
                registry("quay.io", "/v2/a/b/tags/list"),
            ),
            (
                "localhost:5000",
                "/v2/docker.io/nginx/manifests/1",
                registry("docker.io", "/v2/library/nginx/manifests/1"),
            ),
            (
                "localhost:5000",
                "/v2/library/nginx/tags/list",
                registry("docker.io", "/v2/library/nginx/tags/list"),
            ),
            ("localhost:5000", "/v2/_catalog", Some(Service::Catalog)),
            ("localhost:5000", "/v2/ghcr.io/_catalog", registry("ghcr.io", "/v2/_catalog")),
            ("localhost:5000", "/", None),
        ] {
            assert_eq!(Address::of(host).service(path), expected, "{host}{path}");
        }
    }

    #[test]
    fn responses_name_hosts_that_the_client_can_reach() {
        let auth = quirks::of_registry("docker.io", "").auth;
        let real = Address::of("registry-1.docker.io");
        assert_eq!(real.realm(Some("docker.io"), auth), "http://auth.docker.io/token");
        assert_eq!(real.cdn_url("cdn.example.com", "/blobs/x"), "http://cdn.example.com/blobs/x");
        let loopback = Address::of("127.0.0.1:5000");
        assert_eq!(
            loopback.realm(Some("docker.io"), auth),
            "http://127.0.0.1:5000/token/docker.io"
        );
        assert_eq!(
            loopback.cdn_url("cdn.example.com", "/blobs/x"),
            "http://localhost:5000/cdn/cdn.example.com/blobs/x"
        );
        assert_eq!(
            loopback.registry_url("us.pkg.dev", "a/manifests/1"),
            "http://127.0.0.1:5000/v2/us.pkg.dev/a/manifests/1"
        );
    }
}
