//! Images made from a recipe: the same recipe gives the same bytes on every machine.
//!
//! The catalogue and the tests' builder both write recipes, and only this
//! module turns a recipe into configurations, manifests and indexes. What it
//! makes is as varied as what real registries serve (OCI and Docker types,
//! BuildKit attestations, nested indexes, charts) and valid: every digest,
//! size and `diff_id` is right.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::model::{Digest, Platform};

mod image;
mod layer;

pub use image::make;
pub use layer::{Layer, LayerFacts};

pub(crate) use layer::number;

/// Media types of what is made here.
pub mod media {
    /// An OCI index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// An OCI image manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// An OCI image configuration.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// A gzipped layer of an OCI image.
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// A Docker manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// A Docker image manifest, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// A Docker image configuration.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// A gzipped layer of a Docker image.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// A Docker image manifest, schema 1, signed.
    pub const DOCKER_SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    /// A Helm chart's metadata.
    pub const HELM_CONFIG: &str = "application/vnd.cncf.helm.config.v1+json";
    /// A Helm chart.
    pub const HELM_CHART: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
    /// A BuildKit attestation.
    pub const IN_TOTO: &str = "application/vnd.in-toto+json";
}

/// Whose media types an image uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// The OCI image specification's.
    Oci,
    /// Docker's, from before there was an OCI.
    Docker,
}

/// What a tag points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    /// An index with a manifest per platform.
    Index,
    /// An index with the first platform's manifest and a second index, which has the others.
    Nested,
    /// The first platform's manifest alone.
    Single,
    /// A Helm chart: the first platform's first layer is its archive.
    Chart,
}

/// Whether an index holds BuildKit's attestations beside its images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Attestations {
    /// It does not.
    None,
    /// One attestation manifest for each image: provenance and a list of packages.
    BuildKit,
}

/// Everything an image is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// What labels and attestations call the image, like `nginx:1.27.3`.
    pub name: String,
    /// Whose media types it uses.
    pub format: Format,
    /// What its tag points to.
    pub shape: Shape,
    /// Whether it is attested.
    pub attestations: Attestations,
    /// When it was built (RFC 3339).
    pub created: String,
    /// The images of its platforms, at least one.
    pub images: Vec<PlatformImage>,
}

/// One platform's part of a recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlatformImage {
    /// The platform.
    pub platform: Platform,
    /// The layers, lowest first.
    pub layers: Vec<Layer>,
}

/// A manifest or index as it is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// What it is known by: the digest of `bytes`, unless a test says otherwise.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Bytes,
}

/// A blob, or how to make it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blob {
    /// Kept as it is.
    Bytes(Bytes),
    /// Made when it is asked for.
    Layer(Layer),
}

/// What a recipe gives.
#[derive(Debug, Clone)]
pub struct Made {
    /// What the tag points to.
    pub root: Digest,
    /// Every manifest below and including the root, children first.
    pub manifests: Vec<Manifest>,
    /// Every blob that the manifests name.
    pub blobs: Vec<(Digest, Blob)>,
}

/// Makes layers, remembers what was said about them, and keeps the latest few bytes.
#[derive(Debug, Default)]
pub struct Layers {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    facts: HashMap<Layer, LayerFacts>,
    recent: VecDeque<(Layer, Bytes)>,
    recent_bytes: usize,
}

impl Layers {
    /// Bytes kept so that a layer that was just described need not be made again to be served.
    const KEPT: usize = 16 << 20;

    /// Digest, `diff_id` and size. The first time the layer has to be made for that.
    pub fn facts(&self, layer: &Layer) -> LayerFacts {
        if let Some(facts) = self.known().facts.get(layer) {
            return facts.clone();
        }
        let (facts, bytes) = layer.make();
        let mut known = self.known();
        known.facts.insert(layer.clone(), facts.clone());
        known.keep(layer, bytes);
        facts
    }

    /// The compressed bytes.
    pub fn bytes(&self, layer: &Layer) -> Bytes {
        if let Some((_, bytes)) = self.known().recent.iter().find(|(kept, _)| kept == layer) {
            return bytes.clone();
        }
        let bytes = layer.bytes();
        self.known().keep(layer, bytes.clone());
        bytes
    }

    fn known(&self) -> parking_lot::MutexGuard<'_, Known> {
        self.known.lock()
    }
}

impl Known {
    fn keep(&mut self, layer: &Layer, bytes: Bytes) {
        self.recent_bytes += bytes.len();
        self.recent.push_back((layer.clone(), bytes));
        while self.recent_bytes > Layers::KEPT {
            let Some((_, oldest)) = self.recent.pop_front() else { break };
            self.recent_bytes -= oldest.len();
        }
    }
}
