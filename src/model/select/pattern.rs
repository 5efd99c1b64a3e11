//! Tag patterns: globs and regular expressions.

use std::{fmt, str::FromStr};

use globset::{GlobBuilder, GlobMatcher};

use super::version::Pre;
use crate::model::{NameError, text::is_unsafe_for_terminal};

/// A glob over whole tags: `*`, `?`, `[a-z]`, `{a,b}`.
#[derive(Debug, Clone)]
pub struct TagGlob(GlobMatcher);

impl TagGlob {
    /// The first character of the pattern that no tag contains, such as the `\` of `\d`: then the
    /// glob matches no tag, or its author meant a regular expression.
    pub(crate) fn impossible(&self) -> Option<char> {
        let mut in_set = false;
        self.0.glob().glob().chars().find(|&c| {
            match c {
                '[' => in_set = true,
                ']' => in_set = false,
                // `[^a]` is a set
                '^' if in_set => return false,
                _ => {}
            }
            !(c.is_ascii_alphanumeric() || "_.-*?[]{},!".contains(c))
        })
    }

    /// Returns `true` if the whole tag matches.
    pub(crate) fn matches(&self, tag: &str) -> bool {
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
                .hint("use `*` for any text, `?` for one character, `[a-z]` for one of a set, `{a,b}` for alternatives")
        })?;
        Ok(Self(glob.compile_matcher()))
    }
}

impl fmt::Display for TagGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.glob().glob())
    }
}

/// A regular expression over whole tags.
#[derive(Debug, Clone)]
pub struct TagRegex {
    text: String,
    /// Anchored at both ends.
    whole: regex::Regex,
}

impl TagRegex {
    /// Returns `true` if the whole tag matches.
    pub(crate) fn matches(&self, tag: &str) -> bool {
        self.whole.is_match(tag)
    }

    /// Returns `true` if the pattern spells out the pre-release's word.
    pub(super) fn names(&self, pre: &Pre) -> bool {
        spells(&self.text, pre)
    }

    /// The pattern with the ends spelled out; `None` if they are. Decides by the ends of each
    /// alternative.
    pub(crate) fn with_ends(&self) -> Option<RegexEnds> {
        let text = match self.text.strip_prefix("(?").and_then(|rest| rest.split_once(')')) {
            Some((flags, rest)) if flags.bytes().all(|b| b.is_ascii_alphabetic()) => rest,
            _ => self.text.as_str(),
        };
        let alternatives = alternatives(text);
        let starts = |text: &&str| ["^", r"\A", ".*", ".+"].iter().any(|end| text.starts_with(end));
        let ends = |text: &&str| {
            let end = ["$", r"\z", ".*", ".+"].iter().find_map(|end| text.strip_suffix(end));
            // an odd number of backslashes escapes the end
            end.is_some_and(|before| {
                (before.len() - before.trim_end_matches('\\').len()).is_multiple_of(2)
            })
        };
        let (starts, ends) = (alternatives.iter().all(starts), alternatives.iter().all(ends));
        match (&alternatives[..], starts, ends) {
            (_, true, true) => None,
            ([_], ..) => {
                let flags = &self.text[..self.text.len() - text.len()];
                let with = |start, end| {
                    let start = if starts { "" } else { start };
                    let end = if ends { "" } else { end };
                    format!("{flags}{start}{text}{end}")
                };
                Some(RegexEnds { whole: with("^", "$"), anywhere: with(".*", ".*") })
            }
            _ => Some(RegexEnds {
                whole: format!("^(?:{})$", self.text),
                anywhere: format!(".*(?:{}).*", self.text),
            }),
        }
    }
}

/// A regular expression with both ends spelled out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RegexEnds {
    /// Matches the same tags.
    pub(crate) whole: String,
    /// Matches the tags of which a part matches the expression.
    pub(crate) anywhere: String,
}

