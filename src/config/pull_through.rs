//! `[[pull_through]]`: the upstreams that ECR caches, and who can pull through a cache.
//!
//! Rejects the settings that ECR would refuse, or accept without effect. Each upstream gets exactly
//! the credentials that it needs, from a place that ECR can read.

mod credentials;
pub(super) mod template;
mod upstream;

use self::upstream::CachedUpstream;
use super::{
    context::{FileContext, ReadCache, ReadDestination},
    document::{Keys, ReadTables, Table},
    policies,
    problem::Problem,
};
use crate::model::pull_through::{Access, Cache, Prefix, Upstream};

pub(super) const KEYS: Keys = Keys {
    title: "`[[pull_through]]`",
    names: "upstream url prefix upstream_prefix destinations credentials secret_arn \
        secret role_arn template access",
};

const ACCESS: Keys = Keys {
    title: "`[pull_through.access]`",
    names: "organization accounts roles organizational_units",
};

pub(super) fn read(
    table: &Table<'_>,
    destinations: &ReadTables<ReadDestination>,
    file: &FileContext<'_>,
) -> Result<ReadCache, Problem> {
    let cached = upstream::read(table, destinations, file)?;
    let prefix_span = table.span_of("prefix").unwrap_or_else(|| cached.span.clone());
    let prefix = prefix(table, "prefix")?.unwrap_or_else(|| {
        cached.upstream.name().parse().expect("each upstream's name is a prefix")
    });
    let upstream_prefix = upstream_prefix(table, cached.upstream, &prefix)?;
    let credentials = credentials::read(table, &cached)?;
    let secret = credentials::secret_settings(table, &credentials, file)?;
    let template = table.table("template", &template::KEYS)?;
    let span_of = |key| template.as_ref().and_then(|template| template.span_of(key));
    let read_template = |template| template::read(template, &cached.registries, &prefix, file);
    let settings = template.as_ref().map(read_template).transpose()?;
    let CachedUpstream { upstream, span, url, registries, .. } = cached;
    Ok(ReadCache {
        upstream: span,
        prefix: prefix_span,
        mutability: span_of("tag_mutability"),
        lifecycle: span_of("lifecycle").or_else(|| span_of("lifecycle_file")),
        tags: span_of("tags"),
        cache: Cache {
            upstream,
            url,
            prefix,
            upstream_prefix,
            credentials,
            secret,
            template: settings,
            access: access(table)?,
            destinations: registries.iter().map(|registry| registry.id).collect(),
        },
    })
}

/// A prefix that ECR accepts.
fn prefix(table: &Table<'_>, key: &str) -> Result<Option<Prefix>, Problem> {
    let Some(text) = table.text(key)? else { return Ok(None) };
    let prefix = text.parse()?;
    if let Prefix::Path(path) = &prefix {
        path.check_ecr().map_err(|error| text.problem(error))?;
    }
    Ok(Some(prefix))
}

/// Source: ECR API model, `upstreamRepositoryPrefix`; user guide, "Customizing repository prefixes".
fn upstream_prefix(
    table: &Table<'_>,
    upstream: Upstream,
    prefix: &Prefix,
) -> Result<Prefix, Problem> {
    let Some(span) = table.span_of("upstream_prefix") else { return Ok(Prefix::Root) };
    let upstream_prefix = self::prefix(table, "upstream_prefix")?.unwrap_or(Prefix::Root);
    Err(match (&upstream_prefix, prefix, upstream) {
        (Prefix::Root, ..) | (_, Prefix::Path(_), Upstream::Ecr) => return Ok(upstream_prefix),
        (_, _, Upstream::Ecr) => Problem::at(&span, "must be `ROOT`, because `prefix` is `ROOT`")
            .hint("remove `upstream_prefix`, or write a path for `prefix`"),
        _ => Problem::at(&span, "`upstream_prefix` requires `upstream = \"ecr\"`")
            .hint("remove `upstream_prefix`: ECR caches only the repositories that are pulled"),
    })
}

fn access(table: &Table<'_>) -> Result<Option<Access>, Problem> {
    let Some(table) = table.table("access", &ACCESS)? else { return Ok(None) };
    let access = policies::principals(&table)?;
    if access == Access::default() {
        return Err(Problem::empty(&table.span)
            .hint("add `organization = \"o-…\"` or `accounts = [\"…\"]`, or remove the table"));
    }
    Ok(Some(access))
}
