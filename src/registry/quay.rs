//! Quay's own tag listing: a hundred tags with digests and push times per request.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use super::tag_page::{ListedIndexes, NumberedPage, listed};
use crate::model::Repository;

#[derive(Deserialize)]
struct QuayPage {
    tags: Vec<QuayTag>,
    #[serde(default)]
    has_additional: bool,
}

#[derive(Deserialize)]
struct QuayTag {
    name: String,
    manifest_digest: Option<String>,
    /// When the tag began to point to the manifest, in seconds of Unix time.
    #[serde(default)]
    start_ts: Option<u64>,
}

impl QuayTag {
    fn pushed(&self) -> Option<SystemTime> {
        UNIX_EPOCH.checked_add(Duration::from_secs(self.start_ts?))
    }
}

pub(crate) fn url(repository: &Repository, page: usize) -> String {
    format!(
        "https://quay.io/api/v1/repository/{repository}/tag/?limit=100&page={page}&onlyActiveTags=true"
    )
}

pub(crate) fn parse(page: &[u8]) -> serde_json::Result<NumberedPage> {
    let page: QuayPage = serde_json::from_slice(page)?;
    let tag = |tag: &QuayTag| listed(&tag.name, tag.manifest_digest.as_deref(), tag.pushed());
    Ok(NumberedPage {
        tags: page.tags.iter().filter_map(tag).collect(),
        indexes: ListedIndexes::new(),
        times: page.tags.iter().map(QuayTag::pushed).collect(),
        has_next: page.has_additional,
        pages: None,
    })
}
