//! `mirror.toml`: where images come from, where they go, and which parts of them.
//!
//! Every string becomes its type here, or an error that points at it: what
//! holds a [`Config`] never has to check a name again. Reads no network; of
//! files, only the configuration and the CA and policy files it names.

mod account;
mod arn;
mod collisions;
mod destination;
mod document;
mod entry;
mod images;
mod interpolate;
mod lint;
mod policies;
mod problem;
mod pull_through;
mod registry;
mod repositories;
mod retag;
mod select;
#[cfg(test)]
mod tests;
mod via;

use std::{collections::BTreeMap, fs, io, path::Path};

use toml::de::DeTable;
use url::Url;

pub use self::{collisions::between_listed, problem::ConfigError, retag::Retag};
use self::{
    destination::ReadDestination,
    document::{Keys, Table},
    interpolate::Environment,
    problem::Problem,
    pull_through::ReadCache,
};
pub use crate::model::ecr_settings::{AccountSettings, RepositoryRules};
pub use crate::model::pull_through::Cache;
use crate::model::{
    DestinationId, Digest, EcrHost, Filter, Host, Location, Repository, Selection, Tag,
    UserPassword,
};

/// A configuration that is known to be good.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where images go, in the order of the file; at least one.
    pub destinations: Vec<DestinationConfig>,
    /// How to reach registries, sources and destinations alike; only those that are written.
    pub registries: BTreeMap<Host, RegistryConfig>,
    /// What is mirrored, in the order of the file.
    pub entries: Vec<Entry>,
    /// What ECR caches by itself, in the order of the file.
    pub caches: Vec<Cache>,
    /// What is allowed and most likely not meant, in the order of the file: whole blocks to print,
    /// each beginning with `warning: FILE:LINE:COLUMN`.
    pub warnings: Vec<String>,
}

/// A registry that images are mirrored to.
#[derive(Debug, Clone)]
pub struct DestinationConfig {
    /// What the configuration calls it; no two have the same name.
    pub name: String,
    /// The registry, or an OCI layout.
    pub registry: Location,
    /// What goes in front of every repository.
    pub prefix: Option<Repository>,
    /// Who writes to ECR; all `None` where the registry is not ECR.
    pub aws: Aws,
    /// What happens to ECR repositories.
    pub repositories: RepositoryRules,
    /// What happens to the account and region they are in.
    pub account: AccountSettings,
}

impl DestinationConfig {
    /// Whether it is written to as ECR: by its name, or because an ECR API is named for it.
    pub fn is_ecr(&self) -> bool {
        self.aws.endpoint_url.is_some() || self.registry.host().and_then(EcrHost::parse).is_some()
    }
}

/// The AWS identity and endpoint of a destination; what is `None` is left to the AWS chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Aws {
    /// A profile of the AWS configuration.
    pub profile: Option<String>,
    /// A role to assume.
    pub role_arn: Option<String>,
    /// What the role's owner wants to hear; only with a role.
    pub external_id: Option<String>,
    /// Another ECR API endpoint, `http` or `https`.
    pub endpoint_url: Option<Url>,
}

/// How a registry is reached.
#[derive(Debug, Clone, Default)]
pub struct RegistryConfig {
    /// Who asks; `None`: Docker's own configuration, then nobody.
    pub credentials: Option<CredentialSource>,
    /// A token service on another host that may have these credentials.
    pub auth_host: Option<Host>,
    /// Asked first for content by digest, in this order.
    pub mirrors: Vec<Host>,
    /// Certificates to trust besides the system's, PEM, at least one.
    pub ca: Option<Vec<u8>>,
    /// Plain HTTP; `None`: only for loopback hosts.
    pub plain_http: Option<bool>,
    /// How much of the pull limit is left to others.
    pub reserve_pulls: u64,
    /// Connections at once, at least one; `None`: as many as blobs are transferred at once.
    pub max_connections: Option<usize>,
}

/// Who asks a registry.
#[derive(Debug, Clone)]
pub enum CredentialSource {
    /// User name and password from the configuration, neither empty.
    Written(UserPassword),
    /// The ARN of the Secrets Manager secret that keeps one.
    Secret(String),
}

/// One `[[image]]`: a source repository, tags of it, and where they go.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What `--only` and the report call it; names may repeat.
    pub name: String,
    /// The source's registry.
    pub host: Host,
    /// The source's repository.
    pub repository: Repository,
    /// Which images of it.
    pub tags: Tags,
    /// Where they are mirrored to, one place for each destination.
    pub mirrored: Vec<MirrorTarget>,
    /// Where ECR caches them, one place for each further destination; there is one of either kind.
    pub cached: Vec<CacheTarget>,
    /// What their tags become.
    pub retag: Retag,
    /// Which parts of them.
    pub filter: Filter,
}

/// Which images of a repository are wanted.
#[derive(Debug, Clone)]
pub enum Tags {
    /// These tags, never none, without repetition.
    Exact(Vec<Tag>),
    /// One image by its content.
    Pinned {
        /// The content.
        digest: Digest,
        /// What it is called where it is mirrored, before [`Retag`].
        tag: Tag,
    },
    /// Those that the source lists and this admits.
    Selected(Selection),
}

/// A repository of a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorTarget {
    /// Which destination.
    pub destination: DestinationId,
    /// The repository there, prefix included.
    pub repository: Repository,
}

/// A repository of a destination that a cache fills.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheTarget {
    /// Which destination.
    pub destination: DestinationId,
    /// Which cache, by its place in [`Config::caches`].
    pub cache: usize,
    /// The repository there, the cache's prefix included.
    pub repository: Repository,
}

