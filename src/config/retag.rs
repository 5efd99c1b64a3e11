//! Tag templates: the tag of an image at the destination.

use std::{fmt, str::FromStr};

use crate::model::{Digest, NameError, Tag};

/// A template of a tag: text with `{tag}` and `{digest8}`. The default is `{tag}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retag(String);

const TAG: &str = "{tag}";

/// The first eight hexadecimal digits of the source digest.
const DIGEST8: &str = "{digest8}";

impl Default for Retag {
    fn default() -> Self {
        Self(TAG.to_owned())
    }
}

impl Retag {
    pub(crate) fn needs_digest(&self) -> bool {
        self.0.contains(DIGEST8)
    }

    /// The tag at the destination.
    ///
    /// # Errors
    /// If the result is not a tag, or if the template needs a digest and `digest` is `None`.
    pub(crate) fn apply(&self, tag: &Tag, digest: Option<&Digest>) -> Result<Tag, NameError> {
        let mut expanded = self.0.replace(TAG, tag.as_str());
        if self.needs_digest() {
            let digest =
                digest.ok_or_else(|| NameError::new("requires a digest for `{digest8}`"))?;
            expanded = expanded.replace(DIGEST8, &digest.hex()[..8]);
        }
        expanded.parse().map_err(|error: NameError| NameError {
            problem: "does not result in a valid tag".to_owned(),
            ..error
        })
    }
}

impl FromStr for Retag {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.replace(TAG, "-").replace(DIGEST8, "-").contains('{') {
            return Err(NameError::new("has an unknown placeholder")
                .hint("use only `{tag}` and `{digest8}`"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Retag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
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
    fn an_unknown_placeholder_is_rejected() {
        for template in ["{version}", "{", "{tag", "{Tag}", "{}", "{{tag}}", "{dig{tag}est8}"] {
            let result = template.parse::<Retag>();
            assert!(result.is_err(), "{template}: {result:?}");
        }
    }
}
