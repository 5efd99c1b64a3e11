//! Google's registries: their `tags/list` has digests and push times too.
//!
//! Source: go-containerregistry, `google.Tags`.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::Deserialize;

use super::tag_page::listed;
use crate::model::Listed;

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

pub(crate) fn parse(page: &[u8]) -> serde_json::Result<Vec<Listed>> {
    let page: ArtifactRegistryPage = serde_json::from_slice(page)?;
    if page.manifest.is_empty() {
        let names = page.tags.iter().flatten();
        return Ok(names.filter_map(|name| listed(name, None, None)).collect());
    }
    let tags = page.manifest.iter().flat_map(|(digest, manifest)| {
        let pushed = manifest.pushed();
        manifest.tag.iter().filter_map(move |name| listed(name, Some(digest), pushed))
    });
    Ok(tags.collect())
}
