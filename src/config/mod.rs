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
pub(crate) mod edit;
mod entry;
mod images;
mod interpolate;
mod lint;
pub(crate) mod list;
mod naming;
mod policies;
mod problem;
mod pull_through;
mod rates;
mod registry;
mod repositories;
mod retag;
mod samples;
mod select;
mod source;
mod spelling;
mod syntax;
#[cfg(test)]
mod tests;
mod types;
mod via;
mod wildcard;

use std::{collections::BTreeMap, path::Path};

pub use self::{
    collisions::{Overlap, Overlaps, between_listed, target_reference},
    images::{CacheTarget, Entry, MirrorTarget, OnConflict, Tags},
    problem::ConfigError,
    retag::Retag,
    samples::NamingSample,
    types::{Aws, Config, CredentialSource, DestinationConfig, RegistryConfig},
    wildcard::{KnownRepositories, ListedRepositories, Wildcard},
};
use self::{
    context::{FileContext, ReadEntry, Tables},
    document::{Keys, ReadTables, Table},
    interpolate::Environment,
    problem::Problem,
    source::Sources,
};
pub(crate) use self::{source::is_file_name, types::NameFilter, wildcard::can_be_equal};
pub use crate::model::ecr_settings::{AccountSettings, RepositoryRules};
pub use crate::model::pull_through::Cache;

const ROOT: Keys = Keys {
    title: "the configuration",
    names: "destination repository registry defaults images list image pull_through include",
};

/// The additions to a configuration that is read again.
#[derive(Debug, Default)]
pub(crate) struct MoreToRead {
    /// Tables in TOML.
    pub(crate) tables: String,
    /// The known repositories of sources with a `*`.
    pub(crate) repositories: ListedRepositories,
}

impl Config {
    /// Reads the files, `-` for standard input and `env:NAME` for variables, as one configuration.
    /// Paths in a file are relative to its directory, others to the working directory.
    ///
    /// # Errors
    /// If a file cannot be read or is not UTF-8, and those of [`Config::parse`].
    pub fn load(
        locations: &[impl AsRef<Path>],
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        Self::load_with(locations, environment, |_| MoreToRead::default())
    }

    /// Reads the files as [`Config::load`] does, and then again with more, which can depend on the
    /// first reading.
    ///
    /// # Errors
    /// Those of [`Config::load`].
    pub(crate) fn load_with(
        locations: &[impl AsRef<Path>],
        environment: &dyn Fn(&str) -> Option<String>,
        more: impl FnOnce(&Self) -> MoreToRead,
    ) -> Result<Self, ConfigError> {
        Self::load_sources(&Sources::default(), locations, environment, more)
    }

    /// Reads the files as [`Config::load_with`] does, with this text for the file of `edited`.
    ///
    /// # Errors
    /// Those of [`Config::load`].
    pub(crate) fn load_edited(
        locations: &[impl AsRef<Path>],
        edited: (&Path, &str),
        environment: &dyn Fn(&str) -> Option<String>,
        more: impl FnOnce(&Self) -> MoreToRead,
    ) -> Result<Self, ConfigError> {
        let (path, text) = edited;
        Self::load_sources(&Sources::with_edited(path, text), locations, environment, more)
    }

    fn load_sources(
        sources: &Sources,
        locations: &[impl AsRef<Path>],
        environment: &dyn Fn(&str) -> Option<String>,
        more: impl FnOnce(&Self) -> MoreToRead,
    ) -> Result<Self, ConfigError> {
        for location in locations {
            sources.load(location.as_ref(), environment)?;
        }
        if sources.files().is_empty() {
            let hint = "name a file, `-`, or `env:NAME`";
            return Err(ConfigError::whole_file("no configuration file is named", hint));
        }
        let config = Self::read(sources, environment, &ListedRepositories::new())?;
        let MoreToRead { tables, repositories } = more(&config);
        if tables.is_empty() && repositories.is_empty() {
            return Ok(config);
        }
        sources.generate(tables);
        Self::read(sources, environment, &repositories)
    }

    /// The configuration with the repositories of its wildcards. Reads the same texts again.
    ///
    /// # Errors
    /// If more repositories match a wildcard than it allows, or none, and those of [`Config::parse`].
    pub(crate) fn expanded(
        &self,
        listed: &ListedRepositories,
        environment: Environment<'_>,
    ) -> Result<Self, ConfigError> {
        Self::read(&Sources::again(&self.files), environment, listed)
    }

    /// Parses a text. Errors call it `name`; `environment` returns the value of a variable.
    ///
    /// # Errors
    /// All mistakes in its tables, or else the problems between valid tables.
    pub fn parse(
        name: &str,
        text: &str,
        directory: &Path,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let sources = Sources::of(name, text, directory);
        sources.include_all(environment)?;
        Self::read(&sources, environment, &ListedRepositories::new())
    }

