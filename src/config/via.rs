//! `via`: how an image gets to each of its destinations, mirrored or through a cache, and what
//! its repository is called there.

use super::{
    CacheTarget, MirrorTarget, Tables,
    destination::{ReadDestination, chosen},
    document::{Table, Text},
    problem::{Problem, Span, line_of},
};
use crate::model::{
    Delivery, DestinationId, EcrHost, Host, NameError, Reference, Repository,
    pull_through::Upstream,
};

/// Where an image is found, one place for each of its destinations.
#[derive(Default)]
pub(super) struct Routes {
    pub(super) mirrored: Vec<MirrorTarget>,
    pub(super) cached: Vec<CacheTarget>,
}

/// How an image is to get there, and where that is written: at the image, or its source where
/// the defaults say it.
pub(super) struct RouteKey {
    pub(super) via: Delivery,
    pub(super) span: Span,
}

/// What of an image means nothing to a cache.
const NAMING: [&str; 3] = ["repository", "retag", "flatten"];

pub(super) fn read(
    table: &Table<'_>,
    (source, reference): (&Text, &Reference),
    way: &RouteKey,
    tables: &Tables<'_>,
) -> Result<Routes, Problem> {
    let naming = NAMING.iter().find_map(|key| table.place(key));
    if let (Delivery::PullThrough, Some(span)) = (way.via, naming) {
        return Err(Problem::at(&span, "not for an image that is cached: it stays as it is")
            .hint("leave it away: what is cached keeps its name, below the rule's prefix"));
    }
    let written = table.text("repository")?;
    let repository = match &written {
        Some(text) => text.parse()?,
        None => reference.repository.clone(),
    };
    let text = written.as_ref().unwrap_or(source);
    let destinations = match table.list("destinations")? {
        Some((names, _)) => chosen(&names, tables.destinations)?,
        None => (0..tables.destinations.len()).map(DestinationId).collect(),
    };
    let mut routes = Routes::default();
    for destination in destinations {
        let cached = match way.via {
            Delivery::Mirror => None,
            Delivery::PullThrough | Delivery::Auto => cached(reference, destination, tables),
        };
        match (cached, way.via) {
            (Some(place), _) => routes.cached.push(place),
            (None, Delivery::PullThrough) => {
                return Err(uncovered(way, &reference.host, destination, tables));
            }
            (None, Delivery::Mirror | Delivery::Auto) => {
                let read = &tables.destinations[destination.0];
                let repository = place(&repository, read).map_err(|error| text.wrong(error))?;
                routes.mirrored.push(MirrorTarget { destination, repository });
            }
        }
    }
    Ok(routes)
}

/// The place that a cache of the destination gives the source; of several caches, the one whose
/// upstream prefix says most.
fn cached(
    reference: &Reference,
    destination: DestinationId,
    tables: &Tables<'_>,
) -> Option<CacheTarget> {
    let covering = tables.caches_of(destination).filter_map(|(at, read)| {
        let repository = read.cache.place(&reference.host, &reference.repository)?;
        Some((
            read.cache.upstream_prefix.weight(),
            CacheTarget { destination, cache: at, repository },
        ))
    });
    // the first in the file, where several say as much
    let best = covering.reduce(|best, next| if next.0 > best.0 { next } else { best });
    best.map(|(_, place)| place)
}

/// The source is to be cached, and the destination has no cache of it.
fn uncovered(
    way: &RouteKey,
    source: &Host,
    destination: DestinationId,
    tables: &Tables<'_>,
) -> Problem {
    let read = &tables.destinations[destination.0];
    let line = line_of(tables.text, &read.registry);
    if read.destination.registry.host().and_then(EcrHost::parse).is_none() {
        let label = format!("the destination in line {line} is not ECR, which alone caches");
        return Problem::at(&way.span, label)
            .hint("write `via = \"auto\"`, or choose its `destinations`");
    }
    let Some(upstream) = Upstream::at(source) else {
        return Problem::at(&way.span, "ECR cannot cache this registry")
            .hint("mirror it: `via = \"mirror\"`, or `via = \"auto\"` to cache what can be");
    };
    let name = upstream.name();
    let label =
        format!("no `[[pull_through]]` of the destination in line {line} covers this source");
    let hint = match (upstream.url(), tables.caches.iter().any(|it| it.cache.upstream == upstream))
    {
        (_, true) => format!(
            "write another `[[pull_through]]` with `upstream = \"{name}\"`, or let the one there is cover it"
        ),
        (Some(_), false) => format!("write a `[[pull_through]]` with `upstream = \"{name}\"`"),
        (None, false) => {
            format!("write a `[[pull_through]]` with `upstream = \"{name}\"` and its `url`")
        }
    };
    Problem::at(&way.span, label).hint(hint)
}

fn place(repository: &Repository, read: &ReadDestination) -> Result<Repository, NameError> {
    let destination = &read.destination;
    let whole = match &destination.prefix {
        Some(prefix) => repository.below(prefix).map_err(|_| {
            NameError::new(
                "is longer, with its prefix, than the 255 characters a repository may have",
            )
            .hint("shorten `repository` or `prefix`")
        })?,
        None => repository.clone(),
    };
    // ECR API model, `repositoryName`: at least two characters
    if whole.as_str().len() < 2 && destination.registry.host().and_then(EcrHost::parse).is_some() {
        return Err(NameError::new("is shorter than the 2 characters ECR wants of a repository")
            .hint("write a longer `repository`, or a `prefix` for the destination"));
    }
    Ok(whole)
}
