//! Reads an image through nested indexes and applies the platform filter: once, for mirroring and
//! for warming.
//!
//! Reads an index entry only if its descriptor does not tell the filter enough. [`Nesting`] limits
//! the depth, the entries and the bytes of an image's indexes.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use futures::{FutureExt, StreamExt, TryStreamExt, future::BoxFuture, stream};

use super::Reply;
use crate::model::{
    Descriptor, Digest, Error, Filter, ForeignLayers, Kind, Manifest, Platform, Platforms,
    RawManifest, Result,
    content::{ImageManifest, Index},
    filter::{self, EntryContent, Filtered},
    nesting::Nesting,
};

/// Reads the manifests and configurations of one repository.
pub(crate) trait ImageReader: Sync {
    /// The manifest of this digest.
    fn manifest(&self, digest: &Digest) -> impl Reply<RawManifest>;

    /// The platform in the configuration; `None` if it is not an image's configuration, or does not
    /// name the platform.
    fn platform(&self, config: &Descriptor) -> impl Reply<Option<Platform>>;
}

/// An image after the filter.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    /// The index, or the image itself.
    pub(crate) root: Filtered,
    /// The indexes between root and images, innermost first.
    pub(crate) nested: Vec<RawManifest>,
    /// The manifests below the root that are not indexes, in its order; empty if the root is an
    /// image.
    pub(crate) images: Vec<Descriptor>,
    pub(crate) foreign_layers: ForeignLayers,
    /// Name what the image lacks, if that is not an error.
    pub(crate) warnings: Vec<String>,
}

/// The largest sum of an image's manifests, in bytes: real ones have some KiB.
const MANIFEST_BYTES: usize = 32 << 20;

/// Attestations that the source lists and does not serve.
#[derive(Debug)]
pub(crate) struct Unserved {
    /// At least one.
    pub(crate) attestations: Vec<Digest>,
    /// The source's answer.
    error: Error,
}

impl Unserved {
    /// The error for an image that must keep them.
    pub(crate) fn into_error(self) -> Error {
        let attestation = &self.attestations[0];
        let problem = format!("the source does not serve attestation {attestation} of the index");
        self.error
            .context(problem)
            .hint("set `attestations = \"drop\"` to mirror the image without its attestations")
    }
}

/// Reads the manifests of these entries of a tree, each once and in any order, `concurrent` at the
/// same time.
///
/// # Errors
/// The reader's; [`Kind::Unsupported`] if they are too large together. The inner error names the
/// attestations that the source does not serve.
pub(crate) async fn read_images<R: ImageReader>(
    reader: &R,
    entries: &[&Descriptor],
    concurrent: usize,
) -> Result<Result<Vec<RawManifest>, Unserved>> {
    let mut by_digest: HashMap<&Digest, Vec<&Descriptor>> = HashMap::new();
    for entry in entries {
        by_digest.entry(&entry.digest).or_default().push(entry);
    }
    let bytes = &AtomicUsize::new(0);
    let mut reads: Vec<BoxFuture<'_, Result<_>>> = Vec::new();
    for (digest, entries) in by_digest {
        let read = async move {
            let attests = entries.iter().any(|entry| entry.attests().is_some());
            let manifest = match reader.manifest(digest).await {
                Err(error) if attests && error.kind() == Kind::NotFound => {
                    return Ok(Err((digest.clone(), error)));
                }
                manifest => manifest?,
            };
            entries.iter().try_for_each(|entry| entry.check_length(&manifest))?;
            let size = manifest.bytes().len();
            match bytes.fetch_add(size, Relaxed) + size > MANIFEST_BYTES {
                true => Err(too_large(MANIFEST_BYTES as u64, "manifests")),
                false => Ok(Ok(manifest)),
            }
        };
        reads.push(read.boxed());
    }
    let read: Vec<_> = stream::iter(reads).buffer_unordered(concurrent).try_collect().await?;
    let (mut manifests, mut attestations, mut answer) = (Vec::new(), Vec::new(), None);
    for read in read {
        match read {
            Ok(manifest) => manifests.push(manifest),
            Err((attestation, error)) => {
                attestations.push(attestation);
                answer.get_or_insert(error);
            }
        }
    }
    Ok(match answer {
        Some(error) => Err(Unserved { attestations, error }),
        None => Ok(manifests),
    })
}

/// The error for an image whose parts are larger than any real one's.
pub(crate) fn too_large(limit: u64, content: &str) -> Error {
    let problem = format!("the image's {content} have more than {limit} B in total");
    Error::new(Kind::Unsupported, problem)
}

