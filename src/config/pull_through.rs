//! `[[pull_through]]`: what ECR caches by itself, and for whom.
//!
//! Guards what ECR would refuse, or would take and never do: each upstream gets the credentials
//! that it needs and no others, from where ECR reads them.

mod credentials;
mod template;

use super::{
    FileContext,
    arn::{self, Arn},
    destination::{ReadDestination, chosen},
    document::{Keys, Table, Text, in_backticks, nearest},
    policies,
    problem::{Problem, Span, line_of},
};
use crate::model::{
    DestinationId, EcrHost, Host, NameError,
    pull_through::{Access, Cache, Prefix, Upstream},
};

pub(super) const KEYS: Keys = Keys {
    title: "`[[pull_through]]`",
    names: &[
        "upstream",
        "url",
        "prefix",
        "upstream_prefix",
        "destinations",
        "credentials",
        "secret_arn",
        "role_arn",
        "template",
        "access",
    ],
};

const ACCESS: Keys =
    Keys { title: "`[pull_through.access]`", names: &["organization", "accounts"] };

/// A cache and where it is written.
pub(super) struct ReadCache {
    pub(super) cache: Cache,
    /// Its upstream, which stands for the whole.
    pub(super) upstream: Span,
    /// Its prefix, or the upstream that stands for one.
    pub(super) prefix: Span,
    /// Whether tags of its repositories may be moved.
    pub(super) mutability: Option<Span>,
    /// Which images stay in its repositories.
    pub(super) lifecycle: Option<Span>,
}

/// What is cached, and where that is written.
struct Served<'a> {
    upstream: Upstream,
    /// Where the upstream is written.
    span: Span,
    /// Where it is.
    url: String,
    /// Where that is written, or the upstream that stands for it.
    url_span: Span,
    /// The registries that cache it, never none.
    homes: &'a [CacheRegistry],
}

/// A registry that has a cache.
struct CacheRegistry {
    id: DestinationId,
    registry: EcrHost,
    /// The line of the file in which it is written.
    line: usize,
}

pub(super) fn read(
    table: &Table<'_>,
    destinations: &[ReadDestination],
    around: &FileContext<'_>,
) -> Result<ReadCache, Problem> {
    let (upstream, span) = upstream(table)?;
    let (url, url_span) = url(table, upstream, &span)?;
    let homes = homes(table, destinations, around)?;
    let served = Served { upstream, span, url, url_span, homes: &homes };
    refuse_itself(&served)?;
    let prefix = table.text("prefix")?;
    let prefix_span = prefix.as_ref().map_or(&served.span, |text| &text.span).clone();
    let prefix: Prefix = match prefix {
        Some(text) => text.parse()?,
        None => upstream.name().parse().expect("each upstream's name is a prefix"),
    };
    let upstream_prefix = upstream_prefix(table, upstream, &prefix)?;
    let credentials = credentials::read(table, &served)?;
    let template = template::read(table, &homes, around)?;
    let Served { span, url, .. } = served;
    Ok(ReadCache {
        upstream: span,
        prefix: prefix_span,
        mutability: template.as_ref().and_then(|read| read.mutability.clone()),
        lifecycle: template.as_ref().and_then(|read| read.lifecycle.clone()),
        cache: Cache {
            upstream,
            url,
            prefix,
            upstream_prefix,
            credentials,
            template: template.map(|read| read.template),
            access: access(table)?,
            destinations: homes.iter().map(|home| home.id).collect(),
        },
    })
}

/// What is cached, and where that is written.
fn upstream(table: &Table<'_>) -> Result<(Upstream, Span), Problem> {
    let names: Vec<&str> = Upstream::all().map(Upstream::name).collect();
    let Some(text) = table.text("upstream")? else {
        return Err(Problem::at(&table.span, "has no `upstream`")
            .hint(format!("write which registry is cached: one of {}", in_backticks(&names))));
    };
    if let Some(found) = Upstream::all().find(|upstream| upstream.name() == &*text) {
        return Ok((found, text.span));
    }
    // ECR's own word for it, or its host
    let meant = |upstream: &Upstream| upstream.api_name() == &*text;
    let at = || Upstream::at(&text.parse::<Host>().ok()?);
    let near = Upstream::all().find(meant).or_else(at).map(Upstream::name);
    let known = format!("ECR caches {}; mirror others with an `[[image]]`", in_backticks(&names));
    let problem = Problem::at(&text.span, "not an upstream that ECR caches");
    Err(match near.or_else(|| nearest(&text, &names)) {
        Some(near) => problem.hint(format!("did you mean `{near}`? {known}")),
        None => problem.hint(known),
    })
}

/// Where the upstream is, and where that is written.
fn url(table: &Table<'_>, upstream: Upstream, span: &Span) -> Result<(String, Span), Problem> {
    let name = upstream.name();
    let text = table.text("url")?;
    if let Some(known) = upstream.url() {
        return match text {
            Some(text) if &*text != known => {
                Err(Problem::at(&text.span, format!("not where `{name}` is")).hint(format!(
                    "leave `url` away: ECR caches `{known}` by that name, and no other"
                )))
            }
            text => Ok((known.to_owned(), text.map_or_else(|| span.clone(), |text| text.span))),
        };
    }
    let hint = match upstream {
        Upstream::Azure => "write its host, like `url = \"NAME.azurecr.io\"`",
        _ => PLAIN,
    };
    let Some(text) = text else {
        return Err(Problem::at(span, "needs a `url`, as each has its own").hint(hint));
    };
    let host: Host = text.parse()?;
    match Upstream::at(&host) == Some(upstream) {
        true => Ok((host.to_string(), text.span)),
        false => {
            let wrong = NameError::new(format!("is not a host of `{name}` that ECR caches"));
            Err(text.wrong(wrong.hint(hint)))
        }
    }
}

