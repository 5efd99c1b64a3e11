//! The context of a table: the file, and the tables that were read before it.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use super::{
    document::{Text, Warnings},
    images::Entry,
    problem::{Problem, Span, line_of},
    types::DestinationConfig,
};
use crate::model::{DestinationId, EcrHost, Location, pull_through::Cache};

pub(super) struct FileContext<'a> {
    pub(super) text: &'a str,
    /// The base of relative paths.
    pub(super) directory: &'a Path,
    /// The warnings of the tables that were read.
    pub(super) warnings: Warnings,
}

impl FileContext<'_> {
    /// Warns of a valid value that probably has no effect.
    pub(super) fn warn(&self, warning: Problem) {
        let mut warnings = self.warnings.borrow_mut();
        // a value of `[defaults]` is read for each image
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }

    pub(super) fn line_of(&self, span: &Span) -> usize {
        line_of(self.text, span)
    }

    /// The content of a file that the configuration names.
    pub(super) fn read(&self, path: &Text) -> Result<Vec<u8>, Problem> {
        fs::read(self.directory.join(&**path)).map_err(|error| {
            path.invalid(
                format!("cannot be read: {}", describe(&error)),
                "write a path relative to the directory of the configuration file",
            )
        })
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
    /// One span for each image, in their order; empty if the tags are selected.
    pub(super) tags: Vec<Span>,
}

/// The tables that image entries refer to, each valid by itself.
pub(super) struct Tables<'a> {
    pub(super) destinations: &'a [ReadDestination],
    pub(super) caches: &'a [ReadCache],
    pub(super) file: &'a FileContext<'a>,
}

impl Tables<'_> {
    pub(super) fn location(&self, id: DestinationId) -> &Location {
        &self.destinations[id.0].destination.registry
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
