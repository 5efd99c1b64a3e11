//! Lists the repositories of a namespace, for `source = "quay.io/prometheus/*"`.
//!
//! Docker Hub and Quay have APIs of their own, which know public repositories only. GitLab and Harbor
//! have one for their users, on any host. Other registries list all their repositories at
//! `_catalog`, or refuse it. A list that is too long or breaks off is an error, never a shorter list.
//!
//! Source: hub.docker.com's API reference, "List repositories in a namespace"; Quay's API,
//! `listRepos`; CNCF distribution, "Catalog".

use http::Method;
use serde::Deserialize;

use super::{
    client::Registry,
    errors::Operation,
    http::ApiRequest,
    paging::{linked_page, other_api},
    product_api::{ProductApi, Refusal, RegistryProduct},
};
use crate::model::{Error, Kind, Repository, Result};

/// The largest number of pages that is read; more are a loop.
pub(crate) const PAGES: usize = 500;

/// The repositories to ask for a page.
pub(crate) const PER_PAGE: usize = 100;

/// A page of repositories, and the next page in the registry's form.
#[derive(Debug, Default)]
pub(crate) struct RepositoryPage {
    pub(super) repositories: Vec<Repository>,
    next: Option<String>,
}

/// The URL of a page of a namespace: the first one, or the next one in the registry's form.
type PageUrl = fn(&str, Option<&str>) -> String;

/// An API that lists the public repositories of a namespace. Asked without credentials.
#[derive(Debug)]
pub(crate) struct NamespaceApi {
    pub(crate) url: PageUrl,
    pub(crate) parse: fn(&[u8]) -> serde_json::Result<RepositoryPage>,
}

/// The repositories of the registry, at least those of the namespace. Omits names that are not
/// repositories.
pub(crate) async fn list_repositories(
    registry: &Registry,
    namespace: &Repository,
) -> Result<Vec<Repository>> {
    if let Some(api) = &registry.public.namespaces {
        let mut repositories = Vec::new();
        let mut next = None;
        for _ in 0..PAGES {
            let url = (api.url)(namespace.as_str(), next.as_deref());
            let fetch = || other_api(registry, &url, api.parse);
            let page = registry.context.retry(fetch).await?;
            repositories.extend(page.repositories);
            if page.next.is_none() {
                return Ok(repositories);
            }
            next = page.next;
        }
        return Err(too_many(registry));
    }
    let Some(product) = RegistryProduct::of(registry).await? else {
        return catalog(registry, namespace).await.map_err(|error| {
            error.hint("most registries list repositories only for some users: write each repository as an image of its own")
        });
    };
    match product.list(registry, namespace).await? {
        Ok(listed) => Ok(listed),
        // administrators may read it
        Err(Refusal(refusal)) => {
            let listed = catalog(registry, namespace).await;
            listed.map_err(|error| refused_twice(registry, product.api, &refusal, error))
        }
    }
}

/// The error for a registry whose API and whose `_catalog` refuse the list.
fn refused_twice(registry: &Registry, api: &ProductApi, refusal: &Error, error: Error) -> Error {
    let (host, product) = (registry.host(), api.name);
    let refusal = refusal.chain().join(": ");
    let problem = format!("{product}'s API does not list them ({refusal}), nor does `_catalog`");
    error.context(problem).hint(format!(
        "log in to `{host}` as {}; or write each repository as an image of its own",
        api.required_login
    ))
}

/// All repositories of the registry, from `_catalog`.
async fn catalog(registry: &Registry, namespace: &Repository) -> Result<Vec<Repository>> {
    let mut repositories = Vec::new();
    let client = registry.pull(namespace);
    let mut url = registry.url("_catalog");
    url.set_query(Some("n=1000"));
    for _ in 0..PAGES {
        let request = ApiRequest::new(Method::GET, url, &client.scope, Operation::Read);
        let parse = |page: &[u8]| {
            parse_catalog(page)
                .map_err(|error| Error::new(Kind::Protocol, "not a list").because(error))
        };
        let (page, next) = linked_page(registry, &request, parse).await?;
        repositories.extend(page.repositories);
        let Some(next) = next else { return Ok(repositories) };
        url = next;
    }
    Err(too_many(registry))
}

pub(crate) fn too_many(registry: &Registry) -> Error {
    let problem = format!("{} has more than {PAGES} pages of repositories", registry.host());
    Error::new(Kind::Protocol, problem)
}

