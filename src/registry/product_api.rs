//! Lists repositories with the API of the product that a registry runs: GitLab or Harbor.
//!
//! Their `_catalog` is for administrators. The registry's challenge names its token service, and the path of
//! that tells the product and the address of its API. The API receives the registry's credentials
//! where the token service may receive them.
//!
//! Source: docs.gitlab.com, "Container registry API", "Token overview" and "REST API authentication"; Harbor's
//! API, `listRepositories`; goharbor/harbor#6784 and `src/server/middleware/v2auth/auth.go`.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header};
use reqwest::Request;
use secrecy::ExposeSecret;
use serde::de::Error as _;
use serde_json::Value;
use url::Url;

use super::{
    client::Registry,
    credentials::{basic_header, secret_header, unfit_for_a_header},
    http::ApiResponse,
    paging::{PAGE_LIMIT, next_link, send_once},
    repository_list::{PAGES, PER_PAGE, too_many},
};
use crate::model::{Error, Kind, Repository, Result, UserPassword};

#[derive(Debug)]
pub(crate) struct ProductApi {
    pub(crate) name: &'static str,
    /// The end of the token service's path.
    token_service: &'static str,
    /// The end of the API's path, in place of that.
    root: &'static str,
    /// The lists of a namespace below the root: one of them exists.
    lists: fn(&str) -> Vec<String>,
    /// The parameter with the number of repositories for a page.
    page_size: &'static str,
    /// The field with the full name of a repository.
    field: &'static str,
    login: fn(&UserPassword) -> Result<(HeaderName, HeaderValue)>,
    /// The login that the list requires, for a hint.
    pub(crate) required_login: &'static str,
}

static PRODUCTS: [ProductApi; 2] = [
    ProductApi {
        name: "GitLab",
        token_service: "/jwt/auth",
        root: "/api/v4/",
        lists: gitlab_lists,
        page_size: "per_page",
        field: "path",
        login: gitlab_login,
        required_login: "a personal, group or project access token with the scopes `read_api` and \
            `read_registry`, because deploy tokens cannot list repositories",
    },
    ProductApi {
        name: "Harbor",
        token_service: "/service/token",
        root: "/api/v2.0/",
        lists: |namespace| {
            let project = namespace.split('/').next().unwrap_or_default();
            vec![format!("projects/{project}/repositories")]
        },
        page_size: "page_size",
        field: "name",
        login: |user| Ok((header::AUTHORIZATION, basic_header(user)?)),
        required_login: "a member of the project, or a robot account that may list its repositories",
    },
];

/// The list of a group with its subgroups, that of a project, and those of the projects that the namespace
/// can be a part of.
fn gitlab_lists(namespace: &str) -> Vec<String> {
    let list = |kind: &str, path: &str| {
        format!("{kind}/{}/registry/repositories", path.replace('/', "%2F"))
    };
    let mut lists = vec![list("groups", namespace)];
    let mut path = namespace;
    // a project is in a group
    while let Some((group, _)) = path.rsplit_once('/') {
        lists.push(list("projects", path));
        path = group;
    }
    lists
}

fn gitlab_login(user: &UserPassword) -> Result<(HeaderName, HeaderValue)> {
    let token = user.password.expose_secret();
    let (name, value) = match user.username.as_str() {
        "gitlab-ci-token" => (HeaderName::from_static("job-token"), token.to_owned()),
        _ => (header::AUTHORIZATION, format!("Bearer {token}")),
    };
    Ok((name, secret_header(&value).ok_or_else(unfit_for_a_header)?))
}

/// The API of a registry's product.
#[derive(Debug)]
pub(crate) struct RegistryProduct {
    pub(crate) api: &'static ProductApi,
    root: Url,
}

impl RegistryProduct {
    /// The product that the registry runs; `None` for one without an API that lists repositories.
    ///
    /// # Errors
    /// If the registry does not respond, or cannot now.
    pub(crate) async fn of(registry: &Registry) -> Result<Option<Self>> {
        let offered = match registry.context.retry(|| registry.challenges()).await {
            // nothing tells the product
            Err(error) if is_refusal(&error) => return Ok(None),
            offered => offered?,
        };
        let bearer = offered.iter().filter(|challenge| challenge.scheme == "bearer");
        let mut realms = bearer.filter_map(|challenge| Url::parse(challenge.param("realm")?).ok());
        Ok(realms.find_map(|realm| Self::with_token_service(&realm)))
    }

    fn with_token_service(realm: &Url) -> Option<Self> {
        PRODUCTS.iter().find_map(|api| {
            let before = realm.path().strip_suffix(api.token_service)?;
            let mut root = realm.clone();
            root.set_path(&format!("{before}{}", api.root));
            root.set_query(None);
            Some(Self { api, root })
        })
    }

