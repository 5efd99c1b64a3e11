//! What is wrong, or most likely not meant, between caches and what is around them. Pure.
//!
//! Guards what only shows once ECR fills a cache over something, prunes it, or never refreshes
//! it. What is refused here is what a run would refuse once it asks ECR for its rules.

use std::collections::{BTreeMap, HashMap};

use super::{
    Tables,
    entry::ReadEntry,
    problem::{Problem, line_of},
    pull_through::ReadCache,
};
use crate::model::{
    EcrHost, Repository,
    ecr_settings::TagMutability,
    pull_through::{Prefix, Upstream},
};

/// Rules of a registry, at most. Source: ECR user guide, "Service quotas".
const MAX_RULES: usize = 50;

/// Images that are kept, below which a template for every cache looks like a mistake.
const FEW: u64 = 50;

/// What cannot be.
pub(super) fn errors(entries: &[ReadEntry], tables: &Tables<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for caches in by_registry(tables).values() {
        problems.extend(twice(caches, tables.text));
        problems.extend(caches.get(MAX_RULES).map(|cache| {
            let label = format!("more than the {MAX_RULES} rules that a registry may have");
            Problem::at(&cache.upstream, label)
                .hint("leave caches away that nobody pulls from, or choose their `destinations`")
        }));
    }
    problems.extend(entries.iter().filter_map(|entry| inside(entry, tables)));
    problems
}

/// What is allowed, and most likely not meant.
pub(super) fn warnings(entries: &[ReadEntry], tables: &Tables<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for caches in by_registry(tables).values() {
        problems.extend(overlaps(caches, tables.text));
    }
    for (at, cache) in tables.caches.iter().enumerate() {
        problems.extend([immutable(cache), pruned(cache)].into_iter().flatten());
        problems.extend(over_mirrored(cache, at, (entries, tables)));
    }
    problems.extend(fips(tables));
    problems.extend(entries.iter().filter_map(|entry| without_library(entry, tables)));
    problems
}

/// The caches of each registry, in the order of the file.
fn by_registry<'a>(tables: &Tables<'a>) -> BTreeMap<String, Vec<&'a ReadCache>> {
    let mut registries: BTreeMap<String, Vec<&ReadCache>> = BTreeMap::new();
    for read in tables.caches {
        for id in &read.cache.destinations {
            let caches = registries.entry(tables.registry(*id)).or_default();
            // two destinations may be one registry
            if !caches.last().is_some_and(|last| std::ptr::eq(*last, read)) {
                caches.push(read);
            }
        }
    }
    registries
}

/// Two rules of one prefix.
fn twice(caches: &[&ReadCache], text: &str) -> Vec<Problem> {
    let mut first: HashMap<&Prefix, &ReadCache> = HashMap::new();
    let mut problems = Vec::new();
    for read in caches {
        if let Some(first) = first.get(&read.cache.prefix) {
            let line = line_of(text, &first.prefix);
            let label = format!("the prefix of the cache in line {line}, at the same registry");
            problems.push(
                Problem::at(&read.prefix, label)
                    .hint("give it another `prefix`, or choose the `destinations` of each"),
            );
            continue;
        }
        first.insert(&read.cache.prefix, read);
    }
    problems
}

/// An image that is mirrored to where ECR puts what it caches.
fn inside(read: &ReadEntry, tables: &Tables<'_>) -> Option<Problem> {
    let cache = read.entry.mirrored.iter().find_map(|place| {
        let mut caches = tables.caches_of(place.destination);
        caches.find(|(_, cache)| is_below(&place.repository, &cache.cache.prefix))
    });
    let line = line_of(tables.text, &cache?.1.prefix);
    let label = format!("would be mirrored below the prefix of the cache in line {line}");
    Some(Problem::at(&read.source, label).hint(
        "give it another `repository`, or `via = \"auto\"`: ECR replaces what is pushed there with what its upstream has",
    ))
}

/// Whether a path is demanded and is there; `ROOT` demands none.
fn is_below(repository: &Repository, prefix: &Prefix) -> bool {
    matches!(prefix, Prefix::Path(_)) && prefix.rest(repository).is_some()
}