const PLAIN: &str = "write its plain name, neither FIPS nor dual-stack: \
    `url = \"123456789012.dkr.ecr.eu-west-1.amazonaws.com\"`";

/// The registries that have the cache: those it names, or all of ECR.
fn homes(
    table: &Table<'_>,
    destinations: &[ReadDestination],
    around: &FileContext<'_>,
) -> Result<Vec<CacheRegistry>, Problem> {
    let home = |id: DestinationId| {
        let read = &destinations[id.0];
        let registry = read.destination.registry.host().and_then(EcrHost::parse)?;
        Some(CacheRegistry { id, registry, line: line_of(around.text, &read.registry) })
    };
    let Some((names, _)) = table.list("destinations")? else {
        let homes: Vec<CacheRegistry> =
            (0..destinations.len()).map(DestinationId).filter_map(home).collect();
        return match homes.is_empty() {
            true => Err(Problem::at(&table.span, "no destination is an ECR registry by its name")
                .hint(NOT_ECR)),
            false => Ok(homes),
        };
    };
    let ids = chosen(&names, destinations)?;
    let named = |(id, name): (DestinationId, &Text)| {
        let label = "is not an ECR registry by its name";
        home(id).ok_or_else(|| name.wrong(NameError::new(label).hint(NOT_ECR)))
    };
    ids.into_iter().zip(&names).map(named).collect()
}

const NOT_ECR: &str = "only ECR caches, in an account and a region that its name tells: \
    `registry = \"123456789012.dkr.ecr.eu-west-1.amazonaws.com\"`";

/// A registry cannot cache itself.
fn refuse_itself(served: &Served<'_>) -> Result<(), Problem> {
    let Some(upstream) = served.ecr() else { return Ok(()) };
    let is_itself = |home: &&CacheRegistry| {
        (&home.registry.account, &home.registry.region) == (&upstream.account, &upstream.region)
    };
    match served.homes.iter().find(is_itself) {
        Some(home) => {
            let label = format!("the destination in line {} itself", home.line);
            Err(Problem::at(&served.url_span, label)
                .hint("name the `destinations` that are to cache it"))
        }
        None => Ok(()),
    }
}

impl Served<'_> {
    /// The private registry that is cached, where it is one.
    fn ecr(&self) -> Option<EcrHost> {
        EcrHost::parse(&self.url.parse().ok()?)
    }
}

/// A role, which ECR takes in the registry's own account.
///
/// Source: ECR API model, `customRoleArn`.
fn role(text: &Text, homes: &[CacheRegistry]) -> Result<String, Problem> {
    let role = arn::role(text)?;
    let account = Arn::parse(&role).map(|arn| arn.account);
    match homes.iter().find(|home| account != Some(home.registry.account())) {
        Some(home) => {
            let label = format!("not of the account of the destination in line {}", home.line);
            Err(Problem::at(&text.span, label).hint(
                "ECR takes a role of its own account: write a `[[pull_through]]` for each, with its `destinations` and its `role_arn`",
            ))
        }
        None => Ok(role),
    }
}

/// Source: ECR API model, `upstreamRepositoryPrefix`; user guide, "Customizing repository prefixes".
fn upstream_prefix(
    table: &Table<'_>,
    upstream: Upstream,
    prefix: &Prefix,
) -> Result<Prefix, Problem> {
    let Some(text) = table.text("upstream_prefix")? else { return Ok(Prefix::Root) };
    let below: Prefix = text.parse()?;
    let refused = match (&below, prefix, upstream) {
        (Prefix::Root, ..) | (_, Prefix::Path(_), Upstream::Ecr) => return Ok(below),
        (_, _, Upstream::Ecr) => Problem::at(&text.span, "`prefix` is `ROOT`, so this must be")
            .hint("leave `upstream_prefix` away, or give the rule a `prefix`"),
        _ => Problem::at(&text.span, "only of `upstream = \"ecr\"` does ECR cache a part")
            .hint("leave `upstream_prefix` away: repositories are cached as they are pulled"),
    };
    Err(refused)
}

/// Who else may pull through it.
fn access(table: &Table<'_>) -> Result<Option<Access>, Problem> {
    let Some(table) = table.table("access", &ACCESS)? else { return Ok(None) };
    let accounts = policies::accounts(&table)?.map(|(accounts, _)| accounts);
    let access = Access {
        organization: policies::organization(&table)?,
        accounts: accounts.unwrap_or_default(),
    };
    match access == Access::default() {
        true => Err(Problem::at(&table.span, "lets nobody pull")
            .hint("write `organization = \"o-…\"` or `accounts = [\"…\"]`, or leave it away")),
        false => Ok(Some(access)),
    }
}
