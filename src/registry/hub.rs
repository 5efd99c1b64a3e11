//! Docker Hub's own tag listing: a hundred tags with digests, push times and images per request, or
//! one tag. No pull.
//!
//! Source: docs.docker.com/reference/api/hub/latest, "List repository tags", "Read repository tag".

use std::time::SystemTime;

use serde::Deserialize;
use serde_json::Value;

use super::tag_page::{ListedIndexes, NumberedPage, listed};
use crate::model::{Digest, ListedImage, Platform, Repository, Tag};

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
    #[serde(default)]
    images: Vec<Value>,
}

/// An entry of the tag's index, or the image that the tag points to.
#[derive(Deserialize)]
struct HubImage {
    os: String,
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
    #[serde(default)]
    os_version: Option<String>,
    digest: Digest,
}

impl HubTag {
    /// The index that the tag points to; `None` if the listing does not name all of its entries.
    fn index(&self) -> Option<(Digest, Vec<ListedImage>)> {
        let digest = self.digest.as_deref()?.parse().ok()?;
        let images = self.images.iter().map(|image| {
            let HubImage { os, architecture, variant, os_version, digest } =
                HubImage::deserialize(image).ok()?;
            let platform = Platform { os, architecture, variant, os_version };
            Some(ListedImage { platform, digest })
        });
        let images: Vec<ListedImage> = images.collect::<Option<_>>()?;
        (!images.is_empty()).then_some((digest, images))
    }
}

/// The URL of one tag, for [`parse_tag`].
pub(crate) fn tag_url(repository: &Repository, tag: &Tag) -> String {
    format!("{}/{tag}", tags_url(repository))
}

pub(crate) fn url(repository: &Repository, page: usize) -> String {
    format!("{}?page_size={PAGE_SIZE}&page={page}", tags_url(repository))
}

fn tags_url(repository: &Repository) -> String {
    // without a namespace Docker Hub finds nothing
    let (namespace, name) =
        repository.as_str().split_once('/').unwrap_or(("_", repository.as_str()));
    format!("https://hub.docker.com/v2/namespaces/{namespace}/repositories/{name}/tags")
}

pub(crate) fn parse(page: &[u8]) -> serde_json::Result<NumberedPage> {
    let page: HubPage = serde_json::from_slice(page)?;
    let tag = |tag: &HubTag| {
        let pushed = time(&tag.tag_last_pushed).or(time(&tag.last_updated));
        listed(&tag.name, tag.digest.as_deref(), pushed)
    };
    Ok(NumberedPage {
        tags: page.results.iter().filter_map(tag).collect(),
        indexes: page.results.iter().filter_map(HubTag::index).collect(),
        times: page.results.iter().map(|tag| time(&tag.last_updated)).collect(),
        has_next: page.next.is_some(),
        pages: Some(page.count.div_ceil(PAGE_SIZE)),
    })
}

/// Parses the answer for one tag.
pub(crate) fn parse_tag(tag: &[u8]) -> serde_json::Result<ListedIndexes> {
    let tag: HubTag = serde_json::from_slice(tag)?;
    Ok(tag.index().into_iter().collect())
}

fn time(text: &Option<String>) -> Option<SystemTime> {
    humantime::parse_rfc3339(text.as_deref()?).ok()
}
