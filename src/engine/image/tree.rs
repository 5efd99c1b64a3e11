//! Builds the tree that a destination must hold: reads, filters, flattens and annotates.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::{
    engine::{
        options::SourceEndpoint,
        state::source::{Reader, SourceRegistry},
    },
    model::{
        Descriptor, Digest, Error, Filter, Image, Kind, Result, Shape,
        filter::{self, Filtered},
    },
    remote::{
        HostContext, Source,
        index_walk::{self, ImageReader, Tree},
    },
};

/// Reads the image `source` and applies the filter. Omits the attestations in `unserved`.
///
/// # Errors
/// Those of [`index_walk::filter_image`]; [`Kind::Unsupported`] if `flatten` finds several images.
pub(crate) async fn build<S: Source>(
    reader: &Reader<S>,
    source: &Digest,
    filter: &Filter,
    unserved: &BTreeSet<Digest>,
) -> Result<Tree> {
    let raw = reader.manifest(source).await?;
    let mut tree = index_walk::filter_image(reader, raw, filter, unserved)
        .await
        .map_err(|error| reader.named(error))?;
    if filter.shape == Shape::Flat && tree.root.manifest.media_type().is_index() {
        let image = only_image(&tree.images)?;
        let manifest = reader.manifest(&image.digest).await?;
        image.check_length(&manifest).map_err(|error| reader.named(error))?;
        let root = Filtered { manifest, ..tree.root };
        return Ok(Tree { root, nested: vec![], images: vec![], ..tree });
    }
    tree.root = filter::annotated(tree.root, source, filter)?;
    Ok(tree)
}

/// The digest under which the filter pushes the image `source`.
///
/// # Errors
/// Those of [`build`].
pub(crate) async fn pushed_digest<S: Source>(
    endpoint: SourceEndpoint<S>,
    image: &Image,
    source: &Digest,
    context: Arc<HostContext>,
) -> Result<Digest> {
    let registry = Arc::new(SourceRegistry::new(image.origin.location.clone(), endpoint, context));
    let queue = Arc::new(registry.budget.queue(0));
    let reader = Reader::new(registry, image.origin.repository.clone(), queue);
    let tree = build(&reader, source, &image.filter, &BTreeSet::new()).await?;
    Ok(tree.root.manifest.digest().clone())
}

fn only_image(images: &[Descriptor]) -> Result<&Descriptor> {
    let images: Vec<&Descriptor> = images.iter().filter(|it| it.attests().is_none()).collect();
    match images[..] {
        [image] => Ok(image),
        _ => Err(Error::new(
            Kind::Unsupported,
            format!("{} images match the platform; `flatten` needs exactly one", images.len()),
        )
        .hint(
            "add the variant or the version to the platform, for example `linux/arm/v7` or \
             `windows(10.0.20348)/amd64`",
        )),
    }
}
