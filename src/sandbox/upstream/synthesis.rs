//! Makes images from recipes: the same recipe gives the same bytes on every machine.
//!
//! The catalogue and the tests' builder write recipes; this module alone makes configurations,
//! manifests and indexes from them. The images are as varied as those of real registries (OCI and
//! Docker types, BuildKit attestations, nested indexes, charts) and valid: every digest, size and
//! `diff_id` is right.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::model::{Digest, Platform};

mod image;
mod layer;

pub(crate) use image::make;
pub(crate) use layer::{Layer, LayerFacts, number};

/// Media types of the synthesised content.
#[allow(missing_docs, reason = "the names say it")]
pub mod media {
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    pub const DOCKER_SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    pub const HELM_CONFIG: &str = "application/vnd.cncf.helm.config.v1+json";
    pub const HELM_CHART: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
    pub const IN_TOTO: &str = "application/vnd.in-toto+json";
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    Oci,
    Docker,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    /// An index with one manifest per platform.
    Index,
    /// An index with the first platform's manifest and a second index, which has the others.
    Nested,
    Single,
    /// A Helm chart; the first platform's first layer is its archive.
    Chart,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Attestations {
    None,
    /// One attestation manifest per image: provenance and a list of packages.
    BuildKit,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// The name in labels and attestations, such as `nginx:1.27.3`.
    pub name: String,
    pub format: Format,
    pub shape: Shape,
    pub attestations: Attestations,
    /// Build time (RFC 3339).
    pub created: String,
    /// One image per platform, at least one.
    pub images: Vec<PlatformImage>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlatformImage {
    pub platform: Platform,
    /// The layers, lowest first.
    pub layers: Vec<Layer>,
}

/// A manifest or index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The digest of `bytes`, unless a test sets another one.
    pub digest: Digest,
    /// The media type.
    pub media_type: String,
    /// The content.
    pub bytes: Bytes,
}

/// A blob, or its recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blob {
    Bytes(Bytes),
    Layer(Layer),
}

#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub root: Digest,
    /// Every manifest, children before parents, the root last.
    pub manifests: Vec<Manifest>,
    pub blobs: Vec<(Digest, Blob)>,
}

/// Makes layers; caches their digests and sizes, and the bytes of the latest ones.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    cache: Mutex<LayerCache>,
}

#[derive(Debug, Default)]
struct LayerCache {
    facts: HashMap<Layer, LayerFacts>,
    /// The layers of `facts`, oldest first.
    described: VecDeque<Layer>,
    recent: VecDeque<(Layer, Bytes)>,
    recent_bytes: usize,
}

impl Layers {
    /// Maximum cached bytes: a layer that was just described is served without making it again.
    const KEPT: usize = 16 << 20;
    /// Layers whose digests are cached: about 8 MiB.
    const DESCRIBED: usize = 20_000;

    /// The layer's digest, `diff_id` and size. Makes the layer on the first call.
    pub(crate) fn facts(&self, layer: &Layer) -> LayerFacts {
        if let Some(facts) = self.cache.lock().facts.get(layer) {
            return facts.clone();
        }
        let (facts, bytes) = layer.make();
        let mut cache = self.cache.lock();
        cache.describe(layer, facts.clone());
        cache.keep(layer, bytes);
        facts
    }

    pub(crate) fn bytes(&self, layer: &Layer) -> Bytes {
        if let Some((_, bytes)) = self.cache.lock().recent.iter().find(|(kept, _)| kept == layer) {
            return bytes.clone();
        }
        let bytes = layer.bytes();
        self.cache.lock().keep(layer, bytes.clone());
        bytes
    }
}

impl LayerCache {
    fn describe(&mut self, layer: &Layer, facts: LayerFacts) {
        if self.facts.insert(layer.clone(), facts).is_none() {
            self.described.push_back(layer.clone());
        }
        if self.described.len() > Layers::DESCRIBED
            && let Some(oldest) = self.described.pop_front()
        {
            self.facts.remove(&oldest);
        }
    }

    fn keep(&mut self, layer: &Layer, bytes: Bytes) {
        self.recent_bytes += bytes.len();
        self.recent.push_back((layer.clone(), bytes));
        while self.recent_bytes > Layers::KEPT {
            let Some((_, oldest)) = self.recent.pop_front() else { break };
            self.recent_bytes -= oldest.len();
        }
    }
}
