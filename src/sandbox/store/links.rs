//! What a manifest points to, of any of the kinds that registries take.

use serde::Deserialize;

use crate::model::Digest;

/// The digests that a manifest names, and what the referrers API tells of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Links {
    /// The `mediaType` written in the manifest.
    pub media_type: Option<String>,
    /// Config and layers that the registry must have: not those that are downloaded elsewhere.
    pub blobs: Vec<Digest>,
    /// An index's manifests.
    pub children: Vec<Digest>,
    /// The manifest this one says something about.
    pub subject: Option<Digest>,
    /// `artifactType`, or the config's media type where none is written.
    pub artifact_type: Option<String>,
    /// The manifest's annotations.
    pub annotations: serde_json::Map<String, serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    /// The layers of an OCI artifact manifest, which came and went with 1.1's release candidates.
    blobs: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    annotations: Option<serde_json::Map<String, serde_json::Value>>,
    fs_layers: Option<Vec<LegacyLayer>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: Option<String>,
    digest: Digest,
    urls: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LegacyLayer {
    blob_sum: Digest,
}

impl Links {
    /// Reads a manifest.
    ///
    /// # Errors
    /// When it is not JSON, not an object, or names something by what is not a SHA-256 digest.
    pub fn read(bytes: &[u8]) -> serde_json::Result<Links> {
        let document: Document = serde_json::from_slice(bytes)?;
        let artifact_type = document
            .artifact_type
            .filter(|written| !written.is_empty())
            .or_else(|| document.config.as_ref().and_then(|config| config.media_type.clone()));
        let layers = document.layers.into_iter().chain(document.blobs).flatten();
        let blobs = document
            .config
            .into_iter()
            .chain(layers)
            .filter(|blob| blob.urls.as_ref().is_none_or(Vec::is_empty))
            .map(|blob| blob.digest)
            .chain(document.fs_layers.into_iter().flatten().map(|layer| layer.blob_sum))
            .collect();
        Ok(Links {
            media_type: document.media_type,
            blobs,
            children: document.manifests.into_iter().flatten().map(|d| d.digest).collect(),
            subject: document.subject.map(|subject| subject.digest),
            artifact_type,
            annotations: document.annotations.unwrap_or_default(),
        })
    }
}
