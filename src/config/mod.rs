//! Reads `mirror.toml`: sources, destinations, and the parts of each image to mirror.
//!
//! Parses every string into its type, or returns an error that points at it. Users of a
//! [`Config`] never validate a name again. Sends no request. Reads only the configuration and the
//! CA and policy files that it names.

mod account;
mod arn;
mod collisions;
mod context;
mod destination;
mod document;
mod entry;
mod images;
mod interpolate;
mod lint;
mod policies;
mod problem;
mod pull_through;
mod rates;
mod registry;
mod repositories;
mod retag;
mod select;
mod spelling;
#[cfg(test)]
mod tests;
mod types;
mod via;

use std::{collections::BTreeMap, fs, io, path::Path};

use toml::de::DeTable;

pub use self::{
    collisions::between_listed,
    images::{CacheTarget, Entry, MirrorTarget, Tags},
    problem::ConfigError,
    retag::Retag,
    types::{Aws, Config, CredentialSource, DestinationConfig, RegistryConfig},
};
use self::{
    context::{FileContext, Tables, describe},
    document::{Keys, Table, Warnings},
    interpolate::Environment,
    problem::Problem,
};
pub use crate::model::ecr_settings::{AccountSettings, RepositoryRules};
pub use crate::model::pull_through::Cache;

const ROOT: Keys =
    Keys { title: "the configuration", names: "destination registry defaults image pull_through" };

impl Config {
    /// Reads the file. Paths in it are relative to its directory.
    ///
    /// # Errors
    /// If the file cannot be read or is not UTF-8, and those of [`Config::parse`].
    pub fn load(
        path: &Path,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        let bytes = fs::read(path).map_err(|error| unreadable(&name, &error))?;
        let directory = path.parent().unwrap_or(Path::new(""));
        let text = String::from_utf8(bytes).map_err(|error| not_utf8(&name, &error))?;
        Self::parse(&name, &text, directory, environment)
    }

    /// Parses a text. Errors call it `name`; `environment` returns the value of a variable.
    ///
    /// # Errors
    /// The first problem of every invalid table, or the problems between valid tables.
    pub fn parse(
        name: &str,
        text: &str,
        directory: &Path,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let invalid = |problems| ConfigError::new(name, text, problems);
        let (document, errors) = DeTable::parse_recoverable(text);
        if let Some(problem) = syntax(text, &errors) {
            return Err(invalid(vec![problem]));
        }
        let file = FileContext { text, directory, warnings: Warnings::default() };
        let (config, warnings) = read(document.get_ref(), &file, environment).map_err(invalid)?;
        Ok(Self { warnings: problem::warnings(name, text, warnings), ..config })
    }
}

/// The configuration without its warnings, and the warnings.
fn read(
    document: &DeTable<'_>,
    file: &FileContext<'_>,
    environment: Environment<'_>,
) -> Result<(Config, Vec<Problem>), Vec<Problem>> {
    let root = Table::open(document, 0..0, &ROOT, environment, &file.warnings)?;
    if root.is_empty() {
        let problem = Problem::whole_file("the configuration is empty");
        return Err(problem.hint("start from `mirror.toml.example`").into());
    }
    let mut problems = Vec::new();
    let tables = root.tables("destination", &destination::KEYS)?;
    let destinations = read_each(tables, &mut problems, |table| destination::read(&table, file));
    let registries = registry::read_all(&root, file, &mut problems)?;
    let defaults = entry::defaults(&root).map_err(|problem| problems.push(problem));
    let (Ok(defaults), true) = (defaults, problems.is_empty()) else { return Err(problems) };
    if destinations.is_empty() {
        let problem = Problem::whole_file("the configuration has no `[[destination]]`");
        return Err(problem.hint(NO_DESTINATION).into());
    }
    collisions::between_destinations(&destinations, file)?;

    let tables = root.tables("pull_through", &pull_through::KEYS)?;
    let caches =
        read_each(tables, &mut problems, |table| pull_through::read(&table, &destinations, file));
    if !problems.is_empty() {
        return Err(problems);
    }
    let context = Tables { destinations: &destinations, caches: &caches, file };
    let tables = root.tables("image", &entry::KEYS)?;
    let entries =
        read_each(tables, &mut problems, |table| entry::read(&table, &defaults, &context));
    if problems.is_empty() {
        problems = collisions::between_images(&entries, &context);
        problems.extend(lint::errors(&entries, &context));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let spans = registry::spans(&root)?;
    let unused = spelling::unused_registries(&registries, &spans, &entries, &context);
    let mut warnings = file.warnings.take();
    warnings.extend(lint::warnings(&entries, &context).into_iter().chain(unused));
    let config = Config {
        registries,
        entries: entries.into_iter().map(|read| read.entry).collect(),
        caches: caches.into_iter().map(|read| read.cache).collect(),
        destinations: destinations.into_iter().map(|read| read.destination).collect(),
        pull_shares: BTreeMap::new(),
        warnings: Vec::new(),
    };
    Ok((config, warnings))
}

const NO_DESTINATION: &str = "add a `[[destination]]` with \
    `registry = \"123456789012.dkr.ecr.eu-west-1.amazonaws.com\"`";

/// Reads each table; appends the errors to `problems`.
fn read_each<'a, T>(
    tables: Vec<Result<Table<'a>, Problem>>,
    problems: &mut Vec<Problem>,
    read: impl Fn(Table<'a>) -> Result<T, Problem>,
) -> Vec<T> {
    let results = tables.into_iter().map(|table| table.and_then(&read));
    results.filter_map(|result| result.map_err(|problem| problems.push(problem)).ok()).collect()
}

/// The problem of the first line that is not TOML. The parser can report its consequences first.
fn syntax(text: &str, errors: &[toml::de::Error]) -> Option<Problem> {
    let span = |error: &toml::de::Error| error.span().unwrap_or(text.len()..text.len());
    let start = errors.iter().map(|error| span(error).start).min()?;
    let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
    let error = errors.iter().find(|error| span(error).start <= line_end)?;
    Some(Problem::at(&span(error), error.message().replace('\n', ", ")))
}

fn unreadable(name: &str, error: &io::Error) -> ConfigError {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => {
            "copy `mirror.toml.example` to `mirror.toml`, or name another file with `-c FILE`"
        }
        _ => "name another file with `-c FILE`",
    };
    ConfigError::whole_file(&format!("cannot read `{name}`: {}", describe(error)), hint)
}

fn not_utf8(name: &str, error: &std::string::FromUtf8Error) -> ConfigError {
    let at = error.utf8_error().valid_up_to();
    let byte = error.as_bytes()[at];
    let text = String::from_utf8_lossy(error.as_bytes());
    let span = at..at + char::REPLACEMENT_CHARACTER.len_utf8();
    let problem = Problem::at(&span, format!("byte 0x{byte:02X} at offset {at} is not UTF-8"))
        .hint("save the file as UTF-8");
    ConfigError::new(name, &text, vec![problem])
}
