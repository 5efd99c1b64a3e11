//! Foreign layers at a destination. A registry accepts an image without them, so the image's digest
//! does not show whether they are there.

use std::collections::{HashMap, HashSet};

use super::missing::MANIFESTS_AT_ONCE;
use crate::{
    engine::state::{repository::TargetRepository, source::Reader},
    model::{Descriptor, Digest, Manifest, RawManifest, Result, nesting::DEPTH},
    remote::{Destination, Source},
};

/// Returns `true` if the repository lacks a foreign layer of an image that it has.
pub(crate) async fn are_missing<S: Source, D: Destination>(
    repository: &TargetRepository<D>,
    reader: &Reader<S>,
    root: &Digest,
) -> Result<bool> {
    let (mut layers, mut seen) = (HashMap::new(), HashSet::new());
    let mut level = vec![root.clone()];
    // the root, its nested indexes, and their images
    for _ in 0..DEPTH + 2 {
        level.retain(|digest| seen.insert(digest.clone()));
        for digests in std::mem::take(&mut level).chunks(MANIFESTS_AT_ONCE) {
            for manifest in read(repository, reader, digests).await? {
                match manifest.read()? {
                    Manifest::Index(index) => {
                        let images = index.manifests.into_iter();
                        let images = images.filter(|entry| entry.attests().is_none());
                        level.extend(images.map(|image| image.digest));
                    }
                    Manifest::Image(image) => {
                        let foreign = image.foreign_layers();
                        layers.extend(foreign.map(|layer| (layer.digest.clone(), layer.clone())));
                    }
                }
            }
        }
    }
    let layers = Vec::from_iter(layers.into_values());
    let missing = repository.destination().missing_blobs(&repository.repository, &layers);
    Ok(!layers.is_empty() && !missing.await?.is_empty())
}

/// The images among `images` that the repository has, and that have foreign layers.
pub(crate) async fn images_with<S: Source, D: Destination>(
    repository: &TargetRepository<D>,
    reader: &Reader<S>,
    images: &[Digest],
) -> Result<Vec<Digest>> {
    let has_foreign_layers = |manifest: &RawManifest| {
        let Ok(Manifest::Image(image)) = manifest.read() else { return false };
        image.foreign_layers().next().is_some()
    };
    let mut found = Vec::new();
    for digests in images.chunks(MANIFESTS_AT_ONCE) {
        let manifests = read(repository, reader, digests).await?.into_iter();
        found.extend(manifests.filter(has_foreign_layers).map(|it| it.digest().clone()));
    }
    Ok(found)
}

/// The warning about the foreign layers of these images, which are not copied.
pub(crate) fn skipped<'a>(layers: impl Iterator<Item = &'a Descriptor>) -> Option<String> {
    let mut seen = HashSet::new();
    let sizes = layers.filter(|layer| seen.insert(&layer.digest)).map(|layer| layer.size);
    let bytes = sizes.fold(0, u64::saturating_add);
    let layers = match seen.len() {
        0 => return None,
        1 => "1 foreign layer".to_owned(),
        count => format!("{count} foreign layers"),
    };
    Some(format!(
        "skipped {layers} ({bytes} B), which clients fetch from other hosts: set \
         `foreign_layers = \"copy\"` to mirror them"
    ))
}

/// Reads manifests at the destination, and caches them for the reader: they cost no pull.
async fn read<S: Source, D: Destination>(
    repository: &TargetRepository<D>,
    reader: &Reader<S>,
    digests: &[Digest],
) -> Result<Vec<RawManifest>> {
    let found = repository.destination().manifests(&repository.repository, digests).await?;
    let manifests = Vec::from_iter(found.into_values());
    manifests.iter().for_each(|manifest| reader.remember(manifest));
    Ok(manifests)
}
