//! Chooses the tags of a repository that an image entry asks for.
//!
//! Pure: the same tags, selection and time give the same answer, newest first. A [`Selector`]
//! takes the list page by page and keeps the tags that are still in question, so that memory
//! follows what is wanted.
//!
//! Keys narrow each other, entries of a list widen. Without `glob` and `regex` what is taken are
//! versions: a variant or another name has to be named by a pattern, and a pre-release by a
//! pattern that spells it out or by the range. Guards that a tag whose push time is needed and
//! not told is left out and never guessed.

mod pattern;
mod range;
mod reason;
mod version;

use std::{
    cmp::Ordering,
    fmt,
    time::{Duration, SystemTime},
};

pub use self::{
    pattern::{TagGlob, TagRegex},
    range::{Named, Range},
    reason::{SkippedTag, TagSelection},
    version::{Pre, Version},
};
use super::{Digest, Error, Kind, Result, Tag};

/// A tag as a registry lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The tag.
    pub tag: Tag,
    /// What it points to, where the listing tells; a hint for skipping only.
    pub digest: Option<Digest>,
    /// Since when it points there, where the listing tells.
    pub pushed: Option<SystemTime>,
}

/// What has to be known of a repository's tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagQuery {
    /// Their names.
    Names,
    /// Also when they were pushed, where the registry has a way to tell.
    Times {
        /// Tags pushed before are of no interest: they may be left out.
        since: Option<SystemTime>,
    },
}

impl TagQuery {
    /// What serves both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Names, Self::Names) => Self::Names,
            (Self::Times { since: Some(one) }, Self::Times { since: Some(other) }) => {
                Self::Times { since: Some(one.min(other)) }
            }
            _ => Self::Times { since: None },
        }
    }
}

/// What makes a tag newer than another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SortKey {
    /// Its version.
    #[default]
    Version,
    /// When it was pushed.
    Pushed,
}

/// Which tags of a repository are wanted.
#[derive(Debug, Clone)]
pub struct Selection {
    /// One of these must match, where there are any.
    pub glob: Vec<TagGlob>,
    /// One of these must match, where there are any.
    pub regex: Vec<TagRegex>,
    /// The version must be in it.
    pub semver: Option<Range>,
    /// None of these may match.
    pub exclude: Vec<TagGlob>,
    /// So many of what is left are taken, at least one.
    pub newest: Option<usize>,
    /// Which are the newest.
    pub by: SortKey,
    /// Pushed at least so long ago.
    pub min_age: Option<Duration>,
    /// Pushed at most so long ago.
    pub max_age: Option<Duration>,
    /// Fewer are a failure.
    pub at_least: usize,
}

impl Default for Selection {
    /// Every plain version, and at least one.
    fn default() -> Self {
        Self {
            glob: Vec::new(),
            regex: Vec::new(),
            semver: None,
            exclude: Vec::new(),
            newest: None,
            by: SortKey::Version,
            min_age: None,
            max_age: None,
            at_least: 1,
        }
    }
}

impl Selection {
    /// What has to be asked of the registry to choose at this time.
    pub fn query(&self, now: SystemTime) -> TagQuery {
        match self.needs_time() {
            true => TagQuery::Times { since: self.max_age.and_then(|age| now.checked_sub(age)) },
            false => TagQuery::Names,
        }
    }

    fn needs_time(&self) -> bool {
        self.min_age.is_some() || self.max_age.is_some() || self.by == SortKey::Pushed
    }

    fn has_patterns(&self) -> bool {
        !self.glob.is_empty() || !self.regex.is_empty()
    }

    /// Whether a version is needed, of a tag that a pattern names.
    fn needs_version(&self) -> bool {
        self.semver.is_some() || (self.newest.is_some() && self.by == SortKey::Version)
    }

    /// Takes the tag into consideration, or says why not.
    fn judge(&self, listed: &Listed, now: SystemTime) -> Result<Option<Version>, SkippedTag> {
        let name = listed.tag.as_str();
        if !self.glob.is_empty() && !self.glob.iter().any(|glob| glob.matches(name)) {
            return Err(SkippedTag::NoGlob);
        }
        if !self.regex.is_empty() && !self.regex.iter().any(|regex| regex.matches(name)) {
            return Err(SkippedTag::NoRegex);
        }
        if let Some(glob) = self.exclude.iter().find(|glob| glob.matches(name)) {
            return Err(SkippedTag::Excluded(glob.to_string()));
        }
        let version = self.version(name)?;
        self.check_age(listed.pushed, now)?;
        Ok(version)
    }

    fn version(&self, name: &str) -> Result<Option<Version>, SkippedTag> {
        let Some(version) = Version::parse(name) else {
            return match self.has_patterns() && !self.needs_version() {
                true => Ok(None),
                false => Err(SkippedTag::NoVersion),
            };
        };
        if version.is_variant() && !self.has_patterns() {
            return Err(SkippedTag::Variant);
        }
        let named = match version.pre() {
            Some(pre) if !self.names(name, pre) => Named::Nowhere,
            _ => Named::Elsewhere,
        };
        match &self.semver {
            Some(range) if range.matches(&version, named) => Ok(Some(version)),
            Some(range) => Err(match version.pre() {
                Some(pre) if named == Named::Nowhere => SkippedTag::PreRelease(pre.to_string()),
                _ => SkippedTag::OutOfRange(range.to_string()),
            }),
            None => match version.pre() {
                Some(pre) if named == Named::Nowhere => {
                    Err(SkippedTag::PreRelease(pre.to_string()))
                }
                _ => Ok(Some(version)),
            },
        }
    }

