//! Google's registries: their tag lists tell the digests along with the names, in one request.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::Deserialize;

use super::{client::Registry, paging::listed};
use crate::{
    model::{Digest, Repository, Result, Tag},
    remote::Pages,
};

/// The most tags a page is asked for.
const LARGEST: u32 = 10_000;

/// The extension of `tags/list`, as go-containerregistry reads it.
#[derive(Deserialize)]
pub(crate) struct ArtifactRegistryList {
    #[serde(default)]
    tags: Option<Vec<String>>,
    #[serde(default)]
    manifest: HashMap<String, ArtifactRegistryTag>,
}

#[derive(Deserialize)]
struct ArtifactRegistryTag {
    #[serde(default)]
    tag: Vec<String>,
    /// Milliseconds of Unix time, as text.
    #[serde(default, rename = "timeUploadedMs")]
    uploaded: Option<String>,
}

impl ArtifactRegistryTag {
    fn pushed(&self) -> Option<SystemTime> {
        let millis: u64 = self.uploaded.as_ref()?.parse().ok()?;
        UNIX_EPOCH.checked_add(Duration::from_millis(millis))
    }
}

/// All tags with digests and push times.
pub(crate) fn tags<'a>(registry: &'a Registry, repository: &'a Repository) -> Pages<'a> {
    registry.pages(
        repository,
        registry.tags_url(repository, LARGEST),
        |page: ArtifactRegistryList| page.listed(),
    )
}

impl ArtifactRegistryList {
    /// Its tags, with what it tells of them.
    pub(crate) fn listed(&self) -> Vec<crate::model::Listed> {
        if self.manifest.is_empty() {
            let names = self.tags.iter().flatten();
            return names.filter_map(|name| listed(name, None, None)).collect();
        }
        let mut found = Vec::new();
        for (digest, manifest) in &self.manifest {
            let pushed = manifest.pushed();
            let tags = manifest.tag.iter();
            found.extend(tags.filter_map(|name| listed(name, Some(digest), pushed)));
        }
        found
    }
}

/// Whether the host is one of Google's.
pub(crate) fn is_one(host: &str) -> bool {
    host == "gcr.io" || host.ends_with(".gcr.io") || host.ends_with(".pkg.dev")
}

/// Digests of all tags.
pub(crate) async fn digests(
    registry: &Registry,
    repository: &Repository,
) -> Result<HashMap<Tag, Digest>> {
    let url = registry.tags_url(repository, LARGEST);
    let (list, _next) = registry.page::<ArtifactRegistryList>(repository, url).await?;
    let mut found = HashMap::new();
    for (digest, listed) in list.manifest {
        let Ok(digest) = digest.parse::<Digest>() else { continue };
        for tag in listed.tag.iter().filter_map(|tag| tag.parse().ok()) {
            found.insert(tag, digest.clone());
        }
    }
    Ok(found)
}
