//! Google's registries: their `tags/list` has digests and push times too.
//!
//! Source: go-containerregistry, `google.Tags`.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::Deserialize;

use super::tag_page::{TagPage, listed};

#[derive(Deserialize)]
struct ArtifactRegistryPage {
    #[serde(default)]
    tags: Option<Vec<String>>,
    #[serde(default)]
    manifest: HashMap<String, ArtifactRegistryManifest>,
}

#[derive(Deserialize)]
struct ArtifactRegistryManifest {
    #[serde(default)]
    tag: Vec<String>,
    /// Milliseconds of Unix time, as text.
    #[serde(default, rename = "timeUploadedMs")]
    uploaded: Option<String>,
}

impl ArtifactRegistryManifest {
    fn pushed(&self) -> Option<SystemTime> {
        let millis: u64 = self.uploaded.as_ref()?.parse().ok()?;
        UNIX_EPOCH.checked_add(Duration::from_millis(millis))
    }
}

pub(crate) fn parse(page: &[u8]) -> serde_json::Result<TagPage> {
    let page: ArtifactRegistryPage = serde_json::from_slice(page)?;
    let all = page.tags.unwrap_or_default();
    let (names, last) = (all.len(), all.last().cloned());
    if page.manifest.is_empty() {
        let tags = all.iter().filter_map(|name| listed(name, None, None)).collect();
        return Ok(TagPage { tags, names, last });
    }
    let tags = page.manifest.iter().flat_map(|(digest, manifest)| {
        let pushed = manifest.pushed();
        manifest.tag.iter().filter_map(move |name| listed(name, Some(digest), pushed))
    });
    Ok(TagPage { tags: tags.collect(), names, last })
}