    /// The repositories of the registry, at least those of the namespace; the refusal if the API does not
    /// list them for this user.
    ///
    /// # Errors
    /// If a list begins and then breaks off, and those of the connection.
    pub(crate) async fn list(
        &self,
        registry: &Registry,
        namespace: &Repository,
    ) -> Result<Result<Vec<Repository>, Refusal>> {
        let user = match registry.user_at(&self.root, namespace).await {
            Err(error) if is_refusal(&error) => return Ok(Err(Refusal(error))),
            user => user?,
        };
        let login = user.map(|user| (self.api.login)(&user)).transpose()?;
        let mut refusal: Option<Refusal> = None;
        for list in (self.api.lists)(namespace.as_str()) {
            let url = self.root.join(&list).map_err(|error| {
                Error::new(Kind::Protocol, format!("{} has no URL", self.api.name)).because(error)
            })?;
            match self.pages(registry, &url, login.as_ref()).await? {
                Ok(repositories) => return Ok(Ok(repositories)),
                Err(next) => {
                    // the refusal of a list that exists says more
                    let is_missing = |first: &Refusal| first.0.kind() == Kind::NotFound;
                    refusal = Some(refusal.filter(|first| !is_missing(first)).unwrap_or(next));
                }
            }
        }
        let none = || Error::new(Kind::NotFound, format!("{} has no list", self.api.name));
        Ok(Err(refusal.unwrap_or_else(|| Refusal(none()))))
    }

    /// The repositories of a list. Only its first page can be a refusal.
    async fn pages(
        &self,
        registry: &Registry,
        list: &Url,
        login: Option<&(HeaderName, HeaderValue)>,
    ) -> Result<Result<Vec<Repository>, Refusal>> {
        let mut repositories = Vec::new();
        for page in 1..=PAGES {
            let mut url = list.clone();
            url.set_query(Some(&format!("{}={PER_PAGE}&page={page}", self.api.page_size)));
            let fetch = || self.page(registry, &url, login);
            let (names, has_next) = match registry.context.retry(fetch).await {
                Err(error) if page == 1 && is_refusal(&error) => return Ok(Err(Refusal(error))),
                fetched => fetched?,
            };
            repositories.extend(names.iter().filter_map(|name| name.parse().ok()));
            // a proxy can remove `Link`, and a server can have smaller pages
            if !has_next && names.len() < PER_PAGE {
                return Ok(Ok(repositories));
            }
        }
        Err(too_many(registry))
    }

    /// The names of a page, and whether the answer links to another one.
    async fn page(
        &self,
        registry: &Registry,
        url: &Url,
        login: Option<&(HeaderName, HeaderValue)>,
    ) -> Result<(Vec<String>, bool)> {
        let mut request = Request::new(Method::GET, url.clone());
        request.headers_mut().extend(login.cloned());
        let permit = registry.permit(None).await;
        let (subject, response) = send_once(registry, request).await?;
        let stall = registry.context.policy.stall.read;
        let answer = ApiResponse { subject, url: url.clone(), response, permit, stall };
        let has_next = next_link(answer.headers()).is_some();
        let invalid = |error| Error::new(Kind::Protocol, "not a list").because(error);
        let parse = |page: Bytes| names(&page, self.api.field).map_err(invalid);
        Ok((answer.document(PAGE_LIMIT, parse).await?, has_next))
    }
}

/// The error of an API that the registry does not have, or does not offer to this user.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) Error);

/// Returns `true` if the registry does not have the API, or does not offer it to this user.
fn is_refusal(error: &Error) -> bool {
    use Kind::*;
    matches!(
        error.kind(),
        NotFound | RepositoryMissing | Unauthorized | Denied | Unsupported | Protocol
    )
}

/// The names in this field of a list of objects.
pub(crate) fn names(page: &[u8], field: &'static str) -> serde_json::Result<Vec<String>> {
    let rows: Vec<Value> = serde_json::from_slice(page)?;
    let name = |row: Value| {
        let name = row.get(field).and_then(Value::as_str).map(str::to_owned);
        name.ok_or_else(|| serde_json::Error::missing_field(field))
    };
    rows.into_iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_service_tells_the_product_and_the_address_of_its_api() {
        for (realm, expected) in [
            ("https://gitlab.com/jwt/auth", Some("GitLab https://gitlab.com/api/v4/")),
            ("https://x.example/git/jwt/auth?a=b", Some("GitLab https://x.example/git/api/v4/")),
            ("https://h.example/service/token", Some("Harbor https://h.example/api/v2.0/")),
            ("https://auth.docker.io/token", None),
            ("https://h.example/service/token/x", None),
        ] {
            let product = RegistryProduct::with_token_service(&realm.parse().unwrap());
            let found = product.map(|it| format!("{} {}", it.api.name, it.root));
            assert_eq!(found.as_deref(), expected, "{realm}");
        }
    }

    #[test]
    fn a_namespace_of_gitlab_is_a_group_a_project_or_a_part_of_a_project() {
        assert_eq!(gitlab_lists("a"), ["groups/a/registry/repositories"]);
        assert_eq!(
            gitlab_lists("a/b/c"),
            [
                "groups/a%2Fb%2Fc/registry/repositories",
                "projects/a%2Fb%2Fc/registry/repositories",
                "projects/a%2Fb/registry/repositories",
            ]
        );
    }

    #[test]
    fn a_page_has_the_full_names_of_repositories() {
        let gitlab = br#"[{"id":1,"name":"","path":"a/b"},{"id":2,"name":"c","path":"a/b/c"}]"#;
        assert_eq!(names(gitlab, "path").unwrap(), ["a/b", "a/b/c"]);
        for broken in ["{}", "[{}]", "[1]", r#"[{"name":1}]"#, "<html>"] {
            assert!(names(broken.as_bytes(), "name").is_err(), "{broken}");
        }
    }
}
