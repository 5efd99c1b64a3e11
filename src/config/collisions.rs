//! Detects tables that use one name, registry or tag twice.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use super::{
    context::{FileContext, ReadDestination, ReadEntry, Tables, registry_identity},
    images::OnConflict,
    problem::{Problem, Span},
    types::Config,
};
use crate::model::{DestinationId, Image, Location, Repository, Tag, TagOrDigest, Target};

/// Rejects two destinations with one name, or with one registry and prefix.
pub(super) fn between_destinations(
    destinations: &[ReadDestination],
    file: &FileContext<'_>,
) -> Result<(), Problem> {
    let mut names: HashMap<&str, &Span> = HashMap::new();
    let mut registries: HashMap<(String, Option<&Repository>), &Span> = HashMap::new();
    for read in destinations {
        let destination = &read.destination;
        let key = (registry_identity(&destination.registry), destination.prefix.as_ref());
        if let Some(first) = registries.insert(key, &read.registry) {
            let line = file.line_of(first);
            let label = format!("the same registry and prefix as the destination in line {line}");
            return Err(Problem::at(&read.registry, label)
                .hint("remove one of the two, or give it another `prefix`"));
        }
        if let Some(first) = names.insert(&destination.name, &read.name) {
            let line = file.line_of(first);
            let label = format!("duplicate name: the destination in line {line} has it too");
            let hint = "give each destination a unique `name`";
            return Err(Problem::at(&read.name, label).hint(hint));
        }
    }
    Ok(())
}

/// Rejects images that write one tag of one repository, or that are their own source. Warns where the
/// first one wins, and of repositories that two sources fill.
pub(super) fn between_images(entries: &[ReadEntry], tables: &Tables<'_>) -> Vec<Problem> {
    let mut images = Vec::new();
    let mut places = Vec::new();
    for read in entries {
        // `between_listed` checks the images that are listed later
        let own = read.entry.images().unwrap_or_default();
        images.extend(own.into_iter().map(|image| (image, read.entry.on_conflict)));
        places.extend(read.tags.iter().map(|tag| (&read.source, tag)));
        // only cached
        places.truncate(images.len());
    }
    let images: Vec<_> = images.iter().map(|(image, policy)| (image, *policy)).collect();
    let overlaps = overlaps(|id| tables.location(id), &images);
    let mut problems = Vec::new();
    for index in overlaps.own_sources {
        let hint = "write another `repository`, or set `destinations`";
        problems.push(Problem::at(places[index].0, ONTO_ITSELF).hint(hint));
    }
    for overlap in overlaps.conflicts {
        let line = tables.file.line_of(places[overlap.first].1);
        let label = format!("writes the same tag of the same repository as the tag in line {line}");
        let hint =
            "give one of them another `repository` or `retag`, or write `on_conflict = \"first\"`";
        problems.push(Problem::at(places[overlap.later].1, label).hint(hint));
    }
    for overlap in overlaps.yielded {
        let line = tables.file.line_of(places[overlap.first].1);
        let label = format!("not mirrored: the tag in line {line} writes the same tag");
        let hint = "remove it, or give one of them another `repository` or `retag`";
        tables.file.warn(Problem::at(places[overlap.later].1, label).hint(hint));
    }
    problems.dedup();
    if problems.is_empty() {
        shared_repositories(entries, tables).into_iter().for_each(|it| tables.file.warn(it));
    }
    problems
}

/// Warns of repositories that two sources fill: one of them can add a tag of the other.
fn shared_repositories(entries: &[ReadEntry], tables: &Tables<'_>) -> Vec<Problem> {
    let registries = RegistryIds::new(|id| tables.location(id));
    let mut filled: HashMap<(usize, &Repository), &ReadEntry> = HashMap::new();
    let mut problems = Vec::new();
    for read in entries {
        let source = (&read.entry.host, &read.entry.repository);
        for target in &read.entry.mirrored {
            let key = (registries.id(target.destination), &target.repository);
            let first = *filled.entry(key).or_insert(read);
            if (&first.entry.host, &first.entry.repository) != source {
                let line = tables.file.line_of(&first.source);
                let label = format!("fills the same repository as the source in line {line}");
                let hint =
                    "write another `repository` for one of them, so that their tags stay apart";
                problems.push(Problem::at(&read.source, label).hint(hint));
            }
        }
    }
    problems
}

const ONTO_ITSELF: &str = "would be mirrored onto itself";

/// Two images that write one tag, by their indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overlap {
    pub first: usize,
    pub later: usize,
    /// The index of the target of the later one.
    pub target: usize,
}

