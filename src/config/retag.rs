//! Tag templates: the tag of an image at the destination.

use std::{fmt, str::FromStr};

use crate::model::{Digest, NameError, Tag};

/// A template of a tag: text with `{tag}` and `{digest8}`. The default is `{tag}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retag(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Tag,
    /// The first eight hexadecimal digits of the source digest.
    Digest8,
}

impl Default for Retag {
    fn default() -> Self {
        Self(vec![Part::Tag])
    }
}

impl Retag {
    pub(crate) fn needs_digest(&self) -> bool {
        self.0.contains(&Part::Digest8)
    }

    /// The tag at the destination.
    ///
    /// # Errors
    /// If the result is not a tag, or if the template needs a digest and there is none.
    pub(crate) fn apply(&self, tag: &Tag, digest: Option<&Digest>) -> Result<Tag, NameError> {
        let mut expanded = String::new();
        for part in &self.0 {
            match (part, digest) {
                (Part::Text(text), _) => expanded.push_str(text),
                (Part::Tag, _) => expanded.push_str(tag.as_str()),
                (Part::Digest8, Some(digest)) => expanded.push_str(&digest.hex()[..8]),
                (Part::Digest8, None) => {
                    return Err(NameError::new("needs the digest for `{digest8}`"));
                }
            }
        }
        expanded.parse().map_err(|error: NameError| NameError {
            problem: "does not make a tag".to_owned(),
            ..error
        })
    }
}

impl FromStr for Retag {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            let (name, after) = after.split_once('}').unwrap_or_default();
            parts.push(match name {
                "tag" => Part::Tag,
                "digest8" => Part::Digest8,
                _ => {
                    return Err(NameError::new("has a `{…}` that stands for nothing")
                        .hint("`{tag}` and `{digest8}` can be used"));
                }
            });
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }
}

impl fmt::Display for Retag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(text),
            Part::Tag => f.write_str("{tag}"),
            Part::Digest8 => f.write_str("{digest8}"),
        })
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
            ("-{tag}", Err("does not make a tag")),
            ("", Err("does not make a tag")),
            ("{tag}}", Err("does not make a tag")),
        ] {
            let made = template.parse::<Retag>().unwrap().apply(&tag, Some(&digest));
            let made = made.as_ref().map(Tag::as_str).map_err(|e| e.problem.as_str());
            assert_eq!(made, expected, "{template}");
        }
    }

    #[test]
    fn an_unknown_placeholder_is_rejected() {
        for template in ["{version}", "{", "{tag", "{Tag}", "{}", "{{tag}}"] {
            let result = template.parse::<Retag>();
            assert!(result.is_err(), "{template}: {result:?}");
        }
    }
}
