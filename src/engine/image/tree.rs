//! Builds the tree that the destination must hold: reads, filters, flattens and annotates.

use crate::{
    engine::state::source::Reader,
    model::{
        Descriptor, Digest, Error, Filter, Kind, Platform, RawManifest, Result, Shape, filter,
    },
    remote::{
        Source,
        index_walk::{self, FilteredTree, ImageReader},
    },
};

/// The manifests of an image, as the destination must hold them.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    pub(crate) root: RawManifest,
    /// The indexes between root and images, innermost first.
    pub(crate) nested: Vec<RawManifest>,
    /// The image manifests below the root, in its order; empty if the root is an image.
    pub(crate) images: Vec<Descriptor>,
    /// As far as the manifests tell them.
    pub(crate) platforms: Vec<Platform>,
    /// Names the requested platforms that the image lacks.
    pub(crate) warning: Option<String>,
}

/// Reads the image `source` and applies the filter.
///
/// # Errors
/// Those of [`index_walk::filter_image`]; [`Kind::Unsupported`] if `flatten` finds several images.
pub(crate) async fn build<S: Source>(
    reader: &Reader<S>,
    source: &Digest,
    filter: &Filter,
) -> Result<Tree> {
    let raw = reader.manifest(source).await?;
    let FilteredTree { root, nested, images, warning } =
        index_walk::filter_image(reader, raw, filter).await?;
    let platforms = root.platforms.clone();
    if filter.shape == Shape::Flat && root.manifest.media_type().is_index() {
        let root = reader.manifest(&only_image(&images)?.digest).await?;
        return Ok(Tree { root, nested: vec![], images: vec![], platforms, warning });
    }
    let root = filter::annotated(root, source, filter)?.manifest;
    Ok(Tree { root, nested, images, platforms, warning })
}

fn only_image(images: &[Descriptor]) -> Result<&Descriptor> {
    let images: Vec<&Descriptor> = images.iter().filter(|it| it.attests().is_none()).collect();
    match images[..] {
        [image] => Ok(image),
        _ => Err(Error::new(
            Kind::Unsupported,
            format!(
                "{} images answer to the one platform, `flatten` needs exactly one",
                images.len()
            ),
        )
        .hint("name the variant too, like `linux/arm/v7`")),
    }
}
