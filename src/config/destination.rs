//! `[[destination]]`: a registry that images are mirrored to.

use url::Url;

use super::{
    Aws, DestinationConfig, FileContext, account, arn,
    document::{Keys, Table, Text, in_backticks, nearest},
    problem::{Problem, Span},
    repositories,
};
use crate::model::{DestinationId, EcrHost, Location, NameError};

pub(super) const KEYS: Keys = Keys {
    title: "`[[destination]]`",
    names: &[
        "registry",
        "name",
        "prefix",
        "profile",
        "role_arn",
        "external_id",
        "endpoint_url",
        "repositories",
        "account",
    ],
};

/// A destination and where it is written.
pub(super) struct ReadDestination {
    pub(super) destination: DestinationConfig,
    /// Its name, or the registry that stands for one.
    pub(super) name: Span,
    /// Its name, where no variable is in it.
    pub(super) name_as_written: Option<String>,
    pub(super) registry: Span,
}

pub(super) fn read(
    table: &Table<'_>,
    around: &FileContext<'_>,
) -> Result<ReadDestination, Problem> {
    let Some(registry) = table.text("registry")? else {
        return Err(Problem::at(&table.span, "has no `registry`")
            .hint("write `registry = \"123456789012.dkr.ecr.eu-west-1.amazonaws.com\"`"));
    };
    let site: Location = registry.parse()?;
    let name = table.word("name")?;
    let prefix = table.text("prefix")?.map(|text| text.parse()).transpose()?;
    let aws = aws(table)?;
    refuse_keys(table, &site)?;
    let ecr = site.host().and_then(EcrHost::parse);
    let partition = ecr.as_ref().map_or("aws", EcrHost::partition);
    let repositories = repositories::read(table, around, partition)?;
    let account = account::read(table)?;
    let named = name.as_ref().unwrap_or(&registry);
    Ok(ReadDestination {
        name: named.span.clone(),
        name_as_written: named.as_written().map(str::to_owned),
        registry: registry.span.clone(),
        destination: DestinationConfig {
            name: name.map_or_else(|| site.to_string(), |name| name.to_string()),
            registry: site.below(around.directory),
            prefix,
            aws,
            repositories,
            account,
        },
    })
}

fn aws(table: &Table<'_>) -> Result<Aws, Problem> {
    let owned = |text: Option<Text>| text.map(|text| text.to_string());
    let role = table.text("role_arn")?.map(|text| arn::role(&text)).transpose()?;
    let external_id = table.word("external_id")?;
    if let (None, Some(external_id)) = (&role, &external_id) {
        return Err(Problem::at(&external_id.span, "has no `role_arn` to go with"));
    }
    Ok(Aws {
        profile: owned(table.word("profile")?),
        role_arn: role,
        external_id: owned(external_id),
        endpoint_url: table.text("endpoint_url")?.map(|text| endpoint(&text)).transpose()?,
    })
}

fn endpoint(text: &Text) -> Result<Url, Problem> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    url.ok_or_else(|| {
        let error = NameError::new("is not an endpoint")
            .hint("write a whole URL, like `http://127.0.0.1:4566`");
        text.wrong(error)
    })
}

/// What only means something to AWS, on a registry that is not its.
fn refuse_keys(table: &Table<'_>, site: &Location) -> Result<(), Problem> {
    let (what, hint) = match (site.host(), table.place("endpoint_url")) {
        (None, _) => ("an OCI layout", ""),
        (Some(host), None) if EcrHost::parse(host).is_none() => {
            ("this registry", ", or name the ECR API to use with `endpoint_url`")
        }
        _ => return Ok(()),
    };
    let keys = ["profile", "role_arn", "external_id", "endpoint_url", "repositories", "account"];
    for key in keys {
        if let Some(span) = table.place(key) {
            return Err(Problem::at(&span, format!("`{key}` is for ECR, {what} is not ECR"))
                .hint(format!("leave `{key}` away{hint}")));
        }
    }
    Ok(())
}

/// The destinations of these names.
pub(super) fn chosen(
    names: &[Text],
    destinations: &[ReadDestination],
) -> Result<Vec<DestinationId>, Problem> {
    let mut chosen = Vec::new();
    for name in names {
        let found = destinations.iter().position(|read| read.destination.name == **name);
        let Some(id) = found.map(DestinationId) else {
            return Err(unknown_destination(name, destinations));
        };
        if chosen.contains(&id) {
            return Err(Problem::at(&name.span, "the same destination twice"));
        }
        chosen.push(id);
    }
    Ok(chosen)
}

fn unknown_destination(name: &Text, destinations: &[ReadDestination]) -> Problem {
    let known: Vec<&str> =
        destinations.iter().filter_map(|read| read.name_as_written.as_deref()).collect();
    let error = NameError::new("is not the name of a destination");
    name.wrong(match nearest(name, &known) {
        _ if known.is_empty() => error,
        Some(near) => {
            error.hint(format!("did you mean `{near}`? there is {}", in_backticks(&known)))
        }
        None => error.hint(format!("there is {}", in_backticks(&known))),
    })
}
