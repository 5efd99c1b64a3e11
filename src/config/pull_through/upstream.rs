//! `upstream`, `url` and `destinations`: a registry, and the ECR registries that cache it.

use crate::{
    config::{
        arn::{self, Arn},
        context::{FileContext, ReadDestination},
        destination::by_name,
        document::{ReadTables, Table, Text, in_backticks, nearest},
        problem::{Problem, Span},
    },
    model::{DestinationId, EcrHost, Host, pull_through::Upstream},
};

pub(super) struct CachedUpstream {
    pub(super) upstream: Upstream,
    pub(super) span: Span,
    /// Without a scheme.
    pub(super) url: String,
    /// The span of `url`, or of `upstream` without one.
    pub(super) url_span: Span,
    /// Never empty.
    pub(super) registries: Vec<CacheRegistry>,
}

pub(super) struct CacheRegistry {
    pub(super) id: DestinationId,
    pub(super) host: EcrHost,
    /// The line of the file in which it is written.
    pub(super) line: String,
}

impl CachedUpstream {
    pub(super) fn ecr(&self) -> Option<EcrHost> {
        EcrHost::parse(&self.url.parse().ok()?)
    }
}

pub(super) fn read(
    table: &Table<'_>,
    destinations: &ReadTables<ReadDestination>,
    file: &FileContext<'_>,
) -> Result<CachedUpstream, Problem> {
    let (upstream, span) = upstream(table)?;
    let url = url(table, upstream, &span)?;
    let url_span = table.span_of("url").unwrap_or_else(|| span.clone());
    let registries = registries(table, destinations, file)?;
    let cached = CachedUpstream { upstream, span, url, url_span, registries };
    let ecr = cached.ecr();
    let is_itself = |registry: &&CacheRegistry| {
        ecr.as_ref().is_some_and(|ecr| {
            (&registry.host.account, &registry.host.region) == (&ecr.account, &ecr.region)
        })
    };
    if let Some(registry) = cached.registries.iter().find(is_itself) {
        let label = format!("the destination in line {} cannot cache itself", registry.line);
        return Err(Problem::at(&cached.url_span, label)
            .hint("set `destinations` to the registries that cache this upstream"));
    }
    Ok(cached)
}

fn upstream(table: &Table<'_>) -> Result<(Upstream, Span), Problem> {
    let names: Vec<&str> = Upstream::all().map(Upstream::name).collect();
    let all = in_backticks(&names);
    let Some(text) = table.text("upstream")? else {
        let hint = format!("add the registry to cache: `upstream` is one of {all}");
        return Err(table.missing("upstream", hint));
    };
    if let Some(upstream) = Upstream::all().find(|upstream| upstream.name() == &*text) {
        return Ok((upstream, text.span));
    }
    // the API's name of the upstream, or its host
    let has_api_name = |upstream: &Upstream| upstream.api_name() == &*text;
    let at_host = || Upstream::at(&text.parse::<Host>().ok()?);
    let near = Upstream::all().find(has_api_name).or_else(at_host).map(Upstream::name);
    let problem = Problem::at(&text.span, "ECR cannot cache this upstream");
    Err(match near.or_else(|| nearest(&text, &names)) {
        Some(near) => problem.hint(format!("did you mean `{near}`? ECR caches {all}")),
        None => {
            problem.hint(format!("mirror this registry with an `[[image]]`: ECR caches only {all}"))
        }
    })
}

fn url(table: &Table<'_>, upstream: Upstream, span: &Span) -> Result<String, Problem> {
    let name = upstream.name();
    let text = table.text("url")?;
    if let Some(known) = upstream.url() {
        let other = text.filter(|text| &**text != known);
        return other.map_or(Ok(known.to_owned()), |text| {
            Err(Problem::at(&text.span, format!("not the host of `{name}`"))
                .hint(format!("remove `url`: ECR caches only `{known}`")))
        });
    }
    let hint = match upstream {
        Upstream::Azure => "write its host, like `url = \"NAME.azurecr.io\"`",
        _ => PLAIN_NAME,
    };
    let Some(text) = text else {
        return Err(Problem::needing(span, format!("`{name}` requires a `url`")).hint(hint));
    };
    let host: Host = text.parse()?;
    let label = format!("is not a host of `{name}` that ECR can cache");
    text.checked(Upstream::at(&host) == Some(upstream), &label, hint)?;
    Ok(host.to_string())
}

const PLAIN_NAME: &str = "write the host name that is neither FIPS nor dual-stack, like \
    `url = \"123456789012.dkr.ecr.eu-west-1.amazonaws.com\"`";

/// The registries of `destinations`; without the key, all ECR registries.
fn registries(
    table: &Table<'_>,
    destinations: &ReadTables<ReadDestination>,
    file: &FileContext<'_>,
) -> Result<Vec<CacheRegistry>, Problem> {
    let registry = |id: DestinationId| {
        let read = &destinations.read[id.0];
        let host = read.destination.registry.ecr()?;
        Some(CacheRegistry { id, host, line: file.line_of(&read.registry) })
    };
    let Some(names) = table.list("destinations")? else {
        let all: Vec<_> =
            (0..destinations.read.len()).map(DestinationId).filter_map(registry).collect();
        if all.is_empty() {
            let label = "no destination has the host name of an ECR registry";
            return Err(Problem::at(&table.span, label).hint(NOT_ECR));
        }
        return Ok(all);
    };
    let label = "is not a destination with the host name of an ECR registry";
    let named = by_name(&names, destinations)?.into_iter().zip(&names);
    named.map(|(id, name)| registry(id).ok_or_else(|| name.invalid(label, NOT_ECR))).collect()
}

const NOT_ECR: &str = "use a destination whose host name contains the account and region, like \
    `registry = \"123456789012.dkr.ecr.eu-west-1.amazonaws.com\"`";

/// The ARN of a role in the account of every registry.
///
/// Source: ECR API model, `customRoleArn`.
pub(super) fn role(text: &Text, registries: &[CacheRegistry]) -> Result<String, Problem> {
    let role = arn::role(text)?;
    let account = Arn::parse(&role).map(|arn| arn.account);
    let elsewhere = registries.iter().find(|registry| account != Some(&registry.host.account));
    let Some(registry) = elsewhere else { return Ok(role) };
    let label = format!("not in the account of the destination in line {}", registry.line);
    Err(Problem::at(&text.span, label).hint(
        "write one `[[pull_through]]` per account, with its `destinations` and a `role_arn` of that account",
    ))
}
