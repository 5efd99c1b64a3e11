//! `[[destination]]`: a registry that images are mirrored to.

use url::Url;

use super::{
    account, arn,
    context::{FileContext, ReadDestination},
    document::{Keys, ReadTables, Table, Text, in_backticks, nearest},
    entry::{Level, naming_rule},
    problem::Problem,
    rates, repositories, spelling,
    types::{Aws, DestinationConfig},
};
use crate::model::{DestinationId, EcrHost, Location, Repository};

pub(super) const KEYS: Keys = Keys {
    title: "`[[destination]]`",
    names: "registry name prefix repository profile role_arn external_id endpoint_url repositories \
        account rates",
};

const ECR_KEYS: [&str; 7] =
    ["profile", "role_arn", "external_id", "endpoint_url", "repositories", "account", "rates"];

pub(super) fn read(table: &Table<'_>, file: &FileContext<'_>) -> Result<ReadDestination, Problem> {
    let hint = "add `registry = \"123456789012.dkr.ecr.eu-west-1.amazonaws.com\"`";
    let Some(registry) = table.text("registry")? else {
        // the mistakes of keys that do not depend on it
        table.text("prefix")?.map(|text| read_prefix(&text, false)).transpose()?;
        aws(table)?;
        account::read(table)?;
        return Err(table.missing("registry", hint));
    };
    let location: Location = registry.parse()?;
    location.check_destination().map_err(|error| registry.problem(error))?;
    let name = table.word("name")?;
    let prefix = table.text("prefix")?;
    let aws = aws(table)?;
    reject_ecr_keys(table, &location)?;
    let is_ecr = aws.endpoint_url.is_some() || location.ecr().is_some();
    if let (Some(host), false) = (location.host(), aws.endpoint_url.is_some())
        && let Some(warning) = spelling::ecr_host(host, &registry.span)
    {
        table.warn(warning);
    }
    let prefix = prefix.map(|text| read_prefix(&text, is_ecr)).transpose()?;
    let partition = location.ecr().map_or("aws", |ecr| ecr.partition());
    let named = name.as_ref().unwrap_or(&registry);
    Ok(ReadDestination {
        name: named.span.clone(),
        name_as_written: named.as_written().map(str::to_owned),
        registry: registry.span.clone(),
        rates: table.span_of("rates"),
        rule: naming_rule(table, Level::Destination)?,
        destination: DestinationConfig {
            name: name.map_or_else(|| location.to_string(), |name| name.to_string()),
            registry: location.below(&file.sources.directory_of(&registry.span)),
            prefix,
            aws,
            repositories: repositories::read(table, file, partition)?,
            account: account::read(table)?,
            rates: rates::read(table)?,
        },
    })
}

fn read_prefix(text: &Text, is_ecr: bool) -> Result<Repository, Problem> {
    let prefix: Repository = text.parse()?;
    if is_ecr {
        prefix.check_ecr().map_err(|error| text.problem(error))?;
    }
    Ok(prefix)
}

fn aws(table: &Table<'_>) -> Result<Aws, Problem> {
    let owned = |text: Option<Text>| text.map(|text| text.to_string());
    let role_arn = table.text("role_arn")?.map(|text| arn::role(&text)).transpose()?;
    let external_id = table.word("external_id")?;
    if let (None, Some(external_id)) = (&role_arn, &external_id) {
        return Err(Problem::needing(&external_id.span, "`external_id` requires `role_arn`")
            .hint("add `role_arn`, or remove `external_id`"));
    }
    Ok(Aws {
        profile: owned(table.word("profile")?),
        region: None,
        role_arn,
        external_id: owned(external_id),
        endpoint_url: table.text("endpoint_url")?.map(|text| endpoint(&text)).transpose()?,
    })
}

fn endpoint(text: &Text) -> Result<Url, Problem> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    url.ok_or_else(|| {
        text.invalid(
            "is not an endpoint URL",
            "write an `http` or `https` URL, like `http://127.0.0.1:4566`",
        )
    })
}

/// Rejects the keys of AWS if the destination is not ECR.
fn reject_ecr_keys(table: &Table<'_>, location: &Location) -> Result<(), Problem> {
    let (subject, alternative) = match (location.host(), table.span_of("endpoint_url")) {
        (None, _) => ("an OCI layout", ""),
        (Some(host), None) if EcrHost::parse(host).is_none() => {
            ("this registry", ", or set `endpoint_url` to the ECR API to use")
        }
        _ => return Ok(()),
    };
    for key in ECR_KEYS {
        if let Some(span) = table.span_of(key) {
            let label = format!("`{key}` applies to ECR only, and {subject} is not ECR");
            return Err(Problem::at(&span, label).hint(format!("remove `{key}`{alternative}")));
        }
    }
    Ok(())
}

/// The destinations of these names. A name can be that of a destination that could not be read: then it
/// is left out.
pub(super) fn by_name(
    names: &[Text],
    destinations: &ReadTables<ReadDestination>,
) -> Result<Vec<DestinationId>, Problem> {
    let mut ids = Vec::new();
    for name in names {
        let index = destinations.read.iter().position(|read| read.destination.name == **name);
        let id = match index.map(DestinationId) {
            Some(id) => id,
            None if !destinations.is_complete => continue,
            None => return Err(unknown_destination(name, &destinations.read)),
        };
        if ids.contains(&id) {
            return Err(Problem::duplicate(&name.span, "destination"));
        }
        ids.push(id);
    }
    Ok(ids)
}

fn unknown_destination(name: &Text, destinations: &[ReadDestination]) -> Problem {
    let known: Vec<&str> =
        destinations.iter().filter_map(|read| read.name_as_written.as_deref()).collect();
    let all = in_backticks(&known);
    let hint = match nearest(name, &known) {
        _ if known.is_empty() => "write the `name` of a `[[destination]]`".to_owned(),
        Some(near) => format!("did you mean `{near}`? the destinations are {all}"),
        None => format!("write one of {all}"),
    };
    name.invalid("is not the name of a destination", hint)
}