    /// Whether a pattern that matches spells the pre-release out.
    fn names(&self, name: &str, pre: &Pre) -> bool {
        self.glob.iter().any(|glob| glob.matches(name) && glob.names(pre))
            || self.regex.iter().any(|regex| regex.matches(name) && regex.names(pre))
    }

    fn check_age(&self, pushed: Option<SystemTime>, now: SystemTime) -> Result<(), SkippedTag> {
        if !self.needs_time() {
            return Ok(());
        }
        let Some(pushed) = pushed else { return Err(SkippedTag::NoTime) };
        // a clock that is behind the registry's makes a tag new, not impossible
        let age = now.duration_since(pushed).unwrap_or_default();
        if self.min_age.is_some_and(|least| age < least) {
            return Err(SkippedTag::TooNew(pushed));
        }
        if self.max_age.is_some_and(|most| age > most) {
            return Err(SkippedTag::TooOld(pushed));
        }
        Ok(())
    }
}

impl fmt::Display for Selection {
    /// As the configuration would write it, in one form for everything that means the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |items: Vec<String>| {
            let quoted: Vec<String> = items.iter().map(|item| format!("{item:?}")).collect();
            (!quoted.is_empty()).then(|| format!("[{}]", quoted.join(", ")))
        };
        let texts = |items: &[TagGlob]| list(items.iter().map(ToString::to_string).collect());
        let age = |age: Option<Duration>| age.map(|age| format!("\"{}s\"", age.as_secs()));
        let keys = [
            ("glob", texts(&self.glob)),
            ("regex", list(self.regex.iter().map(ToString::to_string).collect())),
            ("semver", self.semver.as_ref().map(|range| format!("{:?}", range.to_string()))),
            ("exclude", texts(&self.exclude)),
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

/// A tag that is still in question.
#[derive(Debug)]
struct Candidate {
    listed: Listed,
    version: Option<Version>,
}

/// Chooses from a list that comes page by page.
#[derive(Debug)]
pub struct Selector<'a> {
    selection: &'a Selection,
    now: SystemTime,
    candidates: Vec<Candidate>,
    listed: usize,
    /// Left out because no pattern names them.
    unnamed: usize,
    untold: usize,
}

/// What a selection comes to.
#[derive(Debug)]
pub struct Selected {
    /// The tags taken, newest first.
    pub taken: Vec<Listed>,
    /// Tags that everything admits but `newest`.
    pub surplus: Vec<Tag>,
    /// Tags that were left out only because the registry does not tell when they were pushed.
    pub untold: usize,
}

impl<'a> Selector<'a> {
    /// Chooses as of this time.
    pub fn new(selection: &'a Selection, now: SystemTime) -> Self {
        Self { selection, now, candidates: Vec::new(), listed: 0, unnamed: 0, untold: 0 }
    }

    /// Considers a tag of the list; says why, where it is left out.
    pub fn offer(&mut self, listed: &Listed) -> Option<SkippedTag> {
        self.listed += 1;
        match self.selection.judge(listed, self.now) {
            Ok(version) => {
                self.candidates.push(Candidate { listed: listed.clone(), version });
                None
            }
            Err(left) => {
                match left {
                    SkippedTag::NoTime => self.untold += 1,
                    SkippedTag::Variant | SkippedTag::PreRelease(_) => self.unnamed += 1,
                    SkippedTag::NoVersion if !self.selection.has_patterns() => self.unnamed += 1,
                    _ => {}
                }
                Some(left)
            }
        }
    }

    /// The choice, at the end of the list.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when it has fewer tags than are wanted at least, and would have
    /// fewer if every push time was known.
    pub fn finish(self) -> Result<Selected> {
        let wanted = self.selection.at_least;
        if self.candidates.len() + self.untold < wanted {
            return Err(self.too_few());
        }
        let mut candidates = self.candidates;
        candidates.sort_by(|one, other| newest_first(self.selection.by, one, other));
        let kept = self.selection.newest.unwrap_or(usize::MAX).min(candidates.len());
        let surplus = candidates.split_off(kept);
        Ok(Selected {
            taken: candidates.into_iter().map(|candidate| candidate.listed).collect(),
            surplus: surplus.into_iter().map(|candidate| candidate.listed.tag).collect(),
            untold: self.untold,
        })
    }

    fn too_few(&self) -> Error {
        let (found, listed) = (self.candidates.len(), self.listed);
        let wanted = self.selection.at_least;
        let message = match listed {
            0 => format!("the repository lists no tags, `at_least` is {wanted}"),
            _ => format!("`select` matches {found} of {listed} tags, `at_least` is {wanted}"),
        };
        let error = Error::new(Kind::NotFound, message);
        match self.unnamed {
            0 => error.hint("`plan -v` tells why each tag is left"),
            unnamed => error.hint(format!(
                "{unnamed} are variants, pre-releases or no versions, which a `glob` or `regex` \
                 has to name; `plan -v` tells why each tag is left"
            )),
        }
    }

    /// How the choice is made, for a log.
    pub fn selection(&self) -> &'a Selection {
        self.selection
    }
}

/// Newest first, what has no version last; equals by name, so that the order is always the same.
fn newest_first(by: SortKey, one: &Candidate, other: &Candidate) -> Ordering {
    let versions = || match (&one.version, &other.version) {
        (Some(one), Some(other)) => other.by_age(one),
        (one, other) => other.is_some().cmp(&one.is_some()),
    };
    let order = match by {
        SortKey::Version => versions(),
        SortKey::Pushed => other.listed.pushed.cmp(&one.listed.pushed).then_with(versions),
    };
    order.then_with(|| one.listed.tag.cmp(&other.listed.tag))
}
