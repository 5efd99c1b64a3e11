//! `source = "quay.io/prometheus/*"`: all repositories of a namespace.
//!
//! The repositories are known only when the registry was asked. The configuration is then read again
//! with them, so that every rule applies to each of them.

use std::collections::BTreeMap;

use super::{
    document::{Table, Text},
    images::Entry,
    problem::{Problem, Span},
};
use crate::model::{DestinationId, Host, NameError, Reference, Repository, RepositoryGlob};

/// The repositories of registries, by the host and the namespace.
pub type ListedRepositories = BTreeMap<(Host, Repository), KnownRepositories>;

/// The repositories of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KnownRepositories {
    /// All of them, as the registry lists them.
    All(Vec<Repository>),
    /// Those that are used. The registry was not asked and may have others.
    Used(Vec<Repository>),
}

/// A source with a `*`.
#[derive(Debug, Clone)]
pub struct Wildcard {
    /// As the file spells it.
    pub(crate) source: String,
    pub(crate) host: Host,
    /// The path before the component with the first `*`.
    pub(crate) namespace: Repository,
    glob: RepositoryGlob,
    exclude: Vec<RepositoryGlob>,
    at_most: u32,
    at_most_span: Span,
    /// The entries of repositories with [`ANY`] for each `*`. Empty if they cannot be read.
    pub(super) samples: Vec<Entry>,
}

/// Stands for any text in the name of a repository that is not known yet.
const ANY: &str = "any0text";

/// Returns `true` if two names can be equal, where each `*` is any text. Compares only the text before
/// the first pattern and after the last one, and can return `true` for names that never are equal.
pub(crate) fn can_be_equal(one: &str, other: &str) -> bool {
    let is_wild = |c| "*?[]{}".contains(c);
    let ends = |name| {
        let last: &str = str::rsplit(name, is_wild).next().unwrap_or_default();
        (str::split(name, is_wild).next().unwrap_or_default(), last)
    };
    let ((first, last), (other_first, other_last)) = (ends(one), ends(other));
    match (one.contains(is_wild), other.contains(is_wild)) {
        (false, false) => one == other,
        (true, false) => other.starts_with(first) && other.ends_with(last),
        (false, true) => can_be_equal(other, one),
        (true, true) => {
            (first.starts_with(other_first) || other_first.starts_with(first))
                && (last.ends_with(other_last) || other_last.ends_with(last))
        }
    }
}

/// The source of an image: one repository, or all that match.
pub(super) enum ImageSource {
    One(Reference),
    Matching(Wildcard),
}

impl ImageSource {
    /// Reads a source. `table` has the keys of a wildcard; without one, there is no place for them.
    pub(super) fn read(source: &Text, table: Option<&Table<'_>>) -> Result<Self, Problem> {
        if source.contains('*') {
            return wildcard(source, table).map(Self::Matching);
        }
        for key in ["exclude_repositories", "at_most"] {
            if let Some(span) = table.and_then(|table| table.span_of(key)) {
                let label = format!("`{key}` requires a `*` in the source");
                return Err(Problem::at(&span, label).hint(format!("remove `{key}`")));
            }
        }
        source.parse().map(Self::One)
    }
}

fn wildcard(source: &Text, table: Option<&Table<'_>>) -> Result<Wildcard, Problem> {
    let hint = "write a host, a namespace and a `*`, like `quay.io/prometheus/*`";
    let invalid = |error: NameError| source.problem(NameError::new(error.problem).hint(hint));
    let (host, path) = match source.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => {
            (host.parse().map_err(invalid)?, path)
        }
        _ => (Host::DOCKER_HUB.parse().map_err(invalid)?, &**source),
    };
    let before = path.split('*').next().unwrap_or_default();
    let Some((namespace, _)) = before.rsplit_once('/') else {
        return Err(source.invalid("requires a namespace before the `*`", hint));
    };
    let namespace = namespace.parse().map_err(invalid)?;
    let glob = path.parse().map_err(invalid)?;
    let at_most = match table {
        Some(table) => table.number("at_most", 1)?.zip(table.span_of("at_most")),
        None => None,
    };
    let Some((at_most, at_most_span)) = at_most else {
        return Err(Problem::needing(&source.span, "a source with a `*` requires `at_most`").hint(
            "add the largest number of repositories that you expect, like `at_most = 50`: more are an error",
        ));
    };
    let exclude = match table {
        Some(table) => table.parsed_list("exclude_repositories")?,
        None => Vec::new(),
    };
    let source = source.to_string();
    let samples = Vec::new();
    Ok(Wildcard { source, host, namespace, glob, exclude, at_most, at_most_span, samples })
}