    /// Parses tables that no file has.
    ///
    /// # Errors
    /// Those of [`Config::parse`].
    pub(crate) fn generated(text: String) -> Result<Self, ConfigError> {
        let sources = Sources::default();
        sources.generate(text);
        Self::read(&sources, &|_| None, &ListedRepositories::new())
    }

    fn read(
        sources: &Sources,
        environment: Environment<'_>,
        listed: &ListedRepositories,
    ) -> Result<Self, ConfigError> {
        let invalid = |problems| ConfigError::new(sources, problems);
        let files = sources.files();
        let mut problems = Vec::new();
        let Some(document) = sources.document(&files, &mut problems) else {
            return Err(invalid(problems));
        };
        let file = FileContext::new(sources, environment, listed);
        let root =
            file.attempt(&document, &mut problems, || Table::open(&document, 0..0, &ROOT, &file));
        let config = root.and_then(|root| read(&root, &file, &mut problems));
        match config {
            Some(config) if problems.is_empty() => {
                Ok(Self { warnings: problem::warnings(sources, file.warnings()), ..config })
            }
            _ => Err(invalid(problems)),
        }
    }
}

/// The configuration without its warnings. `None`, or any problem, means that it is invalid.
fn read(root: &Table<'_>, file: &FileContext<'_>, problems: &mut Vec<Problem>) -> Option<Config> {
    if root.is_empty() && problems.is_empty() {
        let problem = Problem::whole_file("the configuration is empty");
        problems.push(problem.hint("start from `mirror.toml.example`"));
        return None;
    }
    let mut destinations = root
        .each("destination", &destination::KEYS, problems, |table| destination::read(table, file));
    let registries = registry::read_all(root, &destinations, file, problems);
    let defaults = file.attempt(root.content(), problems, || entry::defaults(root, &destinations));
    if destinations.read.is_empty() && destinations.is_complete {
        let problem = Problem::whole_file("the configuration has no `[[destination]]`");
        problems.push(problem.hint(NO_DESTINATION));
        return None;
    }
    problems.extend(collisions::between_destinations(&destinations.read, file).err());
    problems.extend(rates::share(&mut destinations.read, file).err());
    // what needs a certain registry cannot be judged without all of them
    let mut overrides = Vec::new();
    let mut caches = ReadTables { read: Vec::new(), is_complete: false };
    if destinations.is_complete {
        overrides = repositories::overrides(root, &mut destinations.read, file, problems);
        caches = root.each("pull_through", &pull_through::KEYS, problems, |table| {
            pull_through::read(table, &destinations, file)
        });
    }
    let tables = Tables {
        destinations: &destinations,
        caches: &caches.read,
        has_all_caches: caches.is_complete,
        registries: &registries.keys,
        defaults: &defaults.unwrap_or_default(),
        file,
    };
    let batches = read_entries(root, &tables, problems);
    let written = batches.len();
    let entries: Vec<ReadEntry> = batches.into_iter().flatten().collect();
    if problems.is_empty() {
        problems.extend(collisions::between_images(&entries, &tables));
        problems.extend(lint::errors(&entries, &tables));
        problems.extend(repositories::check_overrides(&overrides, &entries, &tables));
    }
    if !problems.is_empty() {
        return None;
    }
    let (hosts, configs) = (&registries.spans, &registries.configs);
    let unused = spelling::unused_registries(configs, hosts, &entries, &tables);
    lint::warnings(&entries, &tables).into_iter().chain(unused).for_each(|it| file.warn(it));
    let wildcards = file.wildcards.take();
    let lines = file.sources.lines();
    let files = if wildcards.is_empty() { Vec::new() } else { file.sources.files() };
    Some(Config {
        wildcards,
        listed_hosts: file.listed_hosts.take(),
        files,
        samples: samples::of(&entries, &tables),
        written,
        registries: registries.configs,
        file_names: file.sources.files().iter().map(|file| file.name.clone()).collect(),
        entries: entries.into_iter().map(|read| read.into_entry(&lines)).collect(),
        caches: caches.read.into_iter().map(|read| read.cache).collect(),
        destinations: destinations.read.into_iter().map(|read| read.destination).collect(),
        pull_shares: BTreeMap::new(),
        warnings: Vec::new(),
    })
}

/// The entries of every image that is written: of `[[image]]`, then `[images]`, then `[[list]]`.
fn read_entries(
    root: &Table<'_>,
    tables: &Tables<'_>,
    problems: &mut Vec<Problem>,
) -> Vec<Vec<ReadEntry>> {
    let images = root.each("image", &entry::KEYS, problems, |table| entry::read(table, tables));
    let mut batches = images.read;
    batches.extend(entry::read_images(root, tables, problems));
    let lists = root.each("list", &list::KEYS, problems, |table| list::read(table, tables));
    for list in lists.read {
        problems.extend(list.problems);
        batches.extend(list.entries);
    }
    batches
}

const NO_DESTINATION: &str = "add a `[[destination]]` with \
    `registry = \"123456789012.dkr.ecr.eu-west-1.amazonaws.com\"`";
