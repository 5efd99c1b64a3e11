//! Quay's own listing: a hundred tags with their digests a request.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, SystemTime, UNIX_EPOCH},
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

/// A page, which does not tell how many follow, is tried for every so many tags.
const TAGS_A_PAGE: usize = 4;

/// A page of the listing.
#[derive(Deserialize)]
pub(crate) struct QuayPage {
    tags: Vec<QuayTag>,
    #[serde(default)]
    has_additional: bool,
}

#[derive(Deserialize)]
struct QuayTag {
    name: String,
    manifest_digest: Option<String>,
    /// Since when the tag points there, in seconds of Unix time.
    #[serde(default)]
    start_ts: Option<u64>,
}

impl QuayTag {
    fn pushed(&self) -> Option<SystemTime> {
        UNIX_EPOCH.checked_add(Duration::from_secs(self.start_ts?))
    }
}

impl QuayPage {
    /// Its tags, with what it tells of them.
    pub(crate) fn listed(&self) -> Vec<crate::model::Listed> {
        let tag = |tag: &QuayTag| listed(&tag.name, tag.manifest_digest.as_deref(), tag.pushed());
        self.tags.iter().filter_map(tag).collect()
    }
}

fn url(repository: &Repository, page: usize) -> String {
    format!(
        "https://quay.io/api/v1/repository/{repository}/tag/?limit=100&page={page}&onlyActiveTags=true"
    )
}

/// All active tags with digests and push times, newest first; they end where all are older than
/// wanted.
pub(crate) fn tags<'a>(
    quay: &'a Registry,
    repository: &'a Repository,
    since: Option<SystemTime>,
) -> Pages<'a> {
    quay.numbered_pages(
        repository,
        |page| url(repository, page),
        move |page: QuayPage| {
            let is_before = is_before(page.tags.iter().map(QuayTag::pushed), since);
            let more =
                if !page.has_additional || is_before { NextPage::End } else { NextPage::Follow };
            (page.listed(), more)
        },
    )
}

/// Digests of active tags, newest first.
pub(crate) async fn digests(
    quay: &Registry,
    repository: &Repository,
    tags: &[Tag],
) -> Result<HashMap<Tag, Digest>> {
    let mut found = HashMap::new();
    let mut wanted: HashSet<&Tag> = tags.iter().collect();
    for page in 1..=tags.len() / TAGS_A_PAGE {
        let Ok(url) = Url::parse(&url(repository, page)) else { break };
        let QuayPage { tags, has_additional } = quay.listing(url).await?;
        for QuayTag { name, manifest_digest, .. } in tags {
            let digest = manifest_digest.and_then(|digest| digest.parse().ok());
            if let (Ok(tag), Some(digest)) = (name.parse::<Tag>(), digest)
                && wanted.remove(&tag)
            {
                found.insert(tag, digest);
            }
        }
        if !has_additional || wanted.is_empty() {
            break;
        }
    }
    Ok(found)
}
