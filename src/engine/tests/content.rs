//! Images and indexes that share layers, made from chance.

use std::sync::OnceLock;

use bytes::Bytes;
use serde_json::{Value, json};

use super::{rng::Rng, upstream::StoredContent};
use crate::model::{Digest, MediaType, Platform, RawManifest};

const CONFIG: &str = oci_client::manifest::IMAGE_CONFIG_MEDIA_TYPE;
const LAYER: &str = oci_client::manifest::IMAGE_LAYER_GZIP_MEDIA_TYPE;

/// A layer above the size from which other repositories are asked for it.
const LARGE: usize = (1 << 20) + 1;

/// Some bytes and their digest.
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

    fn any(dice: &mut Rng) -> Self {
        static ONE_LARGE: OnceLock<GeneratedBlob> = OnceLock::new();
        match dice.of(0..=99) {
            0 => ONE_LARGE.get_or_init(|| Self::new(vec![7; LARGE])).clone(),
            1..=3 => Self::new(Bytes::new()),
            _ => {
                let words = dice.of(1..=200);
                Self::new((0..words).flat_map(|_| dice.next().to_le_bytes()).collect::<Vec<u8>>())
            }
        }
    }
}

/// What a tag can point to, with everything below.
#[derive(Clone)]
pub(crate) struct Root {
    pub(crate) manifest: RawManifest,
    /// The platforms of its images, one an image.
    pub(crate) platforms: Vec<Platform>,
    manifests: Vec<RawManifest>,
    layers: Vec<GeneratedBlob>,
    pub(crate) configs: Vec<GeneratedBlob>,
}

impl Root {
    pub(crate) fn is_index(&self) -> bool {
        self.manifest.media_type().is_index()
    }

    pub(crate) fn stock(&self, shelf: &mut StoredContent) {
        let manifests = self.manifests.iter().map(|m| (m.digest().clone(), m.clone()));
        shelf.manifests.extend(manifests);
        let blobs = self.layers.iter().chain(&self.configs);
        shelf.blobs.extend(blobs.map(|blob| (blob.digest.clone(), blob.bytes.clone())));
    }

    fn image(dice: &mut Rng, layers: &[GeneratedBlob]) -> Self {
        let platforms = ["linux/amd64", "linux/arm64", "linux/arm/v7", "windows/amd64"];
        let platform: Platform = dice.pick(&platforms).parse().unwrap();
        let config = json!({ "os": platform.os, "architecture": platform.architecture,
            "variant": platform.variant, "nonce": dice.of(0..=3) });
        let config = GeneratedBlob::new(config.to_string());
        let mut layers = dice.some(layers);
        layers.truncate(4);
        let kind = *dice.pick(&[MediaType::OciManifest, MediaType::DockerManifest]);
        let manifest = json!({ "schemaVersion": 2, "mediaType": kind.as_str(),
            "config": config.descriptor(CONFIG),
            "layers": layers.iter().map(|layer| layer.descriptor(LAYER)).collect::<Vec<_>>() });
        let manifest = raw(&manifest);
        let manifests = vec![manifest.clone()];
        Self { manifest, platforms: vec![platform], manifests, layers, configs: vec![config] }
    }

    /// An entry of an index for it; some indexes do not tell platforms.
    fn entry(&self, dice: &mut Rng) -> Value {
        let manifest = &self.manifest;
        let mut entry = json!({ "mediaType": manifest.media_type().as_str(),
            "digest": manifest.digest().as_str(), "size": manifest.bytes().len() });
        if !self.is_index() && dice.chance(850) {
            let Platform { os, architecture, variant } = &self.platforms[0];
            entry["platform"] = json!({ "os": os, "architecture": architecture });
            if let Some(variant) = variant {
                entry["platform"]["variant"] = json!(variant);
            }
        }
        entry
    }

    fn index(dice: &mut Rng, below: &[Root], attestation: Option<&Root>) -> Self {
        let mut entries: Vec<Value> = below.iter().map(|root| root.entry(dice)).collect();
        let subject = below.iter().find(|root| !root.is_index());
        if let (Some(attestation), Some(subject)) = (attestation, subject) {
            let mut entry = attestation.entry(dice);
            entry["platform"] = json!({ "os": "unknown", "architecture": "unknown" });
            entry["annotations"] = json!({
                "vnd.docker.reference.type": "attestation-manifest",
                "vnd.docker.reference.digest": subject.manifest.digest().as_str() });
            entries.push(entry);
        }
        let kind = *dice.pick(&[MediaType::OciIndex, MediaType::OciIndex, MediaType::DockerList]);
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

/// Images, indexes of them, and perhaps an index of those; never none.
pub(crate) fn roots(dice: &mut Rng) -> Vec<Root> {
    let layers: Vec<GeneratedBlob> =
        (0..dice.of(2..=8)).map(|_| GeneratedBlob::any(dice)).collect();
    let images: Vec<Root> = (0..dice.of(1..=6)).map(|_| Root::image(dice, &layers)).collect();
    let mut roots = images.clone();
    for _ in 0..dice.of(0..=3) {
        let mut below = dice.some(&images);
        below.truncate(4);
        let attestation = dice.chance(250).then(|| Root::image(dice, &layers));
        roots.push(Root::index(dice, &below, attestation.as_ref()));
    }
    if dice.chance(250) {
        let below = [dice.pick(&roots).clone(), dice.pick(&images).clone()];
        roots.push(Root::index(dice, &below, None));
    }
    roots
}
