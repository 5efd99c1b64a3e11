//! Builds images for tests in one line: `upstream.image("nginx:1").docker().push()`.

use super::{
    content::Content,
    synthesis::{Attestations, Format, Layer, PlatformImage, Recipe, Shape},
};
use crate::model::{Digest, Platform, Reference};

/// Builds an image. Default: an OCI index for amd64 and arm64 with two small layers each.
#[derive(Debug)]
#[must_use = "`push` puts the image there"]
pub struct ImageBuilder<'a> {
    content: &'a Content,
    reference: Reference,
    platforms: Vec<Platform>,
    format: Format,
    shape: Shape,
    attestations: Attestations,
    layers: usize,
    layer_size: usize,
    base: Option<String>,
    seed: String,
}

impl<'a> ImageBuilder<'a> {
    /// Panics if `reference` is not a valid reference.
    pub(super) fn new(content: &'a Content, reference: &str) -> Self {
        let builder = Self {
            content,
            seed: reference.to_owned(),
            reference: reference.parse().expect("the test names an image"),
            platforms: Vec::new(),
            format: Format::Oci,
            shape: Shape::Index,
            attestations: Attestations::None,
            layers: 2,
            layer_size: 32 << 10,
            base: None,
        };
        builder.platforms(["linux/amd64", "linux/arm64"])
    }

    /// Sets the platforms, in this order.
    /// Panics without a platform, or if one of them is not a platform.
    pub fn platforms<'p>(mut self, platforms: impl IntoIterator<Item = &'p str>) -> Self {
        let parse = |text: &str| text.parse().expect("the test names a platform");
        self.platforms = platforms.into_iter().map(parse).collect();
        assert!(!self.platforms.is_empty(), "an image is for some platform");
        self
    }

    /// Uses Docker's media types.
    pub fn docker(mut self) -> Self {
        self.format = Format::Docker;
        self
    }

    /// Adds BuildKit's attestations.
    pub fn attestations(mut self) -> Self {
        self.attestations = Attestations::BuildKit;
        self
    }

    /// Uses the first platform's manifest without an index.
    pub fn single(mut self) -> Self {
        self.shape = Shape::Single;
        self
    }

    /// Puts all platforms but the first into an index inside the index.
    pub fn nested(mut self) -> Self {
        self.shape = Shape::Nested;
        self
    }

    /// Sets the number of layers per platform.
    pub fn layers(mut self, layers: usize) -> Self {
        self.layers = layers;
        self
    }

    /// Sets the size in bytes of the file in each layer.
    pub fn layer_size(mut self, bytes: usize) -> Self {
        self.layer_size = bytes;
        self
    }

    /// Adds a bottom layer that all images and platforms with this base share.
    pub fn base(mut self, name: &str) -> Self {
        self.base = Some(name.to_owned());
        self
    }

    /// Sets the seed; default: the image's name. Images with the same seed share their layers.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = format!("seed-{seed}");
        self
    }

    /// Adds the image to the registry, and returns its root digest.
    pub fn push(self) -> Digest {
        let Reference { host, repository, tag, .. } = &self.reference;
        let recipe = self.recipe();
        let tag = tag.as_ref().map(|tag| tag.as_str());
        self.content.put_image(host.as_str(), repository.as_str(), tag, &recipe)
    }

    fn recipe(&self) -> Recipe {
        let images = self.platforms.iter().map(|platform| {
            let base = self.base.as_ref().map(|base| self.layer(format!("base/{base}")));
            let own = (0..self.layers)
                .map(|number| self.layer(format!("{}/{platform}/{number}", self.seed)));
            PlatformImage {
                platform: platform.clone(),
                layers: base.into_iter().chain(own).collect(),
            }
        });
        Recipe {
            name: self.seed.clone(),
            format: self.format,
            shape: self.shape,
            attestations: self.attestations,
            created: "2025-06-01T00:00:00Z".to_owned(),
            images: images.collect(),
        }
    }

    fn layer(&self, seed: String) -> Layer {
        Layer { seed: seed.into(), size: self.layer_size }
    }
}
