//! The image as it is to stand at the destination: read, filtered, flattened.

use std::collections::{HashMap, HashSet};

use futures::{FutureExt, future::BoxFuture};

use crate::{
    engine::state::source::Reader,
    model::{
        Descriptor, Digest, Error, Filter, Kind, Manifest, Platform, Platforms, RawManifest,
        Result, Shape,
        content::{ImageManifest, Index},
        filter::{self, EntryContent, Filtered},
        nesting::Nesting,
    },
    remote::Source,
};

/// An image's manifests, as the destination is to hold them.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    /// What the tag is to point to.
    pub(crate) root: RawManifest,
    /// The indexes between root and images, innermost first.
    pub(crate) nested: Vec<RawManifest>,
    /// The image manifests below the root, in its order; empty where the root is an image itself.
    pub(crate) images: Vec<Descriptor>,
    /// The platforms it is for, as far as they are told.
    pub(crate) platforms: Vec<Platform>,
    /// What to tell about wanted platforms that it has not.
    pub(crate) warning: Option<String>,
}

/// An index after the filter, with everything below it.
struct FilteredTree {
    filtered: Filtered,
    nested: Vec<RawManifest>,
    leaves: Vec<Descriptor>,
}

/// Reads the image of that digest and makes of it what is wanted.
///
/// # Errors
/// Those of reading; [`Kind::PlatformMissing`] when a wanted platform is not
/// there and that is a failure; [`Kind::Unsupported`] for what cannot be
/// flattened or is nested too deep.
pub(crate) async fn build<S: Source>(
    reader: &Reader<S>,
    digest: &Digest,
    want: &Filter,
) -> Result<Tree> {
    let raw = reader.manifest(digest).await?;
    match raw.read()? {
        Manifest::Image(image) => image_tree(reader, raw, &image, want).await,
        Manifest::Index(index) => {
            let walk = Walk { depth: 0, nesting: &mut Nesting::default() };
            let shaped = filter_index(reader, (&raw, &index), want, walk).await?;
            index_tree(reader, digest, shaped, want).await
        }
    }
}

/// A source that is one image: the filter asks its configuration.
async fn image_tree<S: Source>(
    reader: &Reader<S>,
    root: RawManifest,
    image: &ImageManifest,
    want: &Filter,
) -> Result<Tree> {
    let platform = match want.platforms {
        Platforms::All => None,
        Platforms::Only(_) => reader.platform(&image.config).await?,
    };
    let mut tree = Tree { root, nested: vec![], images: vec![], platforms: vec![], warning: None };
    if let Some(platform) = platform {
        let available = [platform];
        let kept = if want.platforms.matches(&available[0]) { &available[..] } else { &[] };
        tree.warning = filter::check_platforms(want, kept, &available)?;
        tree.platforms = kept.to_vec();
    }
    Ok(tree)
}

/// A source that is an index.
async fn index_tree<S: Source>(
    reader: &Reader<S>,
    source: &Digest,
    shaped: FilteredTree,
    want: &Filter,
) -> Result<Tree> {
    let FilteredTree { filtered, nested, leaves } = shaped;
    let warning = filter::check_platforms(want, &filtered.platforms, &filtered.available)?;
    if want.shape == Shape::Flat {
        let image = only_image(&leaves)?;
        let root = reader.manifest(&image.digest).await?;
        let platforms = filtered.platforms;
        return Ok(Tree { root, nested: vec![], images: vec![], platforms, warning });
    }
    let filtered = filter::annotated(filtered, source, want)?;
    Ok(Tree {
        root: filtered.manifest,
        nested,
        images: leaves,
        platforms: filtered.platforms,
        warning,
    })
}

fn only_image(leaves: &[Descriptor]) -> Result<&Descriptor> {
    let images: Vec<&Descriptor> = leaves.iter().filter(|leaf| leaf.attests().is_none()).collect();
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

/// Where the walk through nested indexes is.
struct Walk<'a> {
    depth: usize,
    nesting: &'a mut Nesting,
}

fn filter_index<'a, S: Source>(
    reader: &'a Reader<S>,
    (raw, index): (&'a RawManifest, &'a Index),
    want: &'a Filter,
    Walk { depth, nesting }: Walk<'a>,
) -> BoxFuture<'a, Result<FilteredTree>> {
    async move {
        nesting.enter(raw, index, depth)?;
        let mut known = HashMap::new();
        let mut inner: HashMap<Digest, FilteredTree> = HashMap::new();
        for entry in &index.manifests {
            if known.contains_key(&entry.digest) {
                continue;
            }
            match read_entry(reader, entry, want, Walk { depth, nesting }).await? {
                Some(EntryRead::Index(shaped)) => {
                    known
                        .insert(entry.digest.clone(), EntryContent::Index(shaped.filtered.clone()));
                    inner.insert(shaped.filtered.manifest.digest().clone(), shaped);
                }
                Some(EntryRead::Image(platform)) => {
                    known.insert(entry.digest.clone(), EntryContent::Image(platform));
                }
                None => {}
            }
        }
        let filtered = filter::filter(raw, index, want, &known)?;
        let (mut nested, mut leaves) = (Vec::new(), Vec::new());
        let mut entered = HashSet::new();
        for entry in &filtered.kept {
            match inner.remove(&entry.digest) {
                Some(shaped) => {
                    entered.insert(&entry.digest);
                    leaves.extend(shaped.leaves);
                    nested.extend(shaped.nested);
                    nested.push(shaped.filtered.manifest);
                }
                // an index may be listed more than once
                None if entered.contains(&entry.digest) => {}
                None => leaves.push(entry.clone()),
            }
        }
        Ok(FilteredTree { filtered, nested, leaves })
    }
    .boxed()
}

/// What an entry is that its descriptor does not tell enough about.
enum EntryRead {
    Index(FilteredTree),
    Image(Platform),
}

async fn read_entry<S: Source>(
    reader: &Reader<S>,
    entry: &Descriptor,
    want: &Filter,
    walk: Walk<'_>,
) -> Result<Option<EntryRead>> {
    let untold =
        entry.platform.is_none() && entry.attests().is_none() && want.platforms != Platforms::All;
    if !entry.is_index() && !untold {
        return Ok(None);
    }
    let raw = reader.manifest(&entry.digest).await?;
    Ok(match raw.read()? {
        Manifest::Index(index) => {
            let walk = Walk { depth: walk.depth + 1, ..walk };
            Some(EntryRead::Index(filter_index(reader, (&raw, &index), want, walk).await?))
        }
        Manifest::Image(image) => reader.platform(&image.config).await?.map(EntryRead::Image),
    })
}