/// The images that write a tag which another image writes, too.
#[derive(Debug, Default)]
pub struct Overlaps {
    /// The same image of the same source: mirrored once.
    pub repeated: Vec<Overlap>,
    /// The first one is mirrored.
    pub yielded: Vec<Overlap>,
    /// None of the two can be mirrored.
    pub conflicts: Vec<Overlap>,
    /// Images that are their own source.
    pub own_sources: Vec<usize>,
}

/// The overlaps of images whose tags are known, after some of them were listed.
pub fn between_listed(config: &Config, images: &[(&Image, OnConflict)]) -> Overlaps {
    overlaps(|id| &config.destination(id).registry, images)
}

impl Overlaps {
    /// Removes the targets that another image fills. An image can have no target left.
    pub fn remove_from<'i>(&self, images: impl IntoIterator<Item = &'i mut Image>) {
        let mut removed: BTreeSet<(usize, usize)> = BTreeSet::new();
        removed.extend(self.repeated.iter().chain(&self.yielded).map(|it| (it.later, it.target)));
        for (index, image) in images.into_iter().enumerate() {
            let mut at = 0;
            image.targets.retain(|_| {
                at += 1;
                !removed.contains(&(index, at - 1))
            });
        }
    }

    /// The problems of the images that cannot be mirrored, by their index.
    pub fn problems(
        &self,
        config: &Config,
        images: &[(&Image, OnConflict)],
    ) -> BTreeMap<usize, String> {
        let mut problems = BTreeMap::new();
        for index in &self.own_sources {
            problems.insert(*index, ONTO_ITSELF.to_owned());
        }
        for Overlap { first, later, target } in &self.conflicts {
            let target = &images[*later].0.targets[*target];
            let destination = target_reference(config, target);
            for (one, other) in [(first, later), (later, first)] {
                let other = &images[*other].0.origin;
                problems.insert(*one, format!("{other} also writes {destination}"));
            }
        }
        problems
    }
}

/// The reference of a target, without its digest.
pub fn target_reference(config: &Config, target: &Target) -> String {
    let location = &config.destination(target.destination).registry;
    location.reference(&target.repository, &TagOrDigest::Tag(target.tag.clone()))
}

/// The destinations, by registry: two can be the same one.
struct RegistryIds<F> {
    location: F,
    ids: RefCell<HashMap<DestinationId, usize>>,
    names: RefCell<Vec<String>>,
}

impl<'l, F: Fn(DestinationId) -> &'l Location> RegistryIds<F> {
    fn new(location: F) -> Self {
        Self { location, ids: RefCell::default(), names: RefCell::default() }
    }

    /// A number that is equal for all names of one registry.
    fn id(&self, destination: DestinationId) -> usize {
        *self.ids.borrow_mut().entry(destination).or_insert_with(|| {
            let name = registry_identity((self.location)(destination));
            let mut names = self.names.borrow_mut();
            names.iter().position(|known| *known == name).unwrap_or_else(|| {
                names.push(name);
                names.len() - 1
            })
        })
    }
}

fn overlaps<'l>(
    location: impl Fn(DestinationId) -> &'l Location,
    images: &[(&Image, OnConflict)],
) -> Overlaps {
    let registries = RegistryIds::new(&location);
    let mut found = Overlaps::default();
    let mut written: HashMap<(usize, &Repository, &Tag), usize> = HashMap::new();
    for (index, (image, policy)) in images.iter().enumerate() {
        for (at, target) in image.targets.iter().enumerate() {
            if is_own_source(image, target, location(target.destination)) {
                found.own_sources.push(index);
                continue;
            }
            let key = (registries.id(target.destination), &target.repository, &target.tag);
            let first = *written.entry(key).or_insert(index);
            let overlap = Overlap { first, later: index, target: at };
            let (other, other_policy) = &images[first];
            if first == index {
                // two destinations of one image can be one registry
            } else if (&other.origin, &other.filter) == (&image.origin, &image.filter) {
                found.repeated.push(overlap);
            } else if [*policy, *other_policy].contains(&OnConflict::First) {
                found.yielded.push(overlap);
            } else {
                found.conflicts.push(overlap);
            }
        }
    }
    found
}

fn is_own_source(image: &Image, target: &Target, location: &Location) -> bool {
    let origin = &image.origin;
    target.repository == origin.repository
        && origin.at == TagOrDigest::Tag(target.tag.clone())
        && registry_identity(location) == registry_identity(&origin.location)
}
