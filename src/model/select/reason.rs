//! The reasons why a tag is selected or skipped, for the log.

use std::{fmt, time::SystemTime};

use super::selection::{Listed, Selection, SortKey};

/// The reason why a tag is skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SkippedTag {
    NoGlob,
    NoRegex,
    Excluded(String),
    NoVersion,
    Variant,
    PreRelease(String),
    OutOfRange(String),
    NoTime,
    TooNew(SystemTime),
    TooOld(SystemTime),
    Surplus(usize),
}

impl fmt::Display for SkippedTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |time: &SystemTime| humantime::format_rfc3339_seconds(*time).to_string();
        match self {
            Self::NoGlob => f.write_str("no `glob` matches"),
            Self::NoRegex => f.write_str("no `regex` matches"),
            Self::Excluded(glob) => write!(f, "`{glob}` of `exclude` matches"),
            Self::NoVersion => f.write_str("not a version"),
            Self::Variant => f.write_str("a variant, which only a `glob` or `regex` selects"),
            Self::PreRelease(pre) => {
                write!(f, "a pre-release, and neither a pattern nor the range names `{pre}`")
            }
            Self::OutOfRange(range) => write!(f, "not in the range `{range}`"),
            Self::NoTime => f.write_str("the registry does not report its push time"),
            Self::TooNew(pushed) => write!(f, "pushed {}, within `min_age`", time(pushed)),
            Self::TooOld(pushed) => write!(f, "pushed {}, before `max_age`", time(pushed)),
            Self::Surplus(newest) => write!(f, "{newest} newer tags are selected"),
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
        reasons.extend(selection.semver.as_ref().map(|range| format!("in the range `{range}`")));
        if let Some(pushed) = listed.pushed.filter(|_| selection.needs_time()) {
            reasons.push(format!("pushed {}", humantime::format_rfc3339_seconds(pushed)));
        }
        if let Some(newest) = selection.newest {
            let by = if selection.by == SortKey::Pushed { "push time" } else { "version" };
            reasons.push(format!("among the {newest} newest by {by}"));
        }
        match reasons.is_empty() {
            true => f.write_str("a version"),
            false => f.write_str(&reasons.join(", ")),
        }
    }
}