/// The parts of a regular expression between the `|` outside of its groups and sets.
fn alternatives(pattern: &str) -> Vec<&str> {
    let (mut parts, mut from, mut depth, mut in_set) = (Vec::new(), 0, 0_usize, false);
    let mut characters = pattern.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '\\' => drop(characters.next()),
            '[' => in_set = true,
            ']' => in_set = false,
            '(' if !in_set => depth += 1,
            ')' if !in_set => depth = depth.saturating_sub(1),
            '|' if !in_set && depth == 0 => {
                parts.push(&pattern[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&pattern[from..]);
    parts
}

impl FromStr for TagRegex {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let whole = |end| regex::Regex::new(&format!(r"\A(?:{text}{end})\z"));
        // `a)(b` is valid only between the anchors; a comment of `(?x)` would hide the closing one
        let valid = regex::Regex::new(text).and_then(|_| whole("").or_else(|_| whole("\n")));
        let whole = valid.map_err(|error| {
            // the last line of the library's multi-line message is the reason
            let message = error.to_string();
            let reason = message.lines().last().unwrap_or_default();
            let reason = reason.strip_prefix("error: ").unwrap_or(reason);
            NameError::new(format!("is not a regular expression: {reason}"))
                .hint("correct it, or escape special characters with `\\`")
        })?;
        Ok(Self { text: text.to_owned(), whole })
    }
}

impl fmt::Display for TagRegex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Returns `true` if the word is a run of letters of the pattern: `rc` of `*-rc*`, not `a` of
/// `*-alpine`.
fn spells(pattern: &str, pre: &Pre) -> bool {
    pattern.split(|c: char| !c.is_ascii_alphabetic()).any(|run| run.eq_ignore_ascii_case(&pre.word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_regular_expression_matches_whole_tags() {
        for (pattern, inside, outside) in [
            (r"v\d+\.\d+\.\d+", &["v1.9.0"][..], &["foo-v1.9.0", "v1.9.0-rc.1"][..]),
            ("a|ab", &["a", "ab"], &["abc", "ba"]),
            ("^1|2$", &["1", "2"], &["1.0", "0.2"]),
            (".*rc.*", &["1.0-rc.1", "rc"], &["1.0"]),
            ("(?x) a # the first", &["a"], &["ab"]),
            ("(?i)RC", &["rc"], &["rc1"]),
            ("", &[], &["a"]),
        ] {
            let regex: TagRegex = pattern.parse().unwrap();
            for (tags, expected) in [(inside, true), (outside, false)] {
                for tag in tags {
                    assert_eq!(regex.matches(tag), expected, "{pattern} {tag}");
                }
            }
        }
        assert!("a)(b".parse::<TagRegex>().is_err());
    }

    #[test]
    fn a_pattern_whose_meaning_depends_on_its_ends_is_recognized() {
        for (pattern, expected) in [
            (r"^1\.\d+$", None),
            (r"\A1\z", None),
            (".*rc.*", None),
            (".+-alpine$", None),
            ("(?i)^rc$", None),
            ("^(a|b)$", None),
            ("^a$|^b$", None),
            ("^[$|]$", None),
            ("rc", Some(("^rc$", ".*rc.*"))),
            (r"^v\d+", Some((r"^v\d+$", r"^v\d+.*"))),
            ("-alpine$", Some(("^-alpine$", ".*-alpine$"))),
            (r"^1\$", Some((r"^1\$$", r"^1\$.*"))),
            ("(?i)rc", Some(("(?i)^rc$", "(?i).*rc.*"))),
            ("^a|b$", Some(("^(?:^a|b$)$", ".*(?:^a|b$).*"))),
            ("(?:a)", Some(("^(?:a)$", ".*(?:a).*"))),
        ] {
            let ends = pattern.parse::<TagRegex>().unwrap().with_ends();
            let shown = ends.as_ref().map(|ends| (ends.whole.as_str(), ends.anywhere.as_str()));
            assert_eq!(shown, expected, "{pattern}");
            for text in ends.iter().flat_map(|ends| [&ends.whole, &ends.anywhere]) {
                assert_eq!(text.parse::<TagRegex>().unwrap().with_ends(), None, "{text}");
            }
        }
    }

    #[test]
    fn a_glob_with_the_signs_of_a_regular_expression_is_recognized() {
        for (pattern, expected) in [
            ("*-rc*", None),
            ("1.2[0-4]*", None),
            ("[!a]*", None),
            ("[^a]*", None),
            ("{1,2}.*", None),
            (r"1\.\d", Some('\\')),
            ("^1.*", Some('^')),
            ("1.*$", Some('$')),
            ("[0-9]+", Some('+')),
            ("(rc|beta)", Some('(')),
            ("a b", Some(' ')),
        ] {
            assert_eq!(pattern.parse::<TagGlob>().unwrap().impossible(), expected, "{pattern}");
        }
    }
}
