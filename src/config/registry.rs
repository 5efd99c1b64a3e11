//! `[registry."…"]`: how a registry is reached, source or destination.
//!
//! Guards the password: it leaves here as a [`UserPassword`] or not at all.

use std::{collections::BTreeMap, fs};

use super::{
    CredentialSource, FileContext, RegistryConfig,
    document::{Keys, Table, Text},
    problem::{Problem, Span, line_of},
    reason,
};
use crate::model::{Host, NameError, UserPassword};

const KEYS: Keys = Keys {
    title: "`[registry.\"…\"]`",
    names: &[
        "username",
        "password",
        "secret",
        "auth_host",
        "mirrors",
        "ca_file",
        "plain_http",
        "reserve_pulls",
        "max_connections",
    ],
};

/// All registries that are written, by their host; what is wrong with one goes to `problems`.
pub(super) fn read_all(
    root: &Table<'_>,
    around: &FileContext<'_>,
    problems: &mut Vec<Problem>,
) -> Result<BTreeMap<Host, RegistryConfig>, Problem> {
    let mut registries = BTreeMap::new();
    let mut places: BTreeMap<Host, Span> = BTreeMap::new();
    for (name, span, table) in root.named_tables("registry", &KEYS)? {
        let host = name.parse::<Host>().map_err(|error| Problem::name(&span, error));
        let read = host.and_then(|host| {
            if let Some(first) = places.get(&host) {
                let line = line_of(around.text, first);
                let label = format!("the same registry as in line {line}");
                return Err(Problem::at(&span, label).hint("write the two as one"));
            }
            let registry = read(&table?, around)?;
            Ok((host, registry))
        });
        match read {
            Ok((host, registry)) => {
                places.insert(host.clone(), span);
                registries.insert(host, registry);
            }
            Err(problem) => problems.push(problem),
        }
    }
    Ok(registries)
}

fn read(table: &Table<'_>, around: &FileContext<'_>) -> Result<RegistryConfig, Problem> {
    let hosts = table.list("mirrors")?.map(|(hosts, _)| hosts).unwrap_or_default();
    let connections = table.number("max_connections", 1)?;
    Ok(RegistryConfig {
        credentials: credentials(table)?,
        auth_host: table.text("auth_host")?.map(|text| text.parse()).transpose()?,
        mirrors: hosts.iter().map(Text::parse).collect::<Result<_, _>>()?,
        ca: table.word("ca_file")?.map(|file| certificates(&file, around)).transpose()?,
        plain_http: table.switch("plain_http")?.map(|(on, _)| on),
        reserve_pulls: table.number("reserve_pulls", 0)?.unwrap_or(0).into(),
        max_connections: connections.map(|number| number as usize),
    })
}

/// A login that is written here, or where Secrets Manager keeps it.
fn credentials(table: &Table<'_>) -> Result<Option<CredentialSource>, Problem> {
    let written = login(table)?.map(CredentialSource::Written);
    let Some(secret) = table.text("secret")? else { return Ok(written) };
    if written.is_some() {
        return Err(Problem::at(&secret.span, "stands beside `username` and `password`")
            .hint("keep the one or the other"));
    }
    let is_arn = secret.split(':').count() == 7
        && secret.starts_with("arn:")
        && secret.contains(":secretsmanager:");
    match is_arn {
        true => Ok(Some(CredentialSource::Secret(secret.to_string()))),
        false => Err(secret.wrong(NameError::new("is not the ARN of a secret").hint(
            "write it like `arn:aws:secretsmanager:eu-west-1:123456789012:secret:name-AbCdEf`",
        ))),
    }
}

/// Both or neither. Two empty ones are neither, so that `${VAR:-}` can leave them away.
fn login(table: &Table<'_>) -> Result<Option<UserPassword>, Problem> {
    let written = |text: Option<Text>| text.filter(|text| !text.is_empty());
    let username = written(table.text("username")?);
    let password = written(table.text("password")?);
    match (username, password) {
        (Some(username), Some(password)) => {
            Ok(Some(UserPassword::new(username.to_string(), &*password)))
        }
        (Some(only), None) => Err(Problem::at(&only.span, "has no `password` to go with")),
        (None, Some(only)) => Err(Problem::at(&only.span, "has no `username` to go with")),
        (None, None) => Ok(None),
    }
}

/// The file's content, when the HTTP client takes it for certificates.
fn certificates(file: &Text, around: &FileContext<'_>) -> Result<Vec<u8>, Problem> {
    let pem = fs::read(around.directory.join(&**file)).map_err(|error| {
        file.wrong(
            NameError::new(format!("cannot be read: {}", reason(&error)))
                .hint("the path is relative to the configuration file"),
        )
    })?;
    let certificates = reqwest::Certificate::from_pem_bundle(&pem).unwrap_or_default();
    let count = certificates.len();
    // only a client that is built has looked inside
    let client = reqwest::Client::builder().tls_certs_only(certificates).build();
    if count == 0 || client.is_err() {
        return Err(file.wrong(
            NameError::new("has no certificates in it")
                .hint("a CA file is PEM: blocks that begin with `-----BEGIN CERTIFICATE-----`"),
        ));
    }
    Ok(pem)
}
