//! The differences between public registries, in one table.
//!
//! To support another registry's tag listing, add a file with its parser and a row here. Hosts
//! without a row follow the distribution specification.

use super::{
    artifact_registry, hub, quay,
    repository_list::{self, NamespaceApi},
    tag_page::{ListedIndexes, NumberedPage, ParseTags},
};
use crate::model::{Host, Repository, Tag};

#[derive(Debug)]
pub(crate) struct PublicRegistry {
    /// Its hosts, as references name them. A leading dot matches all subdomains.
    hosts: &'static [&'static str],
    /// The host that serves its API, if references name another one.
    pub(crate) api_host: Option<&'static str>,
    /// The token service on another host that belongs to the registry, and may receive its
    /// credentials.
    pub(crate) token_host: Option<&'static str>,
    /// True if it limits pulls of manifests.
    pub(crate) is_metered: bool,
    /// Its key in Docker's configuration if that is not its host. `docker login` without a host
    /// logs in to this registry.
    pub(crate) docker_config_key: Option<&'static str>,
    /// A tag listing with digests and push times.
    pub(crate) tag_listing: Option<ListingApi>,
    /// A list of the repositories of a namespace.
    pub(crate) namespaces: Option<NamespaceApi>,
}

/// A tag listing with digests and push times.
#[derive(Debug)]
pub(crate) enum ListingApi {
    /// An extension of the specification's `tags/list`, for every repository.
    TagsList { page_size: u32, parse: ParseTags },
    /// Another API, for public repositories only.
    Numbered(NumberedListing),
}

/// An API that lists tags newest first, in pages with numbers from 1. Asked without credentials.
#[derive(Debug)]
pub(crate) struct NumberedListing {
    pub(crate) url: fn(&Repository, usize) -> String,
    pub(crate) parse: fn(&[u8]) -> serde_json::Result<NumberedPage>,
    /// Reads at most one page for this many tags. More than 1 for a listing that does not report
    /// its number of pages.
    pub(crate) tags_per_page: usize,
    /// The API that reads one tag with the entries of its index.
    pub(crate) one_tag: Option<OneTagApi>,
}

/// An API that reads one tag with the entries of its index. Asked without credentials.
#[derive(Debug)]
pub(crate) struct OneTagApi {
    pub(crate) url: fn(&Repository, &Tag) -> String,
    pub(crate) parse: fn(&[u8]) -> serde_json::Result<ListedIndexes>,
}

const OTHER: PublicRegistry = PublicRegistry {
    hosts: &[],
    api_host: None,
    token_host: None,
    is_metered: false,
    docker_config_key: None,
    tag_listing: None,
    namespaces: None,
};

static TABLE: [PublicRegistry; 5] = [
    PublicRegistry {
        hosts: &[Host::DOCKER_HUB],
        api_host: Some("registry-1.docker.io"),
        token_host: Some("auth.docker.io"),
        is_metered: true,
        docker_config_key: Some("https://index.docker.io/v1/"),
        tag_listing: Some(ListingApi::Numbered(NumberedListing {
            url: hub::url,
            parse: hub::parse,
            tags_per_page: 1,
            one_tag: Some(OneTagApi { url: hub::tag_url, parse: hub::parse_tag }),
        })),
        namespaces: Some(repository_list::HUB),
    },
    PublicRegistry {
        hosts: &["quay.io"],
        tag_listing: Some(ListingApi::Numbered(NumberedListing {
            url: quay::url,
            parse: quay::parse,
            tags_per_page: 4,
            one_tag: None,
        })),
        namespaces: Some(repository_list::QUAY),
        ..OTHER
    },
    PublicRegistry {
        hosts: &["gcr.io", ".gcr.io", ".pkg.dev"],
        tag_listing: Some(ListingApi::TagsList {
            page_size: 10_000,
            parse: artifact_registry::parse,
        }),
        ..OTHER
    },
    PublicRegistry { hosts: &["registry.gitlab.com"], token_host: Some("gitlab.com"), ..OTHER },
    PublicRegistry { hosts: &["nvcr.io"], token_host: Some("authn.nvidia.com"), ..OTHER },
];

impl PublicRegistry {
    /// The row of this host; a row without differences for other hosts.
    pub(crate) fn of(host: &Host) -> &'static Self {
        let host = host.as_str();
        let matches = |pattern: &&str| match pattern.starts_with('.') {
            true => host.ends_with(*pattern),
            false => host == *pattern,
        };
        TABLE.iter().find(|registry| registry.hosts.iter().any(matches)).unwrap_or(&OTHER)
    }
}
