//! The parts of a manifest that ECR reads.
//!
//! Like ECR, refuses every malformed manifest with the same text.

use serde::Deserialize;
use serde_json::Value;

use super::error::EcrError;
use crate::model::Digest;

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub media_type: Option<String>,
    pub digest: Digest,
    /// Bytes.
    #[serde(default)]
    pub size: u64,
}

impl Descriptor {
    /// True if the registry need not have it, because clients fetch it elsewhere.
    fn is_foreign(&self) -> bool {
        let media_type = self.media_type.as_deref().unwrap_or_default();
        media_type.contains(".foreign.") || media_type.contains(".nondistributable.")
    }
}

/// A manifest of any kind that ECR accepts.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    /// 1 or 2.
    pub schema_version: u64,
    pub media_type: Option<String>,
    pub artifact_type: Option<String>,
    pub config: Option<Descriptor>,
    pub layers: Option<Vec<Descriptor>>,
    pub manifests: Option<Vec<Descriptor>>,
    pub subject: Option<Descriptor>,
    /// For the referrers listing.
    pub annotations: Option<Value>,
    /// The layers of schema 1.
    pub fs_layers: Option<Vec<LegacyLayer>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LegacyLayer {
    pub blob_sum: Digest,
}

impl Manifest {
    /// Parses a manifest of a kind that ECR accepts.
    ///
    /// Errors: ECR's one text for bad JSON and a refused schema alike.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, EcrError> {
        let refused = || EcrError::parameter("ImageManifest", "Invalid JSON syntax");
        let manifest: Self = serde_json::from_slice(bytes).map_err(|_| refused())?;
        let is_image = manifest.config.is_some() && manifest.layers.is_some();
        let known = match manifest.schema_version {
            1 => manifest.fs_layers.is_some(),
            2 => is_image != manifest.manifests.is_some(),
            _ => false,
        };
        known.then_some(manifest).ok_or_else(refused)
    }

    pub(super) fn blobs(&self) -> impl Iterator<Item = &Digest> {
        let described = self.described_blobs().filter(|blob| !blob.is_foreign());
        let legacy = self.fs_layers.iter().flatten().map(|layer| &layer.blob_sum);
        described.map(|blob| &blob.digest).chain(legacy)
    }

    pub(super) fn described_blobs(&self) -> impl Iterator<Item = &Descriptor> {
        self.config.iter().chain(self.layers.iter().flatten())
    }

    /// Bytes of config and layers; `None` for an index.
    pub(super) fn size(&self) -> Option<u64> {
        self.layers.as_ref()?;
        Some(self.described_blobs().map(|blob| blob.size).sum())
    }

    /// `artifactType`, else the config's media type.
    pub(super) fn artifact_type(&self) -> Option<&str> {
        let own = self.artifact_type.as_deref().filter(|own| !own.is_empty());
        own.or_else(|| self.config.as_ref()?.media_type.as_deref())
    }
}