impl Wildcard {
    /// Returns `true` if a repository of this host matches the pattern, excluded ones too.
    pub(crate) fn covers(&self, host: &Host, repository: &Repository) -> bool {
        self.host == *host && self.glob.matches(repository)
    }

    /// Returns `true` if a repository of this host is one of the source's.
    pub(crate) fn selects(&self, host: &Host, repository: &Repository) -> bool {
        let below = repository.as_str().strip_prefix(self.namespace.as_str());
        let below = below.and_then(|rest| rest.strip_prefix('/')?.parse().ok());
        let is_excluded = self.exclude.iter().any(|glob| {
            glob.matches(repository) || below.as_ref().is_some_and(|below| glob.matches(below))
        });
        self.covers(host, repository) && !is_excluded
    }

    /// The most repositories that match.
    pub(crate) fn at_most(&self) -> u32 {
        self.at_most
    }

    fn known<'l>(&self, listed: &'l ListedRepositories) -> Option<&'l KnownRepositories> {
        listed.get(&(self.host.clone(), self.namespace.clone()))
    }

    /// Returns `true` if the registry was asked for its repositories.
    pub(super) fn is_listed(&self, listed: &ListedRepositories) -> bool {
        matches!(self.known(listed), Some(KnownRepositories::All(_)))
    }

    /// The source with its host, like `quay.io/prometheus/*`.
    pub(crate) fn full_source(&self) -> String {
        format!("{}/{}", self.host, self.glob)
    }

    /// The destinations, by index, and the repositories there, with `*` for any text.
    pub(crate) fn targets(&self) -> impl Iterator<Item = (DestinationId, String)> {
        let targets = self.samples.iter().flat_map(Entry::targets);
        targets.map(|(id, repository)| (id, repository.as_str().replace(ANY, "*")))
    }

    /// Returns `true` if a repository of the source can have this name for `--only`.
    pub(crate) fn can_be_named(&self, name: &str) -> bool {
        let spellings = self.samples.iter().flat_map(Entry::spellings);
        spellings.into_iter().any(|own| can_be_equal(&own.replace(ANY, "*"), name))
    }

    /// Repositories that match, with one component for each `*`, and with two for the last one.
    pub(super) fn sample_repositories(&self) -> impl Iterator<Item = Repository> {
        let pattern = self.glob.to_string();
        let at = pattern.rfind('*').unwrap_or_default();
        let deep = format!("{}{ANY}/{}", &pattern[..at], &pattern[at..]);
        let names = [pattern, deep].map(|name| name.replace(['*', '?'], ANY).parse());
        names.into_iter().flatten()
    }

    /// The known repositories that match, sorted.
    pub(super) fn repositories(
        &self,
        source: &Text,
        listed: &ListedRepositories,
    ) -> Result<Vec<Repository>, Problem> {
        let (all, is_complete) = match self.known(listed) {
            Some(KnownRepositories::All(all)) => (all, true),
            Some(KnownRepositories::Used(used)) => (used, false),
            None => return Ok(Vec::new()),
        };
        let mut matching: Vec<Repository> = all.clone();
        matching.retain(|repository| self.selects(&self.host, repository));
        matching.sort();
        matching.dedup();
        if matching.is_empty() && is_complete {
            let label = format!("matches none of {} repositories", all.len());
            return Err(source.invalid(label, "check the name, and the pattern"));
        }
        if matching.len() > self.at_most as usize {
            let label = format!("{} repositories match", matching.len());
            return Err(Problem::at(&self.at_most_span, label)
                .hint("raise `at_most`, or add `exclude_repositories`"));
        }
        Ok(matching)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_a_wildcard_are_compared_by_their_beginning_and_their_end() {
        for (one, other, expected) in [
            ("a/b", "a/b", true),
            ("a/b", "a/c", false),
            ("a/*", "a/b/c", true),
            ("a/*", "a", false),
            ("a/*-x", "a/b-x", true),
            ("a/*-x", "a/b-y", false),
            ("a/*", "b/*", false),
            ("a/*", "a/b*", true),
            ("*/b", "*/c", false),
            ("a-*", "a-b/*", true),
            ("a/[bc]", "a/b", true),
            ("a/{b,c}", "d/*", false),
        ] {
            assert_eq!(can_be_equal(one, other), expected, "{one} {other}");
            assert_eq!(can_be_equal(other, one), expected, "{other} {one}");
        }
    }
}
