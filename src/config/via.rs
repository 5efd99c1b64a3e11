//! `via`: whether an image is mirrored or cached at each destination, and its repository there.

use super::{
    context::{ReadDestination, Tables},
    destination::by_name,
    document::{Table, Text},
    images::{CacheTarget, MirrorTarget},
    problem::{Problem, Span},
};
use crate::model::{
    Delivery, DestinationId, Host, NameError, Reference, Repository, pull_through::Upstream,
};

/// The targets of an image: one for each of its destinations, in one of the lists.
#[derive(Default)]
pub(super) struct Routes {
    pub(super) mirrored: Vec<MirrorTarget>,
    pub(super) cached: Vec<CacheTarget>,
}

/// The value of `via` and where it is written: the source's span if it is in `[defaults]`.
pub(super) struct RouteKey {
    pub(super) via: Delivery,
    pub(super) span: Span,
}

/// Keys that do not apply to a cached image.
const MIRROR_KEYS: [&str; 3] = ["repository", "retag", "flatten"];

pub(super) fn read(
    table: &Table<'_>,
    source: &Text,
    reference: &Reference,
    route: &RouteKey,
    tables: &Tables<'_>,
) -> Result<Routes, Problem> {
    let mirror_key = MIRROR_KEYS.iter().find_map(|key| Some((key, table.span_of(key)?)));
    if let (Delivery::PullThrough, Some((key, span))) = (route.via, mirror_key) {
        let hint =
            format!("remove `{key}`: ECR caches an image unchanged, below the rule's prefix");
        return Err(Problem::conflict(&span, "`via = \"pull-through\"`").hint(hint));
    }
    let written = table.text("repository")?;
    let repository =
        written.as_ref().map_or_else(|| Ok(reference.repository.clone()), Text::parse)?;
    let text = written.as_ref().unwrap_or(source);
    let destinations = match table.list("destinations")? {
        Some(names) => by_name(&names, tables.destinations)?,
        None => (0..tables.destinations.len()).map(DestinationId).collect(),
    };
    let mut routes = Routes::default();
    for destination in destinations {
        let cached = match route.via {
            Delivery::Mirror => None,
            Delivery::PullThrough | Delivery::Auto => cached(reference, destination, tables),
        };
        match (cached, route.via) {
            (Some(target), _) => {
                target
                    .repository
                    .check_ecr()
                    .map_err(|error| source.problem(error.hint(NOT_CACHED)))?;
                routes.cached.push(target);
            }
            (None, Delivery::PullThrough) => {
                return Err(uncovered(route, &reference.host, destination, tables));
            }
            (None, Delivery::Mirror | Delivery::Auto) => {
                let read = &tables.destinations[destination.0];
                let repository =
                    prefixed(&repository, read).map_err(|error| text.problem(error))?;
                routes.mirrored.push(MirrorTarget { destination, repository });
            }
        }
    }
    Ok(routes)
}

const NOT_CACHED: &str = "write `via = \"mirror\"` and another `repository`";

/// The repository of the source in a cache of the destination: in the cache with the longest
/// upstream prefix, the first of them in the file.
fn cached(
    reference: &Reference,
    destination: DestinationId,
    tables: &Tables<'_>,
) -> Option<CacheTarget> {
    let covering = tables.caches_of(destination).filter_map(|(index, read)| {
        let repository = read.cache.repository(&reference.host, &reference.repository)?;
        let length = read.cache.upstream_prefix.weight();
        Some((length, CacheTarget { destination, cache: index, repository }))
    });
    let best = covering.reduce(|best, next| if next.0 > best.0 { next } else { best });
    best.map(|(_, target)| target)
}

/// The problem of a source that is to be cached if no cache of the destination covers it.
fn uncovered(
    route: &RouteKey,
    source: &Host,
    destination: DestinationId,
    tables: &Tables<'_>,
) -> Problem {
    let read = &tables.destinations[destination.0];
    let line = tables.file.line_of(&read.registry);
    if read.destination.registry.ecr().is_none() {
        let label =
            format!("the destination in line {line} is not ECR, and only ECR caches images");
        return Problem::at(&route.span, label)
            .hint("write `via = \"auto\"`, or set `destinations` to ECR registries");
    }
    let Some(upstream) = Upstream::at(source) else {
        return Problem::at(&route.span, "ECR cannot cache this registry")
            .hint("write `via = \"mirror\"`, or `via = \"auto\"` to mirror what ECR cannot cache");
    };
    let name = upstream.name();
    let exists = tables.caches.iter().any(|read| read.cache.upstream == upstream);
    let (article, rest) = match (upstream.url(), exists) {
        (_, true) => ("another", ", or change the existing one to cover this source"),
        (Some(_), false) => ("a", ""),
        (None, false) => ("a", " and its `url`"),
    };
    let hint = format!("add {article} `[[pull_through]]` with `upstream = \"{name}\"`{rest}");
    let label =
        format!("no `[[pull_through]]` of the destination in line {line} covers this source");
    Problem::at(&route.span, label).hint(hint)
}

const ANOTHER_NAME: &str =
    "write a `repository` for the destination, with one `-` or `_` between words";

fn prefixed(repository: &Repository, read: &ReadDestination) -> Result<Repository, NameError> {
    let destination = &read.destination;
    let prefixed = match &destination.prefix {
        Some(prefix) => repository.below(prefix).map_err(|_| {
            NameError::new("has more than 255 characters with the prefix of the destination")
                .hint("shorten `repository` or `prefix`")
        })?,
        None => repository.clone(),
    };
    if !destination.is_ecr() {
        return Ok(prefixed);
    }
    repository.check_ecr().map_err(|error| error.hint(ANOTHER_NAME))?;
    // ECR API model, `repositoryName`: at least two characters
    if prefixed.as_str().len() < 2 {
        return Err(NameError::new("has fewer than 2 characters, the minimum of ECR")
            .hint("write a longer `repository`, or add a `prefix` to the destination"));
    }
    Ok(prefixed)
}
