//! The context of a table: the file, and the tables that were read before it.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Component, PathBuf},
};

use toml::de::{DeTable, DeValue};

use super::{
    document::{ReadTables, Text},
    entry::{ImageKeys, Setting},
    images::{Entry, WrittenAt},
    interpolate::Environment,
    naming::NamingRule,
    problem::{Problem, Span},
    source::{LineIndex, Sources},
    types::DestinationConfig,
    wildcard::{ListedRepositories, Wildcard},
};
use crate::model::{DestinationId, EcrHost, Host, Location, pull_through::Cache};

/// The reading of a configuration: its files, and what was found in them.
pub(super) struct FileContext<'a> {
    pub(super) sources: &'a Sources,
    pub(super) environment: Environment<'a>,
    /// The repositories of the wildcards, if the registries were asked.
    pub(super) listed: &'a ListedRepositories,
    /// The sources with a `*` whose repositories are not known yet.
    pub(super) wildcards: RefCell<Vec<Wildcard>>,
    /// The registries of all sources with a `*`.
    pub(super) listed_hosts: RefCell<BTreeSet<Host>>,
    /// The warnings about values that are valid by themselves.
    warnings: RefCell<Vec<Problem>>,
    /// The offsets of keys, and of the items of lists, with a mistake: they count as absent.
    masked: RefCell<BTreeSet<usize>>,
}

impl<'a> FileContext<'a> {
    pub(super) fn new(
        sources: &'a Sources,
        environment: Environment<'a>,
        listed: &'a ListedRepositories,
    ) -> Self {
        Self {
            sources,
            environment,
            listed,
            wildcards: RefCell::default(),
            listed_hosts: RefCell::default(),
            warnings: RefCell::default(),
            masked: RefCell::default(),
        }
    }

    /// Warns of a valid value that probably has no effect, or another one than it seems.
    pub(super) fn warn(&self, warning: Problem) {
        let mut warnings = self.warnings.borrow_mut();
        // a value of `[defaults]` is read for each image
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }

    pub(super) fn warnings(&self) -> Vec<Problem> {
        self.warnings.take()
    }

    pub(super) fn line_of(&self, span: &Span) -> String {
        self.sources.line_of(span)
    }

    pub(super) fn is_masked(&self, offset: usize) -> bool {
        self.masked.borrow().contains(&offset)
    }

    /// Reads a value of this table until all its mistakes are found: the key, or the item of a list,
    /// with a mistake is left out, and the value is read again. Consequences of that are no mistakes.
    pub(super) fn attempt<T>(
        &self,
        entries: &DeTable<'_>,
        problems: &mut Vec<Problem>,
        read: impl Fn() -> Result<T, Problem>,
    ) -> Option<T> {
        self.attempt_in(|at| innermost(entries, at), problems, read)
    }

    /// Does the same for the value of a key that is no table, or can be one.
    pub(super) fn attempt_value<T>(
        &self,
        key: &str,
        value: &DeValue<'_>,
        problems: &mut Vec<Problem>,
        read: impl Fn() -> Result<T, Problem>,
    ) -> Option<T> {
        self.attempt_in(|at| inside(key, value, at), problems, read)
    }

    fn attempt_in<'t, T>(
        &self,
        find: impl Fn(usize) -> Option<KeyPath<'t>>,
        problems: &mut Vec<Problem>,
        read: impl Fn() -> Result<T, Problem>,
    ) -> Option<T> {
        let mut masked: Vec<KeyPath<'t>> = Vec::new();
        loop {
            let problem = match read() {
                Ok(value) => return Some(value),
                Err(problem) => problem,
            };
            let path = problem.start().and_then(&find);
            let place = path.as_ref().map(|path| path[0]);
            // of a masked key, or of a table that has one
            let is_consequence = masked.iter().any(|path| {
                problem.may_follow_from(path[0].0) || path.iter().any(|it| Some(*it) == place)
            });
            if !is_consequence {
                problems.push(problem);
            }
            let path = path?;
            if !self.masked.borrow_mut().insert(path[0].1) {
                return None;
            }
            masked.push(path);
        }
    }

    /// The content of a file that the configuration names.
    pub(super) fn read(&self, path: &Text) -> Result<Vec<u8>, Problem> {
        fs::read(self.sources.directory_of(&path.span).join(&**path)).map_err(|error| {
            path.invalid(
                format!("cannot be read: {}", describe(&error)),
                "write a path relative to the directory of the configuration file",
            )
        })
    }
}

/// A key with its offset, then the key of the table around it, and so on; an item of a list has the
/// name of its key. Not empty.
type KeyPath<'t> = Vec<(&'t str, usize)>;

/// The innermost key whose name or value is at this offset.
fn innermost<'t>(table: &'t DeTable<'_>, at: usize) -> Option<KeyPath<'t>> {
    table.iter().find_map(|(key, value)| {
        let is_here = key.span().contains(&at) || value.span().contains(&at);
        let inner = inside(key.get_ref(), value.get_ref(), at);
        let mut path = inner.or_else(|| is_here.then(Vec::new))?;
        path.push((&**key.get_ref(), key.span().start));
        Some(path)
    })
}

