//! Docker Hub's own listing: a hundred tags with their digests a request, and no pull.

use std::{
    collections::{HashMap, HashSet},
    time::SystemTime,
};

use serde::Deserialize;
use url::Url;

use super::{
    client::Registry,
    paging::{NextPage, is_before, listed},
};
use crate::{
    model::{Digest, Repository, Result, Tag},
    remote::Pages,
};

const PAGE: usize = 100;

/// A page of the listing.
#[derive(Deserialize)]
pub(crate) struct HubPage {
    count: usize,
    next: Option<String>,
    results: Vec<HubTag>,
}

#[derive(Deserialize)]
struct HubTag {
    name: String,
    // missing on some old tags
    digest: Option<String>,
    #[serde(default)]
    tag_last_pushed: Option<String>,
    /// What the list is ordered by; not before it was pushed.
    #[serde(default)]
    last_updated: Option<String>,
}

fn url(repository: &Repository, page: usize) -> String {
    // without a namespace the answer is that there is nothing
    let (namespace, name) =
        repository.as_str().split_once('/').unwrap_or(("_", repository.as_str()));
    format!(
        "https://hub.docker.com/v2/namespaces/{namespace}/repositories/{name}/tags?page_size={PAGE}&page={page}"
    )
}

fn time(text: &Option<String>) -> Option<SystemTime> {
    humantime::parse_rfc3339(text.as_deref()?).ok()
}

impl HubPage {
    /// Its tags, with what it tells of them.
    pub(crate) fn listed(&self) -> Vec<crate::model::Listed> {
        let tag = |tag: &HubTag| {
            let pushed = time(&tag.tag_last_pushed).or(time(&tag.last_updated));
            listed(&tag.name, tag.digest.as_deref(), pushed)
        };
        self.results.iter().filter_map(tag).collect()
    }
}

/// All tags with digests and push times, newest first; they end where all are older than wanted.
pub(crate) fn tags<'a>(
    hub: &'a Registry,
    repository: &'a Repository,
    since: Option<SystemTime>,
) -> Pages<'a> {
    hub.numbered_pages(
        repository,
        |page| url(repository, page),
        move |page: HubPage| {
            let is_before =
                is_before(page.results.iter().map(|tag| time(&tag.last_updated)), since);
            let more =
                if page.next.is_none() || is_before { NextPage::End } else { NextPage::Follow };
            (page.listed(), more)
        },
    )
}

/// Digests of tags, newest first, over as many pages as cost less than asking for the tags that are left.
pub(crate) async fn digests(
    hub: &Registry,
    repository: &Repository,
    tags: &[Tag],
) -> Result<HashMap<Tag, Digest>> {
    let mut found = HashMap::new();
    let mut wanted: HashSet<&Tag> = tags.iter().collect();
    for page in 1..=tags.len() {
        let Ok(url) = Url::parse(&url(repository, page)) else { break };
        let HubPage { count, next, results } = hub.listing(url).await?;
        for HubTag { name, digest, .. } in results {
            let (Ok(tag), Some(Ok(digest))) = (name.parse::<Tag>(), digest.map(|d| d.parse()))
            else {
                continue;
            };
            if wanted.remove(&tag) {
                found.insert(tag, digest);
            }
        }
        let pages_left = count.div_ceil(PAGE).saturating_sub(page);
        if next.is_none() || pages_left == 0 || pages_left >= wanted.len() {
            break;
        }
    }
    Ok(found)
}
