//! Detects problems between caches, destinations and images. Pure.
//!
//! Errors are the conditions that a run would refuse after it has queried ECR's rules. Warnings are
//! valid settings with unlikely intent: ECR overwrites, expires or never refreshes images.

use std::collections::{BTreeMap, HashMap};

use super::{
    context::{FileContext, ReadCache, ReadEntry, Tables, registry_identity},
    problem::Problem,
    pull_through::template,
};
use crate::model::{
    Repository,
    ecr_settings::TagMutability,
    pull_through::{Prefix, Upstream},
};

/// Rules of a registry. Source: ECR user guide, "Service quotas".
const MAX_RULES: usize = 50;

/// A template for every cache that keeps fewer images is probably a mistake.
const FEW_IMAGES: u64 = 50;

pub(super) fn errors(entries: &[ReadEntry], tables: &Tables<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for caches in by_registry(tables).values() {
        problems.extend(duplicate_prefixes(caches, tables.file));
        problems.extend(caches.get(MAX_RULES).map(|cache| {
            let label = format!("exceeds the {MAX_RULES} rules that a registry can have");
            Problem::at(&cache.upstream, label)
                .hint("remove unused caches, or set their `destinations`")
        }));
    }
    problems.extend(entries.iter().filter_map(|entry| mirrored_into_cache(entry, tables)));
    problems
}

pub(super) fn warnings(entries: &[ReadEntry], tables: &Tables<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for caches in by_registry(tables).values() {
        problems.extend(nested_prefixes(caches, tables.file));
    }
    for (index, cache) in tables.caches.iter().enumerate() {
        problems.extend(immutable(cache));
        problems.extend(keeps_few(cache));
        problems.extend(tags_without_role(cache));
        problems.extend(covers_mirrored(cache, index, entries, tables));
    }
    problems.extend(fips(tables));
    problems.extend(entries.iter().filter_map(|entry| without_library(entry, tables)));
    problems
}

fn by_registry<'a>(tables: &Tables<'a>) -> BTreeMap<String, Vec<&'a ReadCache>> {
    let mut registries: BTreeMap<String, Vec<&ReadCache>> = BTreeMap::new();
    for read in tables.caches {
        for id in &read.cache.destinations {
            let registry = registry_identity(tables.location(*id));
            let caches = registries.entry(registry).or_default();
            // two destinations can be one registry
            if !caches.last().is_some_and(|last| std::ptr::eq(*last, read)) {
                caches.push(read);
            }
        }
    }
    registries
}

fn duplicate_prefixes(caches: &[&ReadCache], file: &FileContext<'_>) -> Vec<Problem> {
    let mut seen: HashMap<&Prefix, &ReadCache> = HashMap::new();
    let mut problems = Vec::new();
    for read in caches {
        let first = *seen.entry(&read.cache.prefix).or_insert(read);
        if std::ptr::eq(first, *read) {
            continue;
        }
        let line = file.line_of(&first.prefix);
        let label =
            format!("duplicate prefix: the cache in line {line} has it at the same registry");
        let hint = "write another `prefix`, or set the `destinations` of each";
        problems.push(Problem::at(&read.prefix, label).hint(hint));
    }
    problems
}

fn mirrored_into_cache(read: &ReadEntry, tables: &Tables<'_>) -> Option<Problem> {
    let cache = read.entry.mirrored.iter().find_map(|target| {
        let mut caches = tables.caches_of(target.destination);
        caches.find(|(_, cache)| is_below(&target.repository, &cache.cache.prefix))
    });
    let line = tables.file.line_of(&cache?.1.prefix);
    let label = format!("would be mirrored below the prefix of the cache in line {line}");
    Some(Problem::at(&read.source, label).hint(
        "write another `repository`, or `via = \"auto\"`: ECR replaces images below this prefix with those of the upstream",
    ))
}

/// Returns `true` if the repository is below a path; `ROOT` has no path.
fn is_below(repository: &Repository, prefix: &Prefix) -> bool {
    matches!(prefix, Prefix::Path(_)) && prefix.rest(repository).is_some()
}

fn nested_prefixes(caches: &[&ReadCache], file: &FileContext<'_>) -> Vec<Problem> {
    let nested = caches.iter().filter_map(|read| {
        let Prefix::Path(path) = &read.cache.prefix else { return None };
        let outer = caches.iter().find(|outer| is_below(path, &outer.cache.prefix))?;
        let line = file.line_of(&outer.prefix);
        let label = format!("below the prefix of the cache in line {line}");
        let hint = "write prefixes that do not overlap: ECR does not document which rule wins";
        Some(Problem::at(&read.prefix, label).hint(hint))
    });
    nested.collect()
}