fn inside<'t>(key: &'t str, value: &'t DeValue<'_>, at: usize) -> Option<KeyPath<'t>> {
    match value {
        DeValue::Table(table) => innermost(table, at),
        DeValue::Array(items) => items.iter().find_map(|item| {
            let is_here = !item.get_ref().is_table() && item.span().contains(&at);
            inside(key, item.get_ref(), at)
                .or_else(|| is_here.then(|| vec![(key, item.span().start)]))
        }),
        _ => None,
    }
}

pub(super) fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "the file does not exist".to_owned(),
        kind => kind.to_string(),
    }
}

/// A destination and where it is written.
pub(super) struct ReadDestination {
    pub(super) destination: DestinationConfig,
    /// The name, or the registry if it has none.
    pub(super) name: Span,
    /// `None` if the name contains a variable.
    pub(super) name_as_written: Option<String>,
    pub(super) registry: Span,
    pub(super) rates: Option<Span>,
    /// The naming rule of images without a more specific one.
    pub(super) rule: Option<Setting<NamingRule>>,
}

/// A cache and where it is written.
pub(super) struct ReadCache {
    pub(super) cache: Cache,
    pub(super) upstream: Span,
    /// The prefix, or the upstream if it has none.
    pub(super) prefix: Span,
    pub(super) mutability: Option<Span>,
    pub(super) lifecycle: Option<Span>,
    /// The resource tags of the template.
    pub(super) tags: Option<Span>,
}

/// An image entry and where it is written.
pub(super) struct ReadEntry {
    pub(super) entry: Entry,
    pub(super) source: Span,
    /// `None` if the source contains a variable.
    pub(super) source_as_written: Option<String>,
    /// The naming rule of each mirrored target; `None` for the default.
    pub(super) rules: Vec<Option<Span>>,
    pub(super) retag: Option<Span>,
    /// One span for each image, in their order; empty if the tags are selected.
    pub(super) tags: Vec<Span>,
}

impl ReadEntry {
    /// The entry with its place in the files.
    pub(super) fn into_entry(self, lines: &LineIndex) -> Entry {
        let (file, line) = lines.find(self.source.start);
        let tags: Vec<_> = self.tags.iter().map(|span| lines.find(span.start)).collect();
        let is_one_line = tags.iter().all(|tag| *tag == tags[0]);
        let is_one_file = tags.iter().all(|tag| tag.0 == file);
        let written = match tags.first() {
            Some((file, line)) if is_one_line => {
                WrittenAt { file: *file, line: *line, ..WrittenAt::default() }
            }
            Some(_) if is_one_file => {
                WrittenAt { file, line, tags: tags.into_iter().map(|(_, line)| line).collect() }
            }
            _ => WrittenAt { file, line, ..WrittenAt::default() },
        };
        Entry { written, ..self.entry }
    }
}

/// The tables that image entries refer to, each valid by itself.
pub(super) struct Tables<'a> {
    pub(super) destinations: &'a ReadTables<ReadDestination>,
    pub(super) caches: &'a [ReadCache],
    /// False if a cache could not be read: then no image is uncovered.
    pub(super) has_all_caches: bool,
    /// The keys of `[registry."…"]` that apply to its images.
    pub(super) registries: &'a BTreeMap<Host, ImageKeys>,
    pub(super) defaults: &'a ImageKeys,
    pub(super) file: &'a FileContext<'a>,
}

impl Tables<'_> {
    pub(super) fn location(&self, id: DestinationId) -> &Location {
        &self.destinations.read[id.0].destination.registry
    }

    /// The caches of this destination's registry, each with its index in the file.
    pub(super) fn caches_of(
        &self,
        destination: DestinationId,
    ) -> impl Iterator<Item = (usize, &ReadCache)> {
        self.caches_at(registry_identity(self.location(destination)))
    }

    /// The caches of the registry with this identity, each with its index in the file.
    pub(super) fn caches_at(&self, own: String) -> impl Iterator<Item = (usize, &ReadCache)> {
        self.caches.iter().enumerate().filter(move |(_, read)| {
            let mut ids = read.cache.destinations.iter();
            ids.any(|id| registry_identity(self.location(*id)) == own)
        })
    }
}

/// A key that is equal for all names of one registry or layout.
pub(super) fn registry_identity(location: &Location) -> String {
    let host = match location {
        Location::Layout { directory, .. } => {
            let steps = directory.components().filter(|step| *step != Component::CurDir);
            return format!("oci:{}", steps.collect::<PathBuf>().display());
        }
        Location::Registry(host) => host,
    };
    match EcrHost::parse(host) {
        Some(ecr) => format!("{}/{}", ecr.account, ecr.region),
        None => host.as_str().strip_suffix(":443").unwrap_or(host.as_str()).to_owned(),
    }
}
