//! Tag patterns: globs and regular expressions.

use std::{fmt, str::FromStr};

use globset::{GlobBuilder, GlobMatcher};

use super::version::Pre;
use crate::model::{NameError, text::is_unsafe_for_terminal};

/// A glob over whole tags: `*`, `?`, `[a-z]`, `{a,b}`.
#[derive(Debug, Clone)]
pub struct TagGlob(GlobMatcher);

impl TagGlob {
    /// Returns `true` if the whole tag matches.
    pub fn matches(&self, tag: &str) -> bool {
        self.0.is_match(tag)
    }

    /// Returns `true` if the pattern spells out the pre-release's word.
    pub(super) fn names(&self, pre: &Pre) -> bool {
        spells(self.0.glob().glob(), pre)
    }
}

impl FromStr for TagGlob {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let glob = GlobBuilder::new(text).build().map_err(|error| {
            // the error repeats characters of the pattern
            let reason = error.kind().to_string().replace(is_unsafe_for_terminal, "\u{fffd}");
            NameError::new(format!("is not a glob: {reason}"))
                .hint("`*` stands for anything, `?` for one character, `[a-z]` for one of these, `{a,b}` for either")
        })?;
        Ok(Self(glob.compile_matcher()))
    }
}

impl fmt::Display for TagGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.glob().glob())
    }
}

/// A regular expression that matches anywhere in a tag.
#[derive(Debug, Clone)]
pub struct TagRegex(regex::Regex);

impl TagRegex {
    /// Returns `true` if some part of the tag matches.
    pub fn matches(&self, tag: &str) -> bool {
        self.0.is_match(tag)
    }

    /// Returns `true` if the pattern spells out the pre-release's word.
    pub(super) fn names(&self, pre: &Pre) -> bool {
        spells(self.0.as_str(), pre)
    }
}

impl FromStr for TagRegex {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let regex = regex::Regex::new(text).map_err(|error| {
            // the last line of the library's multi-line message is the reason
            let message = error.to_string();
            let reason = message.lines().last().unwrap_or_default();
            let reason = reason.strip_prefix("error: ").unwrap_or(reason);
            NameError::new(format!("is not a regular expression: {reason}"))
        })?;
        Ok(Self(regex))
    }
}

impl fmt::Display for TagRegex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

/// Returns `true` if the word is a run of letters of the pattern: `rc` of `*-rc*`, not `a` of
/// `*-alpine`.
fn spells(pattern: &str, pre: &Pre) -> bool {
    pattern.split(|c: char| !c.is_ascii_alphabetic()).any(|run| run.eq_ignore_ascii_case(&pre.word))
}
