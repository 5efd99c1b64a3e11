//! Quay's own listing: a hundred tags with their digests a request.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;
use url::Url;

use super::client::Registry;
use crate::model::{Digest, Repository, Result, Tag};

/// A page, which does not tell how many follow, is tried for every so many tags.
const TAGS_A_PAGE: usize = 4;

#[derive(Deserialize)]
struct Page {
    tags: Vec<Listed>,
    #[serde(default)]
    has_additional: bool,
}

#[derive(Deserialize)]
struct Listed {
    name: String,
    manifest_digest: Option<String>,
}

/// Digests of active tags, newest first.
pub(super) async fn digests(
    quay: &Registry,
    repository: &Repository,
    tags: &[Tag],
) -> Result<HashMap<Tag, Digest>> {
    let mut found = HashMap::new();
    let mut wanted: HashSet<&Tag> = tags.iter().collect();
    for page in 1..=tags.len() / TAGS_A_PAGE {
        let url = format!(
            "https://quay.io/api/v1/repository/{repository}/tag/?limit=100&page={page}&onlyActiveTags=true"
        );
        let Ok(url) = Url::parse(&url) else { break };
        let Page { tags, has_additional } = quay.listing(url).await?;
        for Listed { name, manifest_digest } in tags {
            let digest = manifest_digest.and_then(|digest| digest.parse().ok());
            if let (Ok(tag), Some(digest)) = (name.parse::<Tag>(), digest) {
                wanted.remove(&tag);
                found.insert(tag, digest);
            }
        }
        if !has_additional || wanted.is_empty() {
            break;
        }
    }
    Ok(found)
}
