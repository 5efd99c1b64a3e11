//! The reasons why a tag is selected or skipped, for the log.

use std::{fmt, time::SystemTime};

use super::selection::{Listed, Selection, SortKey};

/// The reason why a tag is skipped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SkippedTag {
    #[error("no `glob` matches")]
    NoGlob,
    #[error("no `regex` matches")]
    NoRegex,
    #[error("`{0}` of `exclude` matches")]
    Excluded(String),
    #[error("`{0}` of `exclude_regex` matches")]
    ExcludedByRegex(String),
    #[error("not a version")]
    NoVersion,
    #[error("a variant, which only a `glob` or `regex` selects")]
    Variant,
    #[error("a pre-release, and neither a pattern nor the range names `{0}`")]
    PreRelease(String),
    #[error("not in the range `{0}`")]
    OutOfRange(String),
    #[error("the registry does not report its push time")]
    NoTime,
    #[error("pushed {time}, within `min_age`", time = humantime::format_rfc3339_seconds(*.0))]
    TooNew(SystemTime),
    #[error("pushed {time}, before `max_age`", time = humantime::format_rfc3339_seconds(*.0))]
    TooOld(SystemTime),
    #[error("a floating tag: a longer version begins with it, and `newest` counts that one")]
    Floating,
    #[error("{0} newer {tags} selected", tags = if *.0 == 1 { "tag is" } else { "tags are" })]
    Surplus(usize),
}

impl SkippedTag {
    /// The same reason without its details, which many tags share, and the fix.
    pub(super) fn summary(&self) -> (String, &'static str) {
        let fix = match self {
            Self::NoGlob => "change `glob`",
            Self::NoRegex => "change `regex`, which matches whole tags",
            Self::Excluded(_) => "change `exclude`",
            Self::ExcludedByRegex(_) => "change `exclude_regex`",
            Self::NoVersion => "add a `glob` or `regex`, and remove `semver` and `newest`",
            Self::Variant | Self::PreRelease(_) => {
                "add a `glob` or `regex` that matches these tags"
            }
            Self::OutOfRange(_) => "change `semver`",
            Self::NoTime => "remove the keys that need push times",
            Self::TooNew(_) => "lower `min_age`",
            Self::TooOld(_) => "raise `max_age`",
            Self::Floating => "add the tag to `tags`",
            Self::Surplus(_) => "raise `newest`",
        };
        let text = match self {
            Self::PreRelease(_) => {
                "a pre-release that neither a pattern nor the range names".into()
            }
            Self::TooNew(_) => "pushed within `min_age`".into(),
            Self::TooOld(_) => "pushed before `max_age`".into(),
            other => other.to_string(),
        };
        (text, fix)
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