/// A prefix that is below another one's.
fn overlaps(caches: &[&ReadCache], text: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    for read in caches {
        let Prefix::Path(path) = &read.cache.prefix else { continue };
        let outer = caches.iter().find(|outer| is_below(path, &outer.cache.prefix));
        problems.extend(outer.map(|outer| {
            let line = line_of(text, &outer.prefix);
            Problem::at(&read.prefix, format!("below the prefix of the cache in line {line}"))
                .hint("ECR does not say which rule wins; the longest is taken for granted here")
        }));
    }
    problems
}

/// Tags that cannot move where upstream moves them.
fn immutable(read: &ReadCache) -> Option<Problem> {
    let settings = &read.cache.template.as_ref()?.settings;
    let span = read.mutability.as_ref()?;
    (settings.mutability == Some(TagMutability::Immutable)).then(|| {
        Problem::at(span, "a tag that upstream moves is never refreshed").hint(
            "write `tag_mutability = \"mutable\"`, or except what moves: `exclusions = [\"latest*\"]`",
        )
    })
}

/// A template for every repository that ECR makes as it caches, and that keeps few images.
fn pruned(read: &ReadCache) -> Option<Problem> {
    let lifecycle = read.cache.template.as_ref()?.settings.lifecycle.as_ref()?;
    let span = read.lifecycle.as_ref().filter(|_| read.cache.prefix == Prefix::Root)?;
    let counts = lifecycle["rules"].as_array()?.iter().filter_map(|rule| {
        let selection = &rule["selection"];
        let is_count = selection["countType"] == "imageCountMoreThan";
        selection["countNumber"].as_u64().filter(|count| is_count && *count < FEW)
    });
    let least = counts.min()?;
    let label = format!("keeps {least} images of every repository that any cache makes");
    Some(Problem::at(span, label).hint(
        "the template of `ROOT` is for every prefix without one: keep more, or let images expire by age: `expire_after_days`",
    ))
}

/// A rule for every name, at a registry that images are mirrored to. Names that only the mirror
/// has are none of upstream's, which is why this is no error.
fn over_mirrored(
    read: &ReadCache,
    at: usize,
    (entries, tables): (&[ReadEntry], &Tables<'_>),
) -> Option<Problem> {
    let mut places = entries.iter().flat_map(|entry| &entry.entry.mirrored);
    let is_here = |id| tables.caches_of(id).any(|(own, _)| own == at);
    let is_over = read.cache.prefix == Prefix::Root && places.any(|it| is_here(it.destination));
    is_over.then(|| {
        Problem::at(&read.prefix, "covers the repositories that images are mirrored to").hint(
            "where its upstream has a repository of the same name, ECR replaces what is mirrored; with a `prefix` it cannot",
        )
    })
}

/// Registries by a name under which ECR fetches nothing.
///
/// Source: ECR user guide, "Considerations for using pull through cache".
fn fips(tables: &Tables<'_>) -> Vec<Problem> {
    let cached = tables.caches.iter().flat_map(|read| &read.cache.destinations);
    let is_fips = |host: &_| EcrHost::parse(host).is_some_and(|ecr| ecr.fips);
    let reads = cached.map(|id| &tables.destinations[id.0]);
    let fips = reads.filter(|read| read.destination.registry.host().is_some_and(is_fips));
    fips.map(|read| {
        Problem::at(&read.registry, "the FIPS endpoint does not pull what is not cached yet")
            .hint("write the registry's name without `-fips`: it is the same registry")
    })
    .collect()
}

/// A reference to one of Docker Hub's own images through a cache, without their `library/`.
///
/// Source: ECR user guide, "Pulling an image with a pull through cache rule".
fn without_library(read: &ReadEntry, tables: &Tables<'_>) -> Option<Problem> {
    let source = super::collisions::registry(&read.entry.host.clone().into());
    let hub = tables.caches.iter().filter(|it| it.cache.upstream == Upstream::DockerHub);
    let mut at_source = hub
        .filter(|it| it.cache.destinations.iter().any(|id| tables.registry(*id) == source))
        .filter(|it| matches!(it.cache.prefix, Prefix::Path(_)));
    let rest = at_source.find_map(|it| it.cache.prefix.rest(&read.entry.repository))?;
    if rest.as_str().contains('/') {
        return None;
    }
    let whole = read.source_as_written.as_deref().and_then(|text| text.rsplit_once('/'));
    let hint = match whole {
        Some((before, name)) => format!("write `{before}/library/{name}`"),
        None => "write `library/` in front of its name".to_owned(),
    };
    let label = "Docker Hub has no repository of this name: its own are below `library/`";
    Some(Problem::at(&read.source, label).hint(hint))
}
