//! `via`: whether an image is mirrored or cached at each destination, and its repository there.

use super::{
    context::{ReadDestination, Tables},
    document::Text,
    entry::{ImageKeys, Level},
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
    /// The naming rule of each mirrored target; `None` for the default.
    pub(super) rules: Vec<Option<Span>>,
    pub(super) cached: Vec<CacheTarget>,
}

/// The value of `via` and where it is written: the source's span if it is in a more general table.
struct RouteKey {
    via: Delivery,
    span: Span,
}

pub(super) fn read(
    source: &Text,
    reference: &Reference,
    keys: &ImageKeys,
    tables: &Tables<'_>,
) -> Result<Routes, Problem> {
    let route = RouteKey {
        via: keys.via.as_ref().map(|via| via.value).unwrap_or_default(),
        span: match &keys.via {
            Some(via) if via.level == Level::Entry => via.span.clone(),
            _ => source.span.clone(),
        },
    };
    if let (Delivery::PullThrough, Some((key, span))) = (route.via, keys.of_mirrored()) {
        let hint =
            format!("remove `{key}`: ECR caches an image unchanged, below the rule's prefix");
        return Err(Problem::conflict(span, "`via = \"pull-through\"`").hint(hint));
    }
    let all = || (0..tables.destinations.read.len()).map(DestinationId).collect();
    let destinations = keys.destinations.as_ref();
    let destinations = destinations.map_or_else(all, |setting| setting.value.clone());
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
                if tables.has_all_caches {
                    return Err(uncovered(&route, &reference.host, destination, tables));
                }
            }
            (None, Delivery::Mirror | Delivery::Auto) => {
                let read = &tables.destinations.read[destination.0];
                let rule = match &keys.repository {
                    Some(rule) if rule.level > Level::Destination => Some(rule),
                    general => read.rule.as_ref().or(general.as_ref()),
                };
                let repository = match rule {
                    Some(rule) => rule.value.apply(&reference.host, &reference.repository),
                    None => Ok(reference.repository.clone()),
                };
                let repository = repository.and_then(|repository| prefixed(&repository, read));
                let repository = repository.map_err(|error| match rule {
                    Some(rule) => {
                        rule.problem_of("the name from `repository`", &source.span, error)
                    }
                    None => source.problem(error),
                })?;
                routes.mirrored.push(MirrorTarget { destination, repository });
                routes.rules.push(rule.map(|rule| rule.span.clone()));
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
    let read = &tables.destinations.read[destination.0];
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
