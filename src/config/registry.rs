//! `[registry."…"]`: the connection settings of a source or destination.
//!
//! Returns a password only as a [`UserPassword`].

use std::{collections::BTreeMap, sync::Arc};

use toml::de::DeTable;

use super::{
    arn,
    context::{FileContext, ReadDestination},
    document::{Keys, ReadTables, Table, Text},
    entry::{ImageKeys, registry_keys},
    problem::{Problem, Span},
    types::{CredentialSource, RegistryConfig},
};
use crate::model::{
    EcrHost, Host, UserPassword,
    certificate::{Certificate, ClientCertificate},
};

const KEYS: Keys = Keys {
    title: "`[registry.\"…\"]`",
    names: "username password secret profile role_arn auth_host mirrors ca_file \
        client_cert_file client_key_file plain_http reserve_pulls max_connections \
        repository retag destinations on_conflict",
};

/// A registry, the keys that apply to its images, and its name.
pub(super) struct ReadRegistry {
    config: RegistryConfig,
    keys: ImageKeys,
    span: Span,
}

/// All registries of the configuration.
#[derive(Default)]
pub(super) struct ReadRegistries {
    pub(super) configs: BTreeMap<Host, RegistryConfig>,
    pub(super) keys: BTreeMap<Host, ImageKeys>,
    pub(super) spans: Vec<(Host, Span)>,
}

/// Reads all registries, and appends their mistakes to `problems`.
pub(super) fn read_all(
    root: &Table<'_>,
    destinations: &ReadTables<ReadDestination>,
    file: &FileContext<'_>,
    problems: &mut Vec<Problem>,
) -> ReadRegistries {
    let mut registries = ReadRegistries::default();
    let hint = format!("write {}", KEYS.title);
    let named = match root.entries("registry", "a table") {
        Ok(named) => named,
        Err(problem) => {
            problems.push(problem.hint(hint));
            return registries;
        }
    };
    for (name, value) in named {
        let host = match name.get_ref().parse::<Host>() {
            Ok(host) => host,
            Err(error) => {
                problems.push(Problem::invalid_name(&name.span(), error));
                continue;
            }
        };
        if let Some((_, first)) = registries.spans.iter().find(|(other, _)| *other == host) {
            let label = format!("duplicate registry: line {} has it too", file.line_of(first));
            problems.push(Problem::at(&name.span(), label).hint("merge the two tables"));
            continue;
        }
        let none = DeTable::default();
        let entries = value.get_ref().as_table().unwrap_or(&none);
        let registry = file.attempt(entries, problems, || {
            let table = root.open_value(value, &KEYS)?;
            let keys = registry_keys(&table, destinations)?;
            Ok(ReadRegistry { config: read(&table, &host, file)?, keys, span: name.span() })
        });
        let Some(ReadRegistry { config, keys, span }) = registry else { continue };
        registries.configs.insert(host.clone(), config);
        registries.keys.insert(host.clone(), keys);
        registries.spans.push((host, span));
    }
    registries
}

fn read(table: &Table<'_>, host: &Host, file: &FileContext<'_>) -> Result<RegistryConfig, Problem> {
    for key in ["profile", "role_arn"] {
        if let (Some(span), None) = (table.span_of(key), EcrHost::parse(host)) {
            let label = format!("`{key}` applies to ECR only, and this registry is not ECR");
            return Err(Problem::at(&span, label).hint(format!("remove `{key}`")));
        }
    }
    let connections = table.number("max_connections", 1)?;
    Ok(RegistryConfig {
        credentials: credentials(table)?,
        profile: table.word("profile")?.map(|text| text.to_string()),
        role_arn: table.text("role_arn")?.map(|text| arn::role(&text)).transpose()?,
        auth_host: table.parsed("auth_host")?,
        mirrors: table.parsed_list("mirrors")?,
        ca: table.word("ca_file")?.map(|path| Ok(certificates(&path, file)?.1)).transpose()?,
        client_certificate: client_certificate(table, file)?,
        plain_http: table.switch("plain_http")?,
        reserve_pulls: table.number("reserve_pulls", 0)?.unwrap_or(0).into(),
        max_connections: connections.map(|number| number as usize),
    })
}

fn credentials(table: &Table<'_>) -> Result<Option<CredentialSource>, Problem> {
    let written = login(table)?.map(CredentialSource::Written);
    let Some(secret) = table.text("secret")? else { return Ok(written) };
    if written.is_some() {
        return Err(Problem::conflict(&secret.span, "`username` and `password`"));
    }
    let is_arn = secret.split(':').count() == 7
        && secret.starts_with("arn:")
        && secret.contains(":secretsmanager:");
    let hint =
        "write an ARN like `arn:aws:secretsmanager:eu-west-1:123456789012:secret:name-AbCdEf`";
    let secret = secret.checked(is_arn, "is not the ARN of a secret", hint)?;
    Ok(Some(CredentialSource::Secret(secret)))
}

/// Both keys or neither. Empty ones count as absent, so that `${VAR:-}` makes them optional.
fn login(table: &Table<'_>) -> Result<Option<UserPassword>, Problem> {
    let written = |text: Option<Text>| text.filter(|text| !text.is_empty());
    match (written(table.text("username")?), written(table.text("password")?)) {
        (Some(username), Some(password)) => {
            Ok(Some(UserPassword::new(username.to_string(), &*password)))
        }
        (Some(only), None) => Err(Problem::needing(&only.span, "`username` requires `password`")
            .hint("add `password`, or remove `username`")),
        (None, Some(only)) => Err(Problem::needing(&only.span, "`password` requires `username`")
            .hint("add `username`, or remove `password`")),
        (None, None) => Ok(None),
    }
}

fn certificates(path: &Text, file: &FileContext<'_>) -> Result<(Vec<u8>, Certificate), Problem> {
    let pem = file.read(path)?;
    let found = Certificate::from_pem(&pem).map_err(|_| {
        path.invalid(
            "contains no valid certificate",
            "name a PEM file, with blocks that begin with `-----BEGIN CERTIFICATE-----`",
        )
    })?;
    Ok((pem, found))
}

/// Both keys or neither: a certificate and its key.
fn client_certificate(
    table: &Table<'_>,
    file: &FileContext<'_>,
) -> Result<Option<Arc<ClientCertificate>>, Problem> {
    let (certificate, key) = (table.word("client_cert_file")?, table.word("client_key_file")?);
    let (certificate, key) = match (certificate, key) {
        (Some(certificate), Some(key)) => (certificate, key),
        (None, None) => return Ok(None),
        (Some(only), None) => {
            return Err(Problem::needing(
                &only.span,
                "`client_cert_file` requires `client_key_file`",
            )
            .hint("add `client_key_file`, or remove `client_cert_file`"));
        }
        (None, Some(only)) => {
            return Err(Problem::needing(
                &only.span,
                "`client_key_file` requires `client_cert_file`",
            )
            .hint("add `client_cert_file`, or remove `client_key_file`"));
        }
    };
    let (pem, _) = certificates(&certificate, file)?;
    match ClientCertificate::from_pem(&pem, &file.read(&key)?) {
        Ok(pair) => Ok(Some(Arc::new(pair))),
        Err(_) => Err(key.invalid(
            "is not the private key of `client_cert_file`",
            "name the PEM file of its key, without a passphrase (`openssl pkey -in KEY -out PLAIN`)",
        )),
    }
}
