//! Docker Hub's own listing: a hundred tags with their digests a request, and no pull.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;
use url::Url;

use super::client::Registry;
use crate::model::{Digest, Repository, Result, Tag};

const PAGE: usize = 100;

#[derive(Deserialize)]
struct Page {
    count: usize,
    next: Option<String>,
    results: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    name: String,
    // missing on some old tags
    digest: Option<String>,
}

/// Digests of tags, newest first, over as many pages as cost less than asking for the tags that are left.
pub(super) async fn digests(
    hub: &Registry,
    repository: &Repository,
    tags: &[Tag],
) -> Result<HashMap<Tag, Digest>> {
    let mut found = HashMap::new();
    let mut wanted: HashSet<&Tag> = tags.iter().collect();
    let Some((namespace, name)) = repository.as_str().split_once('/') else { return Ok(found) };
    for page in 1.. {
        let url = format!(
            "https://hub.docker.com/v2/namespaces/{namespace}/repositories/{name}/tags?page_size={PAGE}&page={page}"
        );
        let Ok(url) = Url::parse(&url) else { break };
        let Page { count, next, results } = hub.listing(url).await?;
        for Listed { name, digest } in results {
            let (Ok(tag), Some(Ok(digest))) = (name.parse::<Tag>(), digest.map(|d| d.parse()))
            else {
                continue;
            };
            wanted.remove(&tag);
            found.insert(tag, digest);
        }
        let pages_left = count.div_ceil(PAGE).saturating_sub(page);
        if next.is_none() || pages_left == 0 || pages_left >= wanted.len() {
            break;
        }
    }
    Ok(found)
}
