//! The mapping of the images that files use, for the forms that make a build use the mirror.
//!
//! It has an image only if the destination has it after the run, at the digest of the report.

use std::collections::BTreeMap;

use super::{
    image_mapping::{one_destination, plain_http},
    lock_file::LockFile,
    used_images::UsedImages,
};
use crate::{
    config::{Config, Entry, Tags},
    discover::{
        FoundUses, Resolution,
        forms::{ImageMapping, MappedImage, MappingBasis, MissingImage},
    },
    model::{
        DestinationId, Digest, Platforms, Reference, Repository, Result, TagOrDigest,
        outcome::{Outcome, Report, Row},
    },
};

/// Maps the images of the uses to the destination of this name, or to their only one. Before the run,
/// which is then `None`, every image counts as mirrored. An image that files name at the destination
/// already has its own name.
///
/// # Errors
/// Those of [`one_destination`].
pub(crate) fn used_mapping(
    used: &UsedImages,
    found: &FoundUses,
    name: Option<&str>,
    run: Option<&(Report, LockFile)>,
) -> Result<ImageMapping> {
    let config = &used.config;
    let targets = used.entries.iter().flat_map(|entry| {
        let mirrored = entry.mirrored.iter().map(|target| target.destination);
        mirrored.chain(entry.cached.iter().map(|target| target.destination))
    });
    let destination = one_destination(config, targets.collect(), name)?;
    let mut run = run.map(|(report, lock)| (report.images.iter().collect::<Vec<&Row>>(), lock));
    let mut places = Vec::new();
    for entry in &used.entries {
        let target = destination.and_then(|id| EntryTarget::new(config, entry, id));
        let place = target.and_then(|target| match &mut run {
            Some((rows, lock)) => target.after(rows, lock),
            None => target.before(),
        });
        places.push((entry, place));
    }
    let (mut images, mut missing) = (Vec::<MappedImage>::new(), Vec::new());
    // `Err` has the index of a missing image
    let mut indexes: BTreeMap<String, std::result::Result<usize, usize>> = BTreeMap::new();
    for one in &found.uses {
        let Resolution::Image(source) = &one.image else { continue };
        let index = indexes.entry(source.to_string()).or_insert_with(|| {
            let found = entry_of(source, &places);
            let image = match used.is_at_destination(source) {
                true => Some(mapped(source, source.clone(), None)),
                false => found.and_then(|(entry, place)| {
                    Some(mapped(source, place.clone()?, Some((entry, destination?))))
                }),
            };
            if let Some(image) = image {
                images.push(image);
                return Ok(images.len() - 1);
            }
            let is_sent = found
                .is_some_and(|(entry, _)| entry.targets().any(|(id, _)| Some(id) == destination));
            missing.push(MissingImage { source: source.clone(), is_sent, uses: Vec::new() });
            Err(missing.len() - 1)
        });
        let uses = match *index {
            Ok(at) => &mut images[at].uses,
            Err(at) => &mut missing[at].uses,
        };
        uses.push(one.place.clone());
    }
    Ok(ImageMapping {
        basis: MappingBasis::Uses,
        images,
        missing,
        plain_http: plain_http(config),
        bake_targets: found.bake_targets.iter().cloned().collect(),
    })
}

impl UsedImages {
    /// Returns `true` if the registry of the image is that of a destination.
    pub(crate) fn is_at_destination(&self, image: &Reference) -> bool {
        self.config.destinations.iter().any(|to| to.registry.host() == Some(&image.host))
    }
}

/// An image without uses. One at the destination has no entry.
fn mapped(
    source: &Reference,
    destination: Reference,
    entry: Option<(&Entry, DestinationId)>,
) -> MappedImage {
    let is_cached =
        entry.is_some_and(|(entry, id)| entry.cached.iter().any(|target| target.destination == id));
    let mirrored = entry.filter(|_| !is_cached);
    let platforms = mirrored.map_or(Platforms::All, |(entry, _)| entry.filter.platforms.clone());
    MappedImage { source: source.clone(), destination, platforms, is_cached, uses: Vec::new() }
}

