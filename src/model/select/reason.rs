//! The reasons why a tag is selected or skipped, for the log.

use std::{fmt, time::SystemTime};

use super::selection::{Listed, Selection, SortKey};

/// The reason why a tag is skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SkippedTag {
    /// No glob matches.
    NoGlob,
    /// No regular expression matches.
    NoRegex,
    /// This glob excludes it.
    Excluded(String),
    /// It is not a version, and the selection needs one.
    NoVersion,
    /// It is a variant that no pattern names.
    Variant,
    /// It is this pre-release, which neither a pattern nor the range names.
    PreRelease(String),
    /// Its version is not in this range.
    OutOfRange(String),
    /// The selection needs its push time, which the registry does not report.
    NoTime,
    /// It was pushed within `min_age`.
    TooNew(SystemTime),
    /// It was pushed before `max_age`.
    TooOld(SystemTime),
    /// This many newer tags match.
    Surplus(usize),
}

impl fmt::Display for SkippedTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |time: &SystemTime| humantime::format_rfc3339_seconds(*time).to_string();
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
            Self::TooNew(pushed) => write!(f, "pushed {}, within `min_age`", time(pushed)),
            Self::TooOld(pushed) => write!(f, "pushed {}, before `max_age`", time(pushed)),
            Self::Surplus(newest) => write!(f, "there are {newest} newer ones"),
        }
    }
}

/// Displays the reason why the selection selected this tag.
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
        if let Some(pushed) = listed.pushed.filter(|_| selection.needs_time()) {
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
