//! What ECR reads of a manifest: which of the kinds it takes it is, and what it names.
//!
//! Guards that one text refuses whatever is wrong with it, as ECR does.

use serde::Deserialize;
use serde_json::Value;

use super::error::EcrError;
use crate::model::Digest;

/// What a manifest says of one of its parts.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    /// The part's media type.
    pub media_type: Option<String>,
    /// The part's digest.
    pub digest: Digest,
    /// The part's length in bytes.
    #[serde(default)]
    pub size: u64,
}

impl Descriptor {
    /// Whether the registry need not have it: the client fetches it elsewhere.
    fn is_foreign(&self) -> bool {
        let media_type = self.media_type.as_deref().unwrap_or_default();
        media_type.contains(".foreign.") || media_type.contains(".nondistributable.")
    }
}

/// The parts of a manifest that ECR looks at.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    /// 1 or 2.
    pub schema_version: u64,
    /// Its own type, where it says so.
    pub media_type: Option<String>,
    /// What the artifact is.
    pub artifact_type: Option<String>,
    /// An image's config.
    pub config: Option<Descriptor>,
    /// An image's layers.
    pub layers: Option<Vec<Descriptor>>,
    /// An index's children.
    pub manifests: Option<Vec<Descriptor>>,
    /// What this refers to.
    pub subject: Option<Descriptor>,
    /// Kept for the referrers listing.
    pub annotations: Option<Value>,
    /// The layers of schema 1.
    pub fs_layers: Option<Vec<LegacyLayer>>,
}

/// A layer of schema 1.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LegacyLayer {
    /// The layer's digest.
    pub blob_sum: Digest,
}

impl Manifest {
    /// Reads a manifest of a kind that ECR takes.
    ///
    /// # Errors
    /// ECR's one text for whatever is wrong with it: bad JSON and a refused schema alike.
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

    /// The config and the layers that the repository has to hold.
    pub(super) fn blobs(&self) -> impl Iterator<Item = &Digest> {
        let described = self.described_blobs().filter(|blob| !blob.is_foreign());
        let legacy = self.fs_layers.iter().flatten().map(|layer| &layer.blob_sum);
        described.map(|blob| &blob.digest).chain(legacy)
    }

    pub(super) fn described_blobs(&self) -> impl Iterator<Item = &Descriptor> {
        self.config.iter().chain(self.layers.iter().flatten())
    }

    /// Bytes of config and layers; none for an index.
    pub(super) fn size(&self) -> Option<u64> {
        self.layers.as_ref()?;
        Some(self.described_blobs().map(|blob| blob.size).sum())
    }

    /// What the artifact is: `artifactType`, else the config's type.
    pub(super) fn artifact_type(&self) -> Option<&str> {
        let own = self.artifact_type.as_deref().filter(|own| !own.is_empty());
        own.or_else(|| self.config.as_ref()?.media_type.as_deref())
    }
}
