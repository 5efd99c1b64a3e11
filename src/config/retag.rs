//! `retag`: the tag of an image at the destination.

use std::{fmt, str::FromStr};

use regex::Regex;

use super::{
    document::{Keys, Table},
    problem::Problem,
};
use crate::model::{Digest, NameError, Tag};

/// A template of a tag: text with `{tag}` and `{digest8}`. The default is `{tag}`.
///
/// With an expression it applies to the tags that match, and may name their groups. Other tags keep
/// their names.
#[derive(Debug, Clone)]
pub struct Retag {
    from: Option<Regex>,
    to: String,
}

const TAG: &str = "{tag}";

/// The first eight hexadecimal digits of the source digest.
const DIGEST8: &str = "{digest8}";

const KEYS: Keys =
    Keys { title: "`retag = { from = \"^stable-(.*)$\", to = \"$1\" }`", names: "from to" };

impl Default for Retag {
    fn default() -> Self {
        Self { from: None, to: TAG.to_owned() }
    }
}

impl Retag {
    /// Reads a template, or a table with an expression and a template.
    pub(super) fn read(table: &Table<'_>) -> Result<Option<Self>, Problem> {
        if table.is_string("retag") {
            return table.parsed("retag");
        }
        let Some(table) = table.table("retag", &KEYS)? else { return Ok(None) };
        let text = |key| {
            let hint = format!("write {}", KEYS.title);
            table.text(key)?.ok_or_else(|| table.missing(key, hint))
        };
        let (from, to) = (text("from")?, text("to")?);
        let retag: Self = to.parse()?;
        let from_regex = Regex::new(&from).map_err(|_| {
            from.invalid("is not a regular expression", "write one like `^stable-(.*)$`")
        })?;
        let names: Vec<&str> = from_regex.capture_names().flatten().collect();
        if let Some(group) = unknown_group(&to, from_regex.captures_len(), &names) {
            let label = format!("`from` has no group `{group}`");
            return Err(to.invalid(
                label,
                "write `$1` for the first group in parentheses, `${1}` with braces as `$${1}`",
            ));
        }
        Ok(Some(Self { from: Some(from_regex), ..retag }))
    }

    pub(crate) fn needs_digest(&self) -> bool {
        self.to.contains(DIGEST8)
    }

    /// The tag at the destination.
    ///
    /// # Errors
    /// If the result is not a tag, or if the template needs a digest and `digest` is `None`.
    pub(crate) fn apply(&self, tag: &Tag, digest: Option<&Digest>) -> Result<Tag, NameError> {
        let mut expanded = match &self.from {
            None => self.to.clone(),
            Some(from) => match from.captures(tag.as_str()) {
                None => return Ok(tag.clone()),
                // like `sed`: the text around the match stays
                Some(captures) => {
                    let matched = captures.get(0).expect("group 0 is the match");
                    let mut made = tag.as_str()[..matched.start()].to_owned();
                    captures.expand(&self.to, &mut made);
                    made + &tag.as_str()[matched.end()..]
                }
            },
        };
        expanded = expanded.replace(TAG, tag.as_str());
        if self.needs_digest() {
            let digest =
                digest.ok_or_else(|| NameError::new("requires a digest for `{digest8}`"))?;
            expanded = expanded.replace(DIGEST8, &digest.hex()[..8]);
        }
        // shares the memory of the name
        if expanded == tag.as_str() {
            return Ok(tag.clone());
        }
        expanded.parse().map_err(|error: NameError| NameError {
            problem: "does not result in a valid tag".to_owned(),
            ..error
        })
    }
}

/// The first group that the template names and the expression does not have. The `regex` crate
/// replaces it by nothing.
fn unknown_group<'t>(to: &'t str, count: usize, names: &[&str]) -> Option<&'t str> {
    let groups = to.match_indices('$').filter_map(|(at, _)| {
        let rest = &to[at + 1..];
        if to[..at].ends_with('$') || rest.starts_with('$') {
            return None;
        }
        match rest.strip_prefix('{') {
            Some(body) => body.split_once('}').map(|(name, _)| name),
            None => {
                let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let name = &rest[..rest.find(|c| !is_name(c)).unwrap_or(rest.len())];
                (!name.is_empty()).then_some(name)
            }
        }
    });
    let is_unknown = |name: &&str| match name.parse::<usize>() {
        Ok(number) => number >= count,
        Err(_) => !names.contains(name),
    };
    groups.into_iter().find(is_unknown)
}

impl FromStr for Retag {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let rest = text.replace(TAG, "-").replace(DIGEST8, "-").replace("${", "-");
        if rest.contains('{') {
            return Err(NameError::new("has an unknown placeholder")
                .hint("use only `{tag}` and `{digest8}`"));
        }
        Ok(Self { from: None, to: text.to_owned() })
    }
}

impl fmt::Display for Retag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_expands_to_a_tag() {
        let digest = Digest::of(b"");
        let tag: Tag = "1.27".parse().unwrap();
        for (template, expected) in [
            ("{tag}", Ok("1.27")),
            ("v{tag}-eu", Ok("v1.27-eu")),
            ("{tag}-{digest8}", Ok("1.27-e3b0c442")),
            ("stable", Ok("stable")),
            ("-{tag}", Err("does not result in a valid tag")),
            ("", Err("does not result in a valid tag")),
            ("{tag}}", Err("does not result in a valid tag")),
        ] {
            let made = template.parse::<Retag>().unwrap().apply(&tag, Some(&digest));
            let made = made.as_ref().map(Tag::as_str).map_err(|e| e.problem.as_str());
            assert_eq!(made, expected, "{template}");
        }
    }

    #[test]
    fn an_expression_renames_the_tags_that_match() {
        for (from, to, tag, expected) in [
            ("^stable-(.*)$", "$1", "stable-2.13", Ok("2.13")),
            ("^stable-(.*)$", "$1", "2.13", Ok("2.13")),
            ("^v", "", "v1.2.3", Ok("1.2.3")),
            (r"-debian-12-r\d+$", "", "1.2.3-debian-12-r10", Ok("1.2.3")),
            (r"^(?<major>\d+)\.", "${major}_", "1.2", Ok("1_2")),
            ("^(.*)$", "{digest8}-$1", "1", Ok("e3b0c442-1")),
            ("^(.*)$", "{tag}-x", "1", Ok("1-x")),
            ("^stable-", "", "stable-", Err("does not result in a valid tag")),
        ] {
            let retag: Retag = to.parse().unwrap();
            let retag = Retag { from: Some(Regex::new(from).unwrap()), ..retag };
            let made = retag.apply(&tag.parse().unwrap(), Some(&Digest::of(b"")));
            let made = made.as_ref().map(Tag::as_str).map_err(|e| e.problem.as_str());
            assert_eq!(made, expected, "{from} {to} {tag}");
        }
    }

    #[test]
    fn a_group_that_the_expression_lacks_is_found() {
        for (to, expected) in [
            ("$1-$2", None),
            ("$1x", Some("1x")),
            ("${1}x", None),
            ("$3", Some("3")),
            ("$name", None),
            ("$other", Some("other")),
            ("$$9", None),
            ("costs$", None),
        ] {
            assert_eq!(unknown_group(to, 3, &["name"]), expected, "{to}");
        }
    }

    #[test]
    fn an_unknown_placeholder_is_rejected() {
        for template in ["{version}", "{", "{tag", "{Tag}", "{}", "{{tag}}", "{dig{tag}est8}"] {
            let result = template.parse::<Retag>();
            assert!(result.is_err(), "{template}: {result:?}");
        }
    }
}
