//! A selection of tags, and the tags that it is applied to.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use super::{
    pattern::{TagGlob, TagRegex},
    range::Range,
};
use crate::model::{Digest, Tag};

/// A tag as a registry lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub tag: Tag,
    /// The digest that the listing names. A hint for skipping only.
    pub digest: Option<Digest>,
    /// The time since which the tag points to it, if the listing names one.
    pub pushed: Option<SystemTime>,
}

/// The facts that a selection needs about the tags of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagQuery {
    Names,
    /// Their names and push times, if the registry reports them.
    Times {
        /// The listing can omit tags that were pushed earlier.
        since: Option<SystemTime>,
    },
}

impl TagQuery {
    /// The query that answers both.
    #[must_use]
    pub(crate) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Names, Self::Names) => Self::Names,
            (Self::Times { since: Some(one) }, Self::Times { since: Some(other) }) => {
                Self::Times { since: Some(one.min(other)) }
            }
            _ => Self::Times { since: None },
        }
    }
}

/// The order that decides which tags are the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SortKey {
    #[default]
    Version,
    Pushed,
}

#[derive(Debug, Clone)]
pub struct Selection {
    /// One of these must match; no restriction if empty.
    pub glob: Vec<TagGlob>,
    /// One of these must match; no restriction if empty.
    pub regex: Vec<TagRegex>,
    pub semver: Option<Range>,
    /// `true` if pre-releases match like releases, without a range or a pattern that names them.
    pub pre_releases: bool,
    pub exclude: Vec<TagGlob>,
    pub exclude_regex: Vec<TagRegex>,
    /// Selects at most this many; at least one.
    pub newest: Option<usize>,
    pub by: SortKey,
    pub min_age: Option<Duration>,
    pub max_age: Option<Duration>,
    /// Fewer matching tags are an error.
    pub at_least: usize,
}

impl Default for Selection {
    /// Every plain version, at least one.
    fn default() -> Self {
        Self {
            glob: Vec::new(),
            regex: Vec::new(),
            semver: None,
            pre_releases: false,
            exclude: Vec::new(),
            exclude_regex: Vec::new(),
            newest: None,
            by: SortKey::Version,
            min_age: None,
            max_age: None,
            at_least: 1,
        }
    }
}

impl Selection {
    /// The query to send to the registry for a selection at this time.
    pub(crate) fn query(&self, now: SystemTime) -> TagQuery {
        match self.needs_time() {
            true => TagQuery::Times { since: self.max_age.and_then(|age| now.checked_sub(age)) },
            false => TagQuery::Names,
        }
    }

    pub(super) fn needs_time(&self) -> bool {
        self.min_age.is_some() || self.max_age.is_some() || self.by == SortKey::Pushed
    }

    pub(super) fn has_patterns(&self) -> bool {
        !self.glob.is_empty() || !self.regex.is_empty()
    }

    /// Returns `true` if a tag that matches the patterns must be a version.
    pub(super) fn needs_version(&self) -> bool {
        self.semver.is_some() || (self.newest.is_some() && self.by == SortKey::Version)
    }
}

impl fmt::Display for Selection {
    /// The selection as the configuration writes it. Equal selections have one form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |items: Vec<String>| {
            let quoted: Vec<String> = items.iter().map(|item| format!("{item:?}")).collect();
            (!quoted.is_empty()).then(|| format!("[{}]", quoted.join(", ")))
        };
        let globs = |items: &[TagGlob]| list(items.iter().map(ToString::to_string).collect());
        let regexes = |items: &[TagRegex]| list(items.iter().map(ToString::to_string).collect());
        let age = |age: Option<Duration>| age.map(|age| format!("\"{}s\"", age.as_secs()));
        let keys = [
            ("glob", globs(&self.glob)),
            ("regex", regexes(&self.regex)),
            ("semver", self.semver.as_ref().map(|range| format!("{:?}", range.to_string()))),
            ("pre_releases", self.pre_releases.then(|| "true".to_owned())),
            ("exclude", globs(&self.exclude)),
            ("exclude_regex", regexes(&self.exclude_regex)),
            ("newest", self.newest.map(|newest| newest.to_string())),
            ("by", (self.by == SortKey::Pushed).then(|| "\"pushed\"".to_owned())),
            ("min_age", age(self.min_age)),
            ("max_age", age(self.max_age)),
        ];
        let written =
            keys.into_iter().filter_map(|(key, value)| Some(format!("{key} = {}", value?)));
        write!(f, "{{ {} }}", written.collect::<Vec<_>>().join(", "))
    }
}
