//! Detects tables that use one name, registry or tag twice.

use std::collections::{BTreeMap, HashMap};

use super::{
    context::{FileContext, ReadDestination, ReadEntry, Tables, registry_identity},
    problem::{Problem, Span},
    types::Config,
};
use crate::model::{Image, Location, Repository, Tag, TagOrDigest, Target};

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

/// Rejects images that write one tag of one repository, or that are their own source.
pub(super) fn between_images(entries: &[ReadEntry], tables: &Tables<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut written: HashMap<(String, Repository, Tag), &Span> = HashMap::new();
    for read in entries {
        // `between_listed` checks the images that are listed later
        let images = read.entry.images().unwrap_or_default();
        for (image, span) in images.iter().zip(&read.tags) {
            for target in &image.targets {
                let location = tables.location(target.destination);
                if is_own_source(image, target, location) {
                    let hint = "write another `repository`, or set `destinations`";
                    problems.push(Problem::at(&read.source, ONTO_ITSELF).hint(hint));
                    continue;
                }
                let registry = registry_identity(location);
                let key = (registry, target.repository.clone(), target.tag.clone());
                let first = *written.entry(key).or_insert(span);
                if !std::ptr::eq(first, span) {
                    let line = tables.file.line_of(first);
                    let label = format!(
                        "writes the same tag of the same repository as the tag in line {line}"
                    );
                    let hint = "give one of them another `repository` or `retag`";
                    problems.push(Problem::at(span, label).hint(hint));
                }
            }
        }
    }
    problems.dedup();
    problems
}

const ONTO_ITSELF: &str = "would be mirrored onto itself";

/// The problems of images that are known only after their tags were listed, by their index: of
/// both images that write one tag, and of images that are their own source.
pub fn between_listed(config: &Config, images: &[&Image]) -> BTreeMap<usize, String> {
    let mut problems = BTreeMap::new();
    let mut written: HashMap<(String, &Repository, &Tag), usize> = HashMap::new();
    for (index, image) in images.iter().enumerate() {
        for target in &image.targets {
            let location = &config.destination(target.destination).registry;
            if is_own_source(image, target, location) {
                problems.insert(index, ONTO_ITSELF.to_owned());
            }
            let key = (registry_identity(location), &target.repository, &target.tag);
            let Some(first) = written.insert(key, index) else { continue };
            let destination =
                location.reference(&target.repository, &TagOrDigest::Tag(target.tag.clone()));
            for (one, other) in [(first, index), (index, first)] {
                let other = &images[other].origin;
                problems.insert(one, format!("{other} also writes {destination}"));
            }
        }
    }
    problems
}

fn is_own_source(image: &Image, target: &Target, location: &Location) -> bool {
    let origin = &image.origin;
    target.repository == origin.repository
        && origin.at == TagOrDigest::Tag(target.tag.clone())
        && registry_identity(location) == registry_identity(&origin.location)
}
