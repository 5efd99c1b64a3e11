//! What is wrong only between tables: two that claim the same name or place.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry as Slot},
    path::{Component, PathBuf},
};

use super::{
    Config, Tables,
    destination::ReadDestination,
    entry::ReadEntry,
    problem::{Problem, Span, line_of},
};
use crate::model::{EcrHost, Image, Location, Repository, Tag, TagOrDigest};

/// The registry or layout behind a name: each has several.
pub(super) fn registry(site: &Location) -> String {
    let host = match site {
        Location::Layout { directory, .. } => {
            let steps = directory.components().filter(|step| *step != Component::CurDir);
            return format!("oci:{}", steps.collect::<PathBuf>().display());
        }
        Location::Registry(host) => host,
    };
    match EcrHost::parse(host) {
        Some(ecr) => format!("{}/{}", ecr.account, ecr.region),
        None => host.as_str().strip_suffix(":443").unwrap_or(host.as_str()).to_owned(),
    }
}

/// Two destinations of one name, or that are the same place.
pub(super) fn between_destinations(
    destinations: &[ReadDestination],
    text: &str,
) -> Result<(), Problem> {
    let mut names: HashMap<&str, &Span> = HashMap::new();
    let mut places: HashMap<(String, Option<&Repository>), &Span> = HashMap::new();
    for read in destinations {
        let destination = &read.destination;
        let place = (registry(&destination.registry), destination.prefix.as_ref());
        if let Some(first) = places.insert(place, &read.registry) {
            let line = line_of(text, first);
            let label = format!("the same registry and prefix as the destination in line {line}");
            return Err(Problem::at(&read.registry, label)
                .hint("leave one of them away, or give it another `prefix`"));
        }
        if let Some(first) = names.insert(&destination.name, &read.name) {
            let line = line_of(text, first);
            return Err(Problem::at(
                &read.name,
                format!("the name of the destination in line {line}"),
            )
            .hint("give each a `name` of its own"));
        }
    }
    Ok(())
}

/// Images that write the same tag of the same repository, or that are their own source.
pub(super) fn between_images(entries: &[ReadEntry], tables: &Tables<'_>) -> Vec<Problem> {
    let Tables { destinations, text, .. } = tables;
    let mut problems = Vec::new();
    let mut written: HashMap<(String, &Repository, Tag), &Span> = HashMap::new();
    for read in entries {
        let source = registry(&read.entry.host.clone().into());
        // those that are not known yet are looked at by `between_listed` once they are
        let images = read.entry.images().unwrap_or_default();
        for (image, span) in images.iter().zip(&read.tags) {
            for (target, place) in image.targets.iter().zip(&read.entry.mirrored) {
                let site = &destinations[target.destination.0].destination.registry;
                let registry = registry(site);
                let onto_itself = registry == source
                    && target.repository == read.entry.repository
                    && image.origin.at == TagOrDigest::Tag(target.tag.clone());
                if onto_itself {
                    problems.push(
                        Problem::at(&read.source, ONTO_ITSELF)
                            .hint("give it another `repository`, or choose its `destinations`"),
                    );
                    continue;
                }
                match written.entry((registry, &place.repository, target.tag.clone())) {
                    Slot::Vacant(slot) => {
                        slot.insert(span);
                    }
                    Slot::Occupied(first) => problems.push(same_tag(span, first.get(), text)),
                }
            }
        }
    }
    problems.dedup();
    problems
}

const ONTO_ITSELF: &str = "would be mirrored onto itself";

/// What is wrong between images that are known only since tags were listed, by their place:
/// those that write what another one writes, both of them, and those that are their own source.
pub fn between_listed(config: &Config, images: &[&Image]) -> BTreeMap<usize, String> {
    let mut wrong = BTreeMap::new();
    let mut written: HashMap<(String, &Repository, &Tag), usize> = HashMap::new();
    for (at, image) in images.iter().enumerate() {
        for target in &image.targets {
            let site = &config.destination(target.destination).registry;
            let place = registry(site);
            let origin = &image.origin;
            if place == registry(&origin.location)
                && target.repository == origin.repository
                && origin.at == TagOrDigest::Tag(target.tag.clone())
            {
                wrong.insert(at, ONTO_ITSELF.to_owned());
            }
            let Some(first) = written.insert((place, &target.repository, &target.tag), at) else {
                continue;
            };
            let destination =
                site.reference(&target.repository, &TagOrDigest::Tag(target.tag.clone()));
            for (one, other) in [(first, at), (at, first)] {
                let other = &images[other].origin;
                wrong.insert(one, format!("{other} would write {destination}, too"));
            }
        }
    }
    wrong
}

fn same_tag(span: &Span, first: &Span, text: &str) -> Problem {
    let line = line_of(text, first);
    let label = format!("writes the same tag of the same repository as the tag in line {line}");
    Problem::at(span, label).hint("give one of them another `repository` or `retag`")
}