const ROOT: Keys = Keys {
    title: "a configuration",
    names: &["destination", "registry", "defaults", "image", "pull_through"],
};

/// What reading a configuration takes besides its tables.
struct FileContext<'a> {
    /// The whole file, to tell line numbers.
    text: &'a str,
    /// What relative paths start from.
    directory: &'a Path,
}

impl Config {
    /// Reads the file. Paths in it are relative to its directory.
    ///
    /// # Errors
    /// When it cannot be read, is not UTF-8, or says something that is not right.
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

    /// Reads a text. `name` is what errors call it; `environment` looks variables up.
    ///
    /// # Errors
    /// When it says something that is not right: every table's first problem,
    /// or what is wrong between tables that are right by themselves.
    pub fn parse(
        name: &str,
        text: &str,
        directory: &Path,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let wrong = |problems| ConfigError::new(name, text, problems);
        let (document, errors) = DeTable::parse_recoverable(text);
        if let Some(problem) = syntax(text, &errors) {
            return Err(wrong(vec![problem]));
        }
        let around = FileContext { text, directory };
        let (config, warnings) = read(document.get_ref(), &around, environment).map_err(wrong)?;
        Ok(Self { warnings: problem::warnings(name, text, warnings), ..config })
    }

    /// The destination of an image's target.
    ///
    /// # Panics
    /// When the id is another configuration's.
    pub fn destination(&self, id: DestinationId) -> &DestinationConfig {
        &self.destinations[id.0]
    }
}

/// The configuration, and what it is to be warned of.
fn read(
    document: &DeTable<'_>,
    around: &FileContext<'_>,
    environment: Environment<'_>,
) -> Result<(Config, Vec<Problem>), Vec<Problem>> {
    let root = Table::open(document, 0..0, &ROOT, environment).map_err(one)?;
    if root.is_empty() {
        return Err(one(Problem::nowhere("the configuration is empty").hint(EXAMPLE)));
    }
    let mut problems = Vec::new();
    let tables = root.tables("destination", &destination::KEYS).map_err(one)?;
    let destinations = gather(tables, &mut problems, |table| destination::read(&table, around));
    let registries = registry::read_all(&root, around, &mut problems).map_err(one)?;
    let defaults = entry::defaults(&root).map_err(|problem| problems.push(problem));
    let (Ok(defaults), true) = (defaults, problems.is_empty()) else { return Err(problems) };
    if destinations.is_empty() {
        return Err(one(Problem::nowhere("there is no `[[destination]]`").hint(NO_DESTINATION)));
    }
    collisions::between_destinations(&destinations, around.text).map_err(one)?;

    let written = root.tables("pull_through", &pull_through::KEYS).map_err(one)?;
    let read = |table| pull_through::read(&table, &destinations, around);
    let caches = gather(written, &mut problems, read);
    if !problems.is_empty() {
        return Err(problems);
    }
    let tables = Tables { destinations: &destinations, caches: &caches, text: around.text };
    let written = root.tables("image", &entry::KEYS).map_err(one)?;
    let entries = gather(written, &mut problems, |table| entry::read(&table, &defaults, &tables));
    if problems.is_empty() {
        problems = collisions::between_images(&entries, &tables);
        problems.extend(lint::errors(&entries, &tables));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let warnings = lint::warnings(&entries, &tables);
    let config = Config {
        registries,
        entries: entries.into_iter().map(|read| read.entry).collect(),
        caches: caches.into_iter().map(|read| read.cache).collect(),
        destinations: destinations.into_iter().map(|read| read.destination).collect(),
        warnings: Vec::new(),
    };
    Ok((config, warnings))
}

/// The tables that others refer to, all of them right by themselves.
struct Tables<'a> {
    destinations: &'a [ReadDestination],
    caches: &'a [ReadCache],
    /// The whole file, to tell line numbers.
    text: &'a str,
}

impl Tables<'_> {
    /// The registry that a destination is; ECR has one under several names.
    fn registry(&self, destination: DestinationId) -> String {
        collisions::registry(&self.destinations[destination.0].destination.registry)
    }

    /// The caches of the registry that a destination is, each with its place in the file.
    fn caches_of(&self, destination: DestinationId) -> impl Iterator<Item = (usize, &ReadCache)> {
        let own = self.registry(destination);
        self.caches.iter().enumerate().filter(move |(_, read)| {
            read.cache.destinations.iter().any(|id| self.registry(*id) == own)
        })
    }
}

const EXAMPLE: &str = "start from `mirror.toml.example`";

const NO_DESTINATION: &str = "say where images go: `[[destination]]` with \
    `registry = \"123456789012.dkr.ecr.eu-west-1.amazonaws.com\"`";

fn one(problem: Problem) -> Vec<Problem> {
    vec![problem]
}

/// Reads each table; what is wrong goes to `problems`.
fn gather<'a, T>(
    tables: Vec<Result<Table<'a>, Problem>>,
    problems: &mut Vec<Problem>,
    read: impl Fn(Table<'a>) -> Result<T, Problem>,
) -> Vec<T> {
    let results = tables.into_iter().map(|table| table.and_then(&read));
    results.filter_map(|result| result.map_err(|problem| problems.push(problem)).ok()).collect()
}

/// What is wrong with the first line that is no TOML: the parser may name what follows from that
/// before it.
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
            "`cp mirror.toml.example mirror.toml` makes one, `-c FILE` names another"
        }
        _ => "`-c FILE` names another one",
    };
    ConfigError::of_file(&format!("cannot read `{name}`: {}", reason(error)), hint)
}

/// Why a file cannot be read, in words.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        kind => kind.to_string(),
    }
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
