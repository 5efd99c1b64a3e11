//! Random images and indexes that share layers.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::{Value, json};

use super::{rng::Rng, upstream::StoredContent};
use crate::model::{Descriptor, Digest, ListedImage, Manifest, MediaType, Platform, RawManifest};

const CONFIG: &str = oci_client::manifest::IMAGE_CONFIG_MEDIA_TYPE;
const LAYER: &str = oci_client::manifest::IMAGE_LAYER_GZIP_MEDIA_TYPE;

/// A layer large enough to be searched for in sibling repositories.
const LARGE: usize = (1 << 20) + 1;

#[derive(Clone)]
pub(crate) struct GeneratedBlob {
    pub(crate) digest: Digest,
    bytes: Bytes,
}

impl GeneratedBlob {
    fn new(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { digest: Digest::of(&bytes), bytes }
    }

    fn descriptor(&self, media_type: &str) -> Value {
        let digest = self.digest.as_str();
        json!({ "mediaType": media_type, "digest": digest, "size": self.bytes.len() })
    }

    fn any(rng: &mut Rng) -> Self {
        static ONE_LARGE: OnceLock<GeneratedBlob> = OnceLock::new();
        match rng.range(0..=99) {
            0 => ONE_LARGE.get_or_init(|| Self::new(vec![7; LARGE])).clone(),
            1..=3 => Self::new(Bytes::new()),
            _ => {
                let words = rng.range(1..=200);
                Self::new((0..words).flat_map(|_| rng.next().to_le_bytes()).collect::<Vec<u8>>())
            }
        }
    }
}

/// A root manifest with everything below it.
#[derive(Clone)]
pub(crate) struct Root {
    pub(crate) manifest: RawManifest,
    /// One platform per image.
    pub(crate) platforms: Vec<Platform>,
    manifests: Vec<RawManifest>,
    layers: Vec<GeneratedBlob>,
    pub(crate) configs: Vec<GeneratedBlob>,
}

impl Root {
    pub(crate) fn is_index(&self) -> bool {
        self.manifest.media_type().is_index()
    }

    /// The images of the index, as a listing names them; `None` for an image, and for an index with
    /// nested indexes or attestations.
    pub(crate) fn listed(&self) -> Option<Arc<[ListedImage]>> {
        let Ok(Manifest::Index(index)) = self.manifest.read() else { return None };
        let is_image = |entry: &Descriptor| !entry.is_index() && entry.attests().is_none();
        let images = index.manifests.iter().zip(&self.platforms);
        let images = images.map(|(entry, platform)| ListedImage {
            platform: platform.clone(),
            digest: entry.digest.clone(),
        });
        index.manifests.iter().all(is_image).then(|| images.collect())
    }

    pub(crate) fn add_to(&self, content: &mut StoredContent) {
        let manifests = self.manifests.iter().map(|m| (m.digest().clone(), m.clone()));
        content.manifests.extend(manifests);
        let blobs = self.layers.iter().chain(&self.configs);
        content.blobs.extend(blobs.map(|blob| (blob.digest.clone(), blob.bytes.clone())));
    }

    fn image(rng: &mut Rng, layers: &[GeneratedBlob]) -> Self {
        let platforms = ["linux/amd64", "linux/arm64", "linux/arm/v7", "windows/amd64"];
        let platform: Platform = rng.choose(&platforms).parse().unwrap();
        let config = json!({ "os": platform.os, "architecture": platform.architecture,
            "variant": platform.variant, "nonce": rng.range(0..=3) });
        let config = GeneratedBlob::new(config.to_string());
        let mut layers = rng.subset(layers);
        layers.truncate(4);
        let kind = *rng.choose(&[MediaType::OciManifest, MediaType::DockerManifest]);
        let manifest = json!({ "schemaVersion": 2, "mediaType": kind.as_str(),
            "config": config.descriptor(CONFIG),
            "layers": layers.iter().map(|layer| layer.descriptor(LAYER)).collect::<Vec<_>>() });
        let manifest = raw(&manifest);
        let manifests = vec![manifest.clone()];
        Self { manifest, platforms: vec![platform], manifests, layers, configs: vec![config] }
    }

    /// An index entry for this root, sometimes without its platform.
    fn entry(&self, rng: &mut Rng) -> Value {
        let manifest = &self.manifest;
        let mut entry = json!({ "mediaType": manifest.media_type().as_str(),
            "digest": manifest.digest().as_str(), "size": manifest.bytes().len() });
        if !self.is_index() && rng.chance(850) {
            let Platform { os, architecture, variant, .. } = &self.platforms[0];
            entry["platform"] = json!({ "os": os, "architecture": architecture });
            if let Some(variant) = variant {
                entry["platform"]["variant"] = json!(variant);
            }
        }
        entry
    }

    fn index(rng: &mut Rng, below: &[Root], attestation: Option<&Root>) -> Self {
        let mut entries: Vec<Value> = below.iter().map(|root| root.entry(rng)).collect();
        let subject = below.iter().find(|root| !root.is_index());
        if let (Some(attestation), Some(subject)) = (attestation, subject) {
            let mut entry = attestation.entry(rng);
            entry["platform"] = json!({ "os": "unknown", "architecture": "unknown" });
            entry["annotations"] = json!({
                "vnd.docker.reference.type": "attestation-manifest",
                "vnd.docker.reference.digest": subject.manifest.digest().as_str() });
            entries.push(entry);
        }
        let kind = *rng.choose(&[MediaType::OciIndex, MediaType::OciIndex, MediaType::DockerList]);
        let manifest = raw(&json!({ "schemaVersion": 2, "mediaType": kind.as_str(),
            "manifests": entries }));
        let all = || below.iter().chain(attestation);
        let mut manifests: Vec<_> = all().flat_map(|root| root.manifests.clone()).collect();
        manifests.push(manifest.clone());
        Self {
            manifest,
            platforms: below.iter().flat_map(|root| root.platforms.clone()).collect(),
            manifests,
            layers: all().flat_map(|root| root.layers.clone()).collect(),
            configs: all().flat_map(|root| root.configs.clone()).collect(),
        }
    }
}

fn raw(document: &Value) -> RawManifest {
    RawManifest::new(document.to_string().into(), None).unwrap()
}

/// Images, indexes of them, and sometimes an index of indexes. At least one root.
pub(crate) fn roots(rng: &mut Rng) -> Vec<Root> {
    let layers: Vec<GeneratedBlob> =
        (0..rng.range(2..=8)).map(|_| GeneratedBlob::any(rng)).collect();
    let images: Vec<Root> = (0..rng.range(1..=6)).map(|_| Root::image(rng, &layers)).collect();
    let mut roots = images.clone();
    for _ in 0..rng.range(0..=3) {
        let mut below = rng.subset(&images);
        below.truncate(4);
        let attestation = rng.chance(250).then(|| Root::image(rng, &layers));
        roots.push(Root::index(rng, &below, attestation.as_ref()));
    }
    if rng.chance(250) {
        let below = [rng.choose(&roots).clone(), rng.choose(&images).clone()];
        roots.push(Root::index(rng, &below, None));
    }
    roots
}