/// The entry of a reference: of several with its digest, the one with its tag.
fn entry_of<'p, 'e>(
    source: &Reference,
    places: &'p [(&'e Entry, Option<Reference>)],
) -> Option<&'p (&'e Entry, Option<Reference>)> {
    let is_entry = |(entry, _): &&(&Entry, Option<Reference>)| {
        (&entry.host, &entry.repository) == (&source.host, &source.repository)
            && match (&entry.tags, &source.digest) {
                (Tags::Exact(tags), None) => source.tag.iter().all(|tag| tags.contains(tag)),
                (Tags::Pinned { digest, .. }, Some(pin)) => digest == pin,
                _ => false,
            }
    };
    let has_tag = |(entry, _): &&(&Entry, Option<Reference>)| match &entry.tags {
        Tags::Pinned { tag, .. } => Some(tag) == source.tag.as_ref(),
        Tags::Exact(_) | Tags::Selected(_) => true,
    };
    let mut all = places.iter().filter(is_entry);
    all.clone().find(has_tag).or_else(|| all.next())
}

/// An entry with one tag, at one destination.
struct EntryTarget<'a> {
    config: &'a Config,
    entry: &'a Entry,
    destination: DestinationId,
    repository: &'a Repository,
    is_cached: bool,
}

impl<'a> EntryTarget<'a> {
    /// `None` if the entry does not go there.
    fn new(config: &'a Config, entry: &'a Entry, destination: DestinationId) -> Option<Self> {
        let mirrored = entry.mirrored.iter().find(|target| target.destination == destination);
        let cached = entry.cached.iter().find(|target| target.destination == destination);
        let repository = match (mirrored, cached) {
            (Some(target), _) => &target.repository,
            (None, Some(target)) => &target.repository,
            (None, None) => return None,
        };
        Some(Self { config, entry, destination, repository, is_cached: mirrored.is_none() })
    }

    /// The reference to pull, if the run mirrored the image. Removes its row from those of the run: of
    /// two images that would write one tag, the first was mirrored.
    fn after(&self, rows: &mut Vec<&Row>, lock: &LockFile) -> Option<Reference> {
        let at = self.at(lock.digest(self.entry))?;
        let registry = &self.config.destination(self.destination).registry;
        let reference = registry.reference(self.repository, &at);
        let row = rows.remove(rows.iter().position(|row| row.destination == reference)?);
        let is_there = match row.outcome {
            Outcome::Copied | Outcome::UpToDate | Outcome::Warmed | Outcome::Kept => true,
            Outcome::Planned
            | Outcome::Failed
            | Outcome::Drifted
            | Outcome::Deferred
            | Outcome::NotStarted
            | Outcome::Interrupted
            | Outcome::Archived => false,
        };
        is_there.then(|| self.reference(at, row.digest.clone()))
    }

    /// The reference to pull after a run without failures, as far as it is known.
    fn before(&self) -> Option<Reference> {
        let keeps = self.is_cached || self.entry.filter.keeps_digests();
        let digest = self.entry.pin().filter(|_| keeps).cloned();
        Some(self.reference(self.at(None)?, digest))
    }

    /// The tag, or the digest of a pinned image that is cached. `None` if `retag` needs a digest, and
    /// `digest` is `None`.
    fn at(&self, digest: Option<&Digest>) -> Option<TagOrDigest> {
        let tag = match &self.entry.tags {
            Tags::Pinned { digest, .. } if self.is_cached => {
                return Some(TagOrDigest::Digest(digest.clone()));
            }
            Tags::Pinned { tag, .. } => tag,
            Tags::Exact(tags) => tags.first()?,
            Tags::Selected(_) => return None,
        };
        let digest = self.entry.pin().or(digest);
        let tag =
            if self.is_cached { Ok(tag.clone()) } else { self.entry.retag.apply(tag, digest) };
        tag.ok().map(TagOrDigest::Tag)
    }

    fn reference(&self, at: TagOrDigest, known: Option<Digest>) -> Reference {
        let host = self.config.destination(self.destination).registry.host();
        let host = host.expect("`one_destination` accepts registries").clone();
        let (tag, digest) = match at {
            TagOrDigest::Tag(tag) => (Some(tag), known),
            TagOrDigest::Digest(digest) => (None, Some(digest)),
        };
        Reference { host, repository: self.repository.clone(), tag, digest }
    }
}
