//! Google's registries: their tag lists tell the digests along with the names, in one request.

use std::collections::HashMap;

use serde::Deserialize;

use super::client::Registry;
use crate::model::{Digest, Repository, Result, Tag};

/// The extension of `tags/list`, as go-containerregistry reads it.
#[derive(Deserialize)]
struct List {
    #[serde(default)]
    manifest: HashMap<String, Listed>,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(default)]
    tag: Vec<String>,
}

/// Whether the host is one of Google's.
pub(super) fn is_one(host: &str) -> bool {
    host == "gcr.io" || host.ends_with(".gcr.io") || host.ends_with(".pkg.dev")
}

/// Digests of all tags.
pub(super) async fn digests(
    registry: &Registry,
    repository: &Repository,
) -> Result<HashMap<Tag, Digest>> {
    let url = registry.tags_url(repository, 10_000);
    let (list, _next) = registry.page::<List>(repository, url).await?;
    let mut found = HashMap::new();
    for (digest, listed) in list.manifest {
        let Ok(digest) = digest.parse::<Digest>() else { continue };
        for tag in listed.tag.iter().filter_map(|tag| tag.parse().ok()) {
            found.insert(tag, digest.clone());
        }
    }
    Ok(found)
}