/// Parses a page of `_catalog`.
pub(crate) fn parse_catalog(page: &[u8]) -> serde_json::Result<RepositoryPage> {
    #[derive(Deserialize)]
    struct Catalog {
        #[serde(default)]
        repositories: Option<Vec<String>>,
    }
    let catalog: Catalog = serde_json::from_slice(page)?;
    let names = catalog.repositories.unwrap_or_default();
    Ok(RepositoryPage { repositories: parsed(names.iter().map(String::as_str)), next: None })
}

fn parsed<'n>(names: impl Iterator<Item = &'n str>) -> Vec<Repository> {
    names.filter_map(|name| name.parse().ok()).collect()
}

pub(crate) const HUB: NamespaceApi = NamespaceApi { url: hub_url, parse: parse_hub };
pub(crate) const QUAY: NamespaceApi = NamespaceApi { url: quay_url, parse: parse_quay };

fn hub_url(namespace: &str, page: Option<&str>) -> String {
    let page = page.unwrap_or("1");
    format!(
        "https://hub.docker.com/v2/namespaces/{namespace}/repositories?page_size={PER_PAGE}&page={page}"
    )
}

/// The number of the next page is in its URL.
fn parse_hub(page: &[u8]) -> serde_json::Result<RepositoryPage> {
    #[derive(Deserialize)]
    struct HubRepositories {
        next: Option<String>,
        results: Vec<HubRepository>,
    }
    #[derive(Deserialize)]
    struct HubRepository {
        namespace: String,
        name: String,
    }
    let page: HubRepositories = serde_json::from_slice(page)?;
    let names: Vec<String> =
        page.results.iter().map(|it| format!("{}/{}", it.namespace, it.name)).collect();
    let number = |url: String| {
        let url = url::Url::parse(&url).ok()?;
        let page = url.query_pairs().find(|(name, _)| name == "page")?.1.into_owned();
        page.bytes().all(|b| b.is_ascii_digit()).then_some(page)
    };
    Ok(RepositoryPage {
        repositories: parsed(names.iter().map(String::as_str)),
        next: page.next.and_then(number),
    })
}

fn quay_url(namespace: &str, next: Option<&str>) -> String {
    let mut url = format!("https://quay.io/api/v1/repository?public=true&namespace={namespace}");
    if let Some(next) = next {
        let token: String = url::form_urlencoded::byte_serialize(next.as_bytes()).collect();
        url += "&next_page=";
        url += &token;
    }
    url
}

fn parse_quay(page: &[u8]) -> serde_json::Result<RepositoryPage> {
    #[derive(Deserialize)]
    struct QuayRepositories {
        repositories: Vec<QuayRepository>,
        next_page: Option<String>,
    }
    #[derive(Deserialize)]
    struct QuayRepository {
        namespace: String,
        name: String,
    }
    let page: QuayRepositories = serde_json::from_slice(page)?;
    let names: Vec<String> =
        page.repositories.iter().map(|it| format!("{}/{}", it.namespace, it.name)).collect();
    Ok(RepositoryPage {
        repositories: parsed(names.iter().map(String::as_str)),
        next: page.next_page,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_each_registry_has_its_repositories_and_the_next_page() {
        let shown = |page: RepositoryPage| {
            let names: Vec<String> = page.repositories.iter().map(Repository::to_string).collect();
            (names.join(" "), page.next)
        };
        let hub = br#"{"count":120,"next":"https://hub.docker.com/v2/namespaces/a/repositories?page=2&page_size=100","results":[{"namespace":"a","name":"b"},{"namespace":"a","name":"NO"}]}"#;
        assert_eq!(shown(parse_hub(hub).unwrap()), ("a/b".to_owned(), Some("2".to_owned())));
        let quay = br#"{"repositories":[{"namespace":"a","name":"b","is_public":true}],"next_page":"gA=="}"#;
        assert_eq!(shown(parse_quay(quay).unwrap()), ("a/b".to_owned(), Some("gA==".to_owned())));
        assert!(quay_url("a", Some("gA==")).ends_with("&next_page=gA%3D%3D"));
        let catalog = br#"{"repositories":["a/b","c"]}"#;
        assert_eq!(shown(parse_catalog(catalog).unwrap()), ("a/b c".to_owned(), None));
        assert_eq!(shown(parse_catalog(br#"{"repositories":null}"#).unwrap()).0, "");
    }
}
