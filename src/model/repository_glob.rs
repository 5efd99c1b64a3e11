//! A glob over the repositories of a destination.

use std::{fmt, str::FromStr};

use globset::{GlobBuilder, GlobMatcher};

use super::names::{NameError, Repository};

/// `*` matches any text, `/` too, and `?` one character.
#[derive(Debug, Clone)]
pub struct RepositoryGlob(GlobMatcher);

impl RepositoryGlob {
    pub(crate) fn matches(&self, repository: &Repository) -> bool {
        self.0.is_match(repository.as_str())
    }

    /// The length of the text before the first wildcard: the longer one is more specific. Without a
    /// wildcard, the glob is more specific than any with one.
    pub(crate) fn literal_length(&self) -> usize {
        self.text().find(['*', '?']).unwrap_or(usize::MAX)
    }

    fn text(&self) -> &str {
        self.0.glob().glob()
    }
}

impl PartialEq for RepositoryGlob {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl FromStr for RepositoryGlob {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let is_allowed =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._/-*?".contains(&b);
        let glob = GlobBuilder::new(text).build().ok();
        let glob = glob.filter(|_| !text.is_empty() && text.bytes().all(is_allowed));
        let glob = glob.ok_or_else(|| {
            NameError::new("is not a glob of repositories").hint(
                "write a repository with its prefix, with `*` for any text, like `mirror/prod/*`",
            )
        })?;
        Ok(Self(glob.compile_matcher()))
    }
}

impl fmt::Display for RepositoryGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}
