//! Docker Hub's own tag listing: a hundred tags with digests and push times per request. No pull.

use std::time::SystemTime;

use serde::Deserialize;

use super::tag_page::{NumberedPage, listed};
use crate::model::Repository;

const PAGE_SIZE: usize = 100;

#[derive(Deserialize)]
struct HubPage {
    count: usize,
    next: Option<String>,
    results: Vec<HubTag>,
}

#[derive(Deserialize)]
struct HubTag {
    name: String,
    // missing for some old tags
    digest: Option<String>,
    #[serde(default)]
    tag_last_pushed: Option<String>,
    /// The listing is sorted by this; never before the push.
    #[serde(default)]
    last_updated: Option<String>,
}

pub(crate) fn url(repository: &Repository, page: usize) -> String {
    // without a namespace Docker Hub finds nothing
    let (namespace, name) =
        repository.as_str().split_once('/').unwrap_or(("_", repository.as_str()));
    format!(
        "https://hub.docker.com/v2/namespaces/{namespace}/repositories/{name}/tags?page_size={PAGE_SIZE}&page={page}"
    )
}

pub(crate) fn parse(page: &[u8]) -> serde_json::Result<NumberedPage> {
    let page: HubPage = serde_json::from_slice(page)?;
    let tag = |tag: &HubTag| {
        let pushed = time(&tag.tag_last_pushed).or(time(&tag.last_updated));
        listed(&tag.name, tag.digest.as_deref(), pushed)
    };
    Ok(NumberedPage {
        tags: page.results.iter().filter_map(tag).collect(),
        times: page.results.iter().map(|tag| time(&tag.last_updated)).collect(),
        has_next: page.next.is_some(),
        pages: Some(page.count.div_ceil(PAGE_SIZE)),
    })
}

fn time(text: &Option<String>) -> Option<SystemTime> {
    humantime::parse_rfc3339(text.as_deref()?).ok()
}
