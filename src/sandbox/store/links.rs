//! The references in a manifest, for every kind that registries accept.

use serde::Deserialize;

use crate::model::Digest;

/// The digests that a manifest names, and the fields that the referrers API shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Links {
    /// The manifest's own `mediaType`.
    pub media_type: Option<String>,
    /// Config and layers that the registry must have. Omits layers with external URLs.
    pub blobs: Vec<Digest>,
    /// The manifests of an index.
    pub children: Vec<Digest>,
    /// The manifest that this one refers to.
    pub subject: Option<Digest>,
    /// `artifactType`, or the config's media type without one.
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
    /// Layers of an OCI artifact manifest, a type that only 1.1's release candidates had.
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
    /// Parses a manifest.
    /// Fails if the bytes are not a JSON object, or if a digest is not SHA-256.
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