/// Warns of immutable tags in a cache: upstream can move its tags.
fn immutable(read: &ReadCache) -> Option<Problem> {
    let settings = &read.cache.template.as_ref()?.settings;
    let span = read.mutability.as_ref()?;
    (settings.mutability == Some(TagMutability::Immutable)).then(|| {
        Problem::at(span, "ECR never refreshes a tag that the upstream moves").hint(
            "write `tag_mutability = \"mutable\"`, or exclude moving tags: `exclusions = [\"latest*\"]`",
        )
    })
}

/// Warns of a lifecycle policy for all caches that keeps few images.
fn keeps_few(read: &ReadCache) -> Option<Problem> {
    let lifecycle = read.cache.template.as_ref()?.settings.lifecycle.as_ref()?;
    let span = read.lifecycle.as_ref().filter(|_| read.cache.prefix == Prefix::Root)?;
    let counts = lifecycle["rules"].as_array()?.iter().filter_map(|rule| {
        let selection = &rule["selection"];
        let is_count = selection["countType"] == "imageCountMoreThan";
        selection["countNumber"].as_u64().filter(|count| is_count && *count < FEW_IMAGES)
    });
    let least = counts.min()?;
    let label = format!("keeps only {least} images in every repository that any cache creates");
    Some(Problem::at(span, label).hint(
        "keep more images, or write `expire_after_days`: the template of `ROOT` applies to every prefix without its own",
    ))
}

/// Warns of a template with tags and without a role. Not an error, because the sources disagree:
/// ECR accepts such a template, and may fail to create its repositories.
///
/// Source: hashicorp/terraform-provider-aws, the test "basic" of the resource; ECR user guide,
/// "Repository creation templates"; aws/containers-roadmap#2398.
fn tags_without_role(read: &ReadCache) -> Option<Problem> {
    let template = read.cache.template.as_ref()?;
    let span = read.tags.as_ref().filter(|_| !template.settings.tags.is_empty())?;
    template.role_arn.is_none().then(|| {
        Problem::at(span, "ECR may fail to create repositories with tags without a `role_arn`")
            .hint(template::ROLE)
    })
}

/// Warns of a `ROOT` rule at a registry that images are mirrored to. Not an error, because
/// upstream need not have a repository of the same name.
fn covers_mirrored(
    read: &ReadCache,
    index: usize,
    entries: &[ReadEntry],
    tables: &Tables<'_>,
) -> Option<Problem> {
    let mut targets = entries.iter().flat_map(|entry| &entry.entry.mirrored);
    let is_cached_at = |id| tables.caches_of(id).any(|(own, _)| own == index);
    let covers =
        read.cache.prefix == Prefix::Root && targets.any(|target| is_cached_at(target.destination));
    covers.then(|| {
        Problem::at(&read.prefix, "covers the repositories that images are mirrored to").hint(
            "write a `prefix`: else ECR replaces mirrored images if the upstream has a repository of the same name",
        )
    })
}

/// Warns of FIPS endpoints: a pull through one does not fill the cache.
///
/// Source: ECR user guide, "Considerations for using pull through cache".
fn fips(tables: &Tables<'_>) -> Vec<Problem> {
    let cached = tables.caches.iter().flat_map(|read| &read.cache.destinations);
    let fips = cached.filter(|id| tables.location(**id).ecr().is_some_and(|ecr| ecr.fips));
    fips.map(|id| {
        let span = &tables.destinations.read[id.0].registry;
        Problem::at(span, "a FIPS endpoint does not pull images that are not cached yet")
            .hint("write the host name without `-fips`: it is the same registry")
    })
    .collect()
}

/// Warns of a source in a cache of Docker Hub that lacks the `library/` of an official image.
///
/// Source: ECR user guide, "Pulling an image with a pull through cache rule".
fn without_library(read: &ReadEntry, tables: &Tables<'_>) -> Option<Problem> {
    let source = registry_identity(&read.entry.host.clone().into());
    let mut caches = tables.caches_at(source).map(|(_, read)| &read.cache).filter(|cache| {
        cache.upstream == Upstream::DockerHub && matches!(cache.prefix, Prefix::Path(_))
    });
    let rest = caches.find_map(|cache| cache.prefix.rest(&read.entry.repository))?;
    if rest.as_str().contains('/') {
        return None;
    }
    let written = read.source_as_written.as_deref().and_then(|text| text.rsplit_once('/'));
    let hint = match written {
        Some((before, name)) => format!("write `{before}/library/{name}`"),
        None => "add `library/` before the name".to_owned(),
    };
    let label = "Docker Hub has no repository of this name: official images are below `library/`";
    Some(Problem::at(&read.source, label).hint(hint))
}
