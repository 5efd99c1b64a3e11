//! Translates the regular expressions of other tools to `regex`, which matches whole tags.
//!
//! All of the tools are written in Go. A translated pattern spells out both ends.

use crate::model::{NameError, Tag, select::TagRegex};

/// The pattern of whole tags that matches the tags of which a part matches this Go pattern.
///
/// # Errors
/// If the pattern has no equivalent.
pub(super) fn of_part(pattern: &str) -> Result<String, NameError> {
    let pattern = rust_syntax(pattern);
    let regex: TagRegex = pattern.parse()?;
    Ok(regex.with_ends().map_or(pattern, |ends| ends.anywhere))
}

/// The same for a pattern to which the tool adds both anchors.
pub(super) fn between_anchors(pattern: &str) -> Result<String, NameError> {
    let is_escaped = |before: &str| before.len() - before.trim_end_matches('\\').len();
    let has_end = pattern.strip_suffix('$').is_some_and(|before| is_escaped(before) % 2 == 0);
    let start = if pattern.starts_with('^') { "" } else { "^" };
    let end = if has_end { "" } else { "$" };
    of_part(&format!("{start}{pattern}{end}"))
}

/// The same for a pattern to which the tool adds the anchors that it does not have.
pub(super) fn with_missing_anchors(pattern: &str) -> Result<String, NameError> {
    let start = if pattern.starts_with('^') { "" } else { "^" };
    let end = if pattern.ends_with('$') { "" } else { "$" };
    of_part(&format!("{start}{pattern}{end}"))
}

/// The tag that the pattern spells out; `None` if it matches other tags too.
pub(super) fn literal(pattern: &str) -> Option<Tag> {
    let text = pattern.strip_prefix('^').unwrap_or(pattern);
    let text = text.strip_suffix('$').unwrap_or(text).replace(r"\.", ".").replace(r"\-", "-");
    let is_literal = !pattern.replace(r"\.", "").contains('.');
    is_literal.then(|| text.parse().ok()).flatten()
}

/// Escapes the characters that only Rust's character sets give a meaning: `[`, `&` and `~`.
fn rust_syntax(pattern: &str) -> String {
    let (mut text, mut in_set) = (String::new(), false);
    let mut characters = pattern.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\\' => {
                text.push(c);
                text.extend(characters.next());
                continue;
            }
            '[' if in_set && characters.peek() == Some(&':') => {
                // a class like `[:alpha:]`
                text.push(c);
                for c in characters.by_ref() {
                    text.push(c);
                    if c == ']' {
                        break;
                    }
                }
                continue;
            }
            '[' | '&' | '~' if in_set => text.push('\\'),
            '[' => {
                in_set = true;
                text.push(c);
                // the first `]` of a set is a member
                text.extend(characters.next_if_eq(&'^'));
                text.extend(characters.next_if_eq(&']'));
                continue;
            }
            ']' => in_set = false,
            _ => {}
        }
        text.push(c);
    }
    text
}

/// Returns `true` if the pattern can match a pre-release whose word it does not spell out.
///
/// `false` only for patterns of literals, digits and quantifiers.
pub(super) fn can_match_pre_releases(pattern: &str) -> bool {
    let mut characters = pattern.chars();
    let mut in_set = false;
    while let Some(c) = characters.next() {
        match c {
            '\\' => match characters.next() {
                Some('d' | 'A' | 'z') => {}
                Some(c) if !c.is_ascii_alphanumeric() => {}
                _ => return true,
            },
            '.' if !in_set => return true,
            '[' => in_set = true,
            ']' => in_set = false,
            '^' if in_set => return true,
            '(' if characters.as_str().starts_with('?') => {
                if !characters.as_str().starts_with("?:") {
                    return true;
                }
                characters.next();
                characters.next();
            }
            c if in_set && !c.is_ascii_digit() && !"._-".contains(c) => return true,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_keeps_the_tags_that_the_tool_selects() {
        for (pattern, part, anchored) in [
            (r"3\.\d+", r".*3\.\d+.*", r"^3\.\d+$"),
            (
                r"^1\.13\.[12]-alpine-perl$",
                r"^1\.13\.[12]-alpine-perl$",
                r"^1\.13\.[12]-alpine-perl$",
            ),
            ("a+", ".*a+.*", "^a+$"),
            // the anchors bind to one alternative each
            ("1|2", ".*(?:1|2).*", ".*(?:^1|2$).*"),
            ("(1|2)", ".*(1|2).*", "^(1|2)$"),
            ("[[:digit:]]+", ".*[[:digit:]]+.*", "^[[:digit:]]+$"),
            ("[a[&~]", r".*[a\[\&\~].*", r"^[a\[\&\~]$"),
            ("[]a]", ".*[]a].*", "^[]a]$"),
        ] {
            assert_eq!(of_part(pattern).unwrap(), part, "{pattern}");
            assert_eq!(between_anchors(pattern).unwrap(), anchored, "{pattern}");
        }
        assert_eq!(with_missing_anchors("^a").unwrap(), "^a$");
        assert_eq!(with_missing_anchors("a$").unwrap(), "^a$");
        for without_equivalent in ["a(", r"\Qa\E", "a{", "(?=a)", r"\C"] {
            assert!(of_part(without_equivalent).is_err(), "{without_equivalent}");
        }
    }

    #[test]
    fn a_pattern_that_spells_out_a_tag_is_recognized() {
        for (pattern, expected) in [
            ("latest", Some("latest")),
            (r"^1\.25\-x$", Some("1.25-x")),
            ("1.25", None),
            (r"\d", None),
            ("a|b", None),
            ("", None),
        ] {
            assert_eq!(literal(pattern).as_ref().map(Tag::as_str), expected, "{pattern}");
        }
    }

    #[test]
    fn a_pattern_that_can_match_pre_releases_is_recognized() {
        for (pattern, expected) in [
            (r"^v?\d+\.\d+$", false),
            ("^latest$", false),
            (r"^(?:1|2)\.[0-9._-]+$", false),
            (r"^1\.\d+-rc\d$", false),
            ("^1.0$", true),
            (r"^1\.\w+$", true),
            ("^1-[a-z]+$", true),
            ("^1-[^a]$", true),
            ("(?i)^1-RC$", true),
        ] {
            assert_eq!(can_match_pre_releases(pattern), expected, "{pattern}");
        }
    }
}
