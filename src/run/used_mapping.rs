//! The mapping of the images that files use, for the forms that make a build use the mirror.
//!
//! It has an image only if the destination has it after the run, at the digest of the report.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    image_mapping::{one_destination, plain_http},
    lock_file::LockFile,
    used_images::UsedImages,
};
use crate::{
    config::{Config, Entry, Tags},
    discover::{
        FoundUses, Resolution,
        forms::{ImageMapping, ImageUse, MappedImage, MappingBasis, MissingImage},
    },
    model::{
        DestinationId, Digest, Platforms, Reference, Repository, Result, TagOrDigest,
        outcome::{Outcome, Report, Row},
    },
};

/// The images of the uses with their entries, for the destination of a name or for their only one.
pub(crate) struct UsedMapping<'a> {
    used: &'a UsedImages,
    destination: Option<DestinationId>,
    images: Vec<ImageUses>,
    bake_targets: BTreeSet<String>,
}

/// An image and the places that use it.
struct ImageUses {
    source: Reference,
    /// The index of its entry.
    entry: Option<usize>,
    uses: Vec<ImageUse>,
}

impl<'a> UsedMapping<'a> {
    /// # Errors
    /// Those of [`one_destination`].
    pub(crate) fn new(used: &'a UsedImages, found: &FoundUses, name: Option<&str>) -> Result<Self> {
        let targets = used.entries.iter().flat_map(|entry| {
            let mirrored = entry.mirrored.iter().map(|target| target.destination);
            mirrored.chain(entry.cached.iter().map(|target| target.destination))
        });
        let destination = one_destination(&used.config, targets.collect(), name)?;
        let mut images = Vec::<ImageUses>::new();
        let mut indexes: BTreeMap<String, usize> = BTreeMap::new();
        for one in &found.uses {
            let Resolution::Image(source) = &one.image else { continue };
            let index = *indexes.entry(source.to_string()).or_insert_with(|| {
                let entry = entry_of(source, &used.entries);
                images.push(ImageUses { source: source.clone(), entry, uses: Vec::new() });
                images.len() - 1
            });
            images[index].uses.push(one.place.clone());
        }
        let bake_targets = found.bake_targets.iter().cloned().collect();
        Ok(Self { used, destination, images, bake_targets })
    }

    /// The mapping before the run: every image counts as mirrored.
    pub(crate) fn before(&self) -> ImageMapping {
        self.mapping(|target| target.before())
    }

    /// The mapping of the images that the destination has after the run.
    pub(crate) fn after(&self, report: &Report, lock: &LockFile) -> ImageMapping {
        let mut rows: Vec<&Row> = report.images.iter().collect();
        self.mapping(|target| target.after(&mut rows, lock))
    }

    /// Maps each image to the `place` of its entry. An image that files name at the destination already
    /// has its own name.
    fn mapping(
        &self,
        mut place: impl FnMut(&EntryTarget<'_>) -> Option<Reference>,
    ) -> ImageMapping {
        let UsedImages { config, entries } = self.used;
        let target = |entry| EntryTarget::new(config, entry, self.destination?);
        let targets: Vec<Option<EntryTarget<'_>>> = entries.iter().map(target).collect();
        let places: Vec<Option<Reference>> =
            targets.iter().map(|target| place(target.as_ref()?)).collect();
        let (mut images, mut missing) = (Vec::new(), Vec::new());
        for ImageUses { source, entry, uses } in &self.images {
            let (source, uses) = (source.clone(), uses.clone());
            let target = entry.and_then(|index| targets[index].as_ref());
            let place = entry.and_then(|index| places[index].clone());
            let mapped = |destination, platforms, is_cached| MappedImage {
                source: source.clone(),
                destination,
                platforms,
                is_cached,
                uses: uses.clone(),
            };
            if self.used.is_at_destination(&source) {
                images.push(mapped(source.clone(), Platforms::All, false));
            } else if let (Some(target), Some(place)) = (target, place) {
                images.push(mapped(place, target.platforms(), target.is_cached));
            } else {
                missing.push(MissingImage { source, is_sent: target.is_some(), uses });
            }
        }
        ImageMapping {
            basis: MappingBasis::Uses,
            images,
            missing,
            plain_http: plain_http(config),
            bake_targets: self.bake_targets.clone(),
        }
    }
}

impl UsedImages {
    /// Returns `true` if the registry of the image is that of a destination.
    pub(crate) fn is_at_destination(&self, image: &Reference) -> bool {
        self.config.destinations.iter().any(|to| to.registry.host() == Some(&image.host))
    }
}

/// The index of the entry of a reference: of several with its digest, the one with its tag.
fn entry_of(source: &Reference, entries: &[Entry]) -> Option<usize> {
    let is_of_source = |entry: &Entry| {
        (&entry.host, &entry.repository) == (&source.host, &source.repository)
            && match (&entry.tags, &source.digest) {
                (Tags::Exact(tags), None) => source.tag.iter().all(|tag| tags.contains(tag)),
                (Tags::Pinned { digest, .. }, Some(pin)) => digest == pin,
                _ => false,
            }
    };
    let has_tag = |entry: &Entry| match &entry.tags {
        Tags::Pinned { tag, .. } => Some(tag) == source.tag.as_ref(),
        Tags::Exact(_) | Tags::Selected(_) => true,
    };
    let mut all = entries.iter().enumerate().filter(|(_, entry)| is_of_source(entry));
    all.clone().find(|(_, entry)| has_tag(entry)).or_else(|| all.next()).map(|(index, _)| index)
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

    fn platforms(&self) -> Platforms {
        match self.is_cached {
            true => Platforms::All,
            false => self.entry.filter.platforms.clone(),
        }
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