/// Filters the image that `root` starts. Omits the attestations in `unserved`.
///
/// # Errors
/// The reader's; [`Kind::PlatformMissing`](crate::model::Kind) if a requested platform is missing
/// and the filter makes that an error; [`Kind::Unsupported`](crate::model::Kind) beyond the limits
/// of [`Nesting`].
pub(crate) async fn filter_image<R: ImageReader>(
    reader: &R,
    root: RawManifest,
    filter: &Filter,
    unserved: &BTreeSet<Digest>,
) -> Result<Tree> {
    match root.read()? {
        Manifest::Image(image) => filter_single(reader, root, &image, filter).await,
        Manifest::Index(index) => {
            let (nesting, platforms) = Default::default();
            let mut walk = Walk { reader, filter, unserved, nesting, platforms };
            let mut tree = walk.filter_index(&root, &index, 0).await?;
            let Filtered { platforms, available, .. } = &tree.root;
            tree.warnings.extend(filter::check_platforms(filter, platforms, available)?);
            tree.warnings.extend(unserved.first().map(|first| {
                let others = match unserved.len() - 1 {
                    0 => String::new(),
                    others => format!(" and {others} more"),
                };
                format!("omitted attestation {first}{others}, which the source does not serve")
            }));
            Ok(tree)
        }
    }
}

/// Filters a root that is one image. Its configuration names the platform.
async fn filter_single<R: ImageReader>(
    reader: &R,
    root: RawManifest,
    image: &ImageManifest,
    filter: &Filter,
) -> Result<Tree> {
    let platform = match filter.platforms {
        Platforms::All => None,
        Platforms::Only(_) => reader.platform(&image.config).await?,
    };
    let available = Vec::from_iter(platform);
    let mut platforms = available.clone();
    platforms.retain(|platform| filter.platforms.matches(platform));
    let warning = match (available.is_empty(), filter.platforms != Platforms::All) {
        (false, _) => filter::check_platforms(filter, &platforms, &available)?,
        (true, true) if image.config.is_image_config() => {
            Some(filter::check_unknown_platform(filter)?)
        }
        // artifacts have no platform, and no filter applies to them
        (true, _) => None,
    };
    let root = Filtered { manifest: root, kept: vec![], platforms, available };
    Ok(Tree { warnings: Vec::from_iter(warning), ..Tree::of(root, filter) })
}

impl Tree {
    /// A tree of this root only.
    fn of(root: Filtered, filter: &Filter) -> Self {
        let (nested, images, warnings) = Default::default();
        Self { root, nested, images, foreign_layers: filter.foreign_layers, warnings }
    }
}

struct Walk<'a, R> {
    reader: &'a R,
    filter: &'a Filter,
    unserved: &'a BTreeSet<Digest>,
    nesting: Nesting,
    /// The platforms of the images read so far.
    platforms: HashMap<Digest, Option<Platform>>,
}

impl<R: ImageReader> Walk<'_, R> {
    fn filter_index<'b>(
        &'b mut self,
        raw: &'b RawManifest,
        index: &'b Index,
        depth: usize,
    ) -> BoxFuture<'b, Result<Tree>> {
        async move {
            self.nesting.enter(raw, index, depth)?;
            let mut contents = HashMap::new();
            let mut subtrees: HashMap<Digest, Tree> = HashMap::new();
            for entry in &index.manifests {
                if self.unserved.contains(&entry.digest) {
                    contents.insert(entry.digest.clone(), EntryContent::Unserved);
                }
                if contents.contains_key(&entry.digest) || !self.must_read(entry) {
                    continue;
                }
                let content = match self.platforms.get(&entry.digest) {
                    Some(platform) => platform.clone().map(EntryContent::Image),
                    None => self.read_entry(entry, depth, &mut subtrees).await?,
                };
                contents.extend(content.map(|content| (entry.digest.clone(), content)));
            }
            let root = filter::filter(raw, index, self.filter, &contents)?;
            let (mut nested, mut images) = (Vec::new(), Vec::new());
            let mut added = HashSet::new();
            for entry in &root.kept {
                match subtrees.remove(&entry.digest) {
                    Some(subtree) => {
                        added.insert(&entry.digest);
                        images.extend(subtree.images);
                        nested.extend(subtree.nested);
                        nested.push(subtree.root.manifest);
                    }
                    // an index can list another index more than once
                    None if added.contains(&entry.digest) => {}
                    None => images.push(entry.clone()),
                }
            }
            Ok(Tree { nested, images, ..Tree::of(root, self.filter) })
        }
        .boxed()
    }

    /// Returns `true` if the filter needs more than the descriptor.
    fn must_read(&self, entry: &Descriptor) -> bool {
        let has_platform = entry.platform.is_some() || entry.attests().is_some();
        entry.is_index() || (self.filter.platforms != Platforms::All && !has_platform)
    }

    async fn read_entry(
        &mut self,
        entry: &Descriptor,
        depth: usize,
        subtrees: &mut HashMap<Digest, Tree>,
    ) -> Result<Option<EntryContent>> {
        let raw = self.reader.manifest(&entry.digest).await?;
        entry.check_length(&raw)?;
        match raw.read()? {
            Manifest::Index(index) => {
                let subtree = self.filter_index(&raw, &index, depth + 1).await?;
                let content = EntryContent::Index(subtree.root.clone());
                subtrees.insert(subtree.root.manifest.digest().clone(), subtree);
                Ok(Some(content))
            }
            Manifest::Image(image) => {
                let platform = self.reader.platform(&image.config).await?;
                self.platforms.insert(entry.digest.clone(), platform.clone());
                Ok(platform.map(EntryContent::Image))
            }
        }
    }
}

#[cfg(test)]
mod tests;
