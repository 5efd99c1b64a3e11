//! Why a tag was taken or left, in words.

use std::{fmt, time::SystemTime};

use super::{Listed, Selection, SortKey};

/// Why a tag was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SkippedTag {
    /// There are globs, and none matches.
    NoGlob,
    /// There are regular expressions, and none matches.
    NoRegex,
    /// This glob excludes it.
    Excluded(String),
    /// It has no version, and one is needed.
    NoVersion,
    /// It is a variant, and nothing names it.
    Variant,
    /// It is this pre-release, and nothing names it.
    PreRelease(String),
    /// Its version is not in this range.
    OutOfRange(String),
    /// Its push time is needed and not told.
    NoTime,
    /// It was pushed too lately.
    TooNew(SystemTime),
    /// It was pushed too long ago.
    TooOld(SystemTime),
    /// There are so many newer ones.
    Surplus(usize),
}

impl fmt::Display for SkippedTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let day = |time: &SystemTime| humantime::format_rfc3339_seconds(*time).to_string();
        match self {
            Self::NoGlob => f.write_str("no `glob` matches"),
            Self::NoRegex => f.write_str("no `regex` matches"),
            Self::Excluded(glob) => write!(f, "`exclude` matches with `{glob}`"),
            Self::NoVersion => f.write_str("it is no version"),
            Self::Variant => f.write_str("it is a variant, which a `glob` or `regex` has to name"),
            Self::PreRelease(pre) => {
                write!(f, "it is a pre-release, and neither a pattern nor the range names `{pre}`")
            }
            Self::OutOfRange(range) => write!(f, "`{range}` does not admit it"),
            Self::NoTime => f.write_str("the registry does not tell when it was pushed"),
            Self::TooNew(pushed) => write!(f, "pushed {}, within `min_age`", day(pushed)),
            Self::TooOld(pushed) => write!(f, "pushed {}, before `max_age`", day(pushed)),
            Self::Surplus(newest) => write!(f, "there are {newest} newer ones"),
        }
    }
}

/// Why a tag was taken, by what its selection asks for.
#[derive(Debug)]
pub struct TagSelection<'a>(pub &'a Selection, pub &'a Listed);

impl fmt::Display for TagSelection<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(selection, listed) = self;
        let name = listed.tag.as_str();
        let mut reasons = Vec::new();
        let glob = selection.glob.iter().find(|glob| glob.matches(name));
        reasons.extend(glob.map(|glob| format!("`{glob}` matches")));
        let regex = selection.regex.iter().find(|regex| regex.matches(name));
        reasons.extend(regex.map(|regex| format!("`{regex}` matches")));
        reasons.extend(selection.semver.as_ref().map(|range| format!("`{range}` admits it")));
        if selection.needs_time()
            && let Some(pushed) = listed.pushed
        {
            reasons.push(format!("pushed {}", humantime::format_rfc3339_seconds(pushed)));
        }
        if let Some(newest) = selection.newest {
            let by = if selection.by == SortKey::Pushed { "push time" } else { "version" };
            reasons.push(format!("among the {newest} newest by {by}"));
        }
        match reasons.is_empty() {
            true => f.write_str("it is a version"),
            false => f.write_str(&reasons.join(", ")),
        }
    }
}
