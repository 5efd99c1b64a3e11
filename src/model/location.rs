//! The place of repositories: a registry, or an OCI image layout on disk.
//!
//! The only code that knows how a location, and an image at it, is written. `skopeo` accepts the
//! same names, after its transport.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use super::{
    ecr_host::EcrHost,
    names::{Host, NameError, Repository, Tag, TagOrDigest},
    reference::Reference,
};

/// The prefix of a layout, as in `skopeo`.
const SCHEME: &str = "oci:";

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Location {
    Registry(Host),
    Layout { directory: PathBuf, naming: Naming },
}

/// The form of image names in a layout: its annotation `org.opencontainers.image.ref.name`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Naming {
    /// `TAG`: the layout is one repository.
    Tag,
    /// `REPOSITORY:TAG`: the layout has many repositories.
    RepositoryAndTag,
}

impl Naming {
    pub fn name(self, repository: &Repository, tag: &Tag) -> String {
        match self {
            Self::Tag => tag.to_string(),
            Self::RepositoryAndTag => format!("{repository}:{tag}"),
        }
    }

    /// Parses the name of an image: a tag, with or without a repository.
    /// Layouts allow other names.
    pub fn parse(name: &str) -> Result<(Option<Repository>, Tag), NameError> {
        match name.rsplit_once(':') {
            Some((repository, tag)) => Ok((Some(repository.parse()?), tag.parse()?)),
            None => Ok((None, name.parse()?)),
        }
    }

    pub fn with(repository: Option<&Repository>) -> Self {
        if repository.is_some() { Self::RepositoryAndTag } else { Self::Tag }
    }
}

impl Location {
    pub(crate) fn host(&self) -> Option<&Host> {
        if let Self::Registry(host) = self { Some(host) } else { None }
    }

    /// The host, if it is a private ECR registry.
    pub(crate) fn ecr(&self) -> Option<EcrHost> {
        self.host().and_then(EcrHost::parse)
    }

    /// Checks that images can be mirrored to it.
    ///
    /// Source: ECR Public user guide, "Registry authentication": pushes need the API
    /// `ecr-public`, which creates repositories too.
    pub(crate) fn check_destination(&self) -> Result<(), NameError> {
        let host = self.host().map(Host::as_str);
        match host.map(|host| host.strip_suffix(":443").unwrap_or(host)) {
            Some("public.ecr.aws" | "ecr-public.aws.com") => {
                Err(NameError::new("is ECR Public, which is not supported as a destination")
                    .hint("write a private registry, like `123456789012.dkr.ecr.eu-west-1.amazonaws.com`; ECR Public has another login and API"))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn reference(&self, repository: &Repository, at: &TagOrDigest) -> String {
        match (self, at) {
            (Self::Registry(_), at) => format!("{self}/{repository}{at}"),
            (Self::Layout { naming, .. }, TagOrDigest::Tag(tag)) => {
                format!("{self}:{}", naming.name(repository, tag))
            }
            (Self::Layout { .. }, TagOrDigest::Digest(_)) => format!("{self}{at}"),
        }
    }

    pub(crate) fn repository(&self, repository: &Repository) -> String {
        match self {
            Self::Registry(_) => format!("{self}/{repository}"),
            Self::Layout { naming: Naming::RepositoryAndTag, .. } => format!("{self}:{repository}"),
            Self::Layout { naming: Naming::Tag, .. } => self.to_string(),
        }
    }

    /// The location, its directory relative to `base`.
    pub(crate) fn below(self, base: &Path) -> Self {
        let Self::Layout { directory, naming } = self else { return self };
        Self::Layout { directory: base.join(directory), naming }
    }
}

impl From<Host> for Location {
    fn from(host: Host) -> Self {
        Self::Registry(host)
    }
}

impl FromStr for Location {
    type Err = NameError;

    /// Parses a host, or `oci:DIR` for a layout with many repositories.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let Some(directory) = below_scheme(text) else {
            return text.parse().map(Self::Registry);
        };
        if let Some((directory, _)) = directory.split_once(':') {
            return Err(NameError::new("names an image, not an OCI layout").hint(format!(
                "write `{SCHEME}{directory}`: the layout stores images under their own names and tags"
            )));
        }
        let directory = parse_directory(directory)?;
        Ok(Self::Layout { directory, naming: Naming::RepositoryAndTag })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(host) => host.fmt(f),
            Self::Layout { directory, .. } => write!(f, "{SCHEME}{}", directory.display()),
        }
    }
}

/// The text after the scheme. The scheme's case does not matter, because that of a host does not.
fn below_scheme(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then_some(rest)
}

fn parse_directory(directory: &str) -> Result<PathBuf, NameError> {
    if directory.is_empty() {
        return Err(NameError::new("has no directory").hint("write `oci:DIR`, like `oci:./images`"));
    }
    Ok(directory.into())
}

/// An argument of `copy`: an image at a registry or in a layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageLocation {
    Registry(Reference),
    /// `oci:DIR`, `oci:DIR:TAG` or `oci:DIR:REPOSITORY:TAG`.
    Layout {
        directory: PathBuf,
        /// The repository, if image names contain it.
        repository: Option<Repository>,
        /// The tag, if written; always with a repository.
        tag: Option<Tag>,
    },
}

impl FromStr for ImageLocation {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let Some(rest) = below_scheme(text) else { return text.parse().map(Self::Registry) };
        let Some((directory, name)) = rest.split_once(':') else {
            return Ok(Self::Layout {
                directory: parse_directory(rest)?,
                repository: None,
                tag: None,
            });
        };
        let directory = parse_directory(directory)?;
        let (repository, tag) = Naming::parse(name)?;
        Ok(Self::Layout { directory, repository, tag: Some(tag) })
    }
}

impl fmt::Display for ImageLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(reference) => reference.fmt(f),
            Self::Layout { directory, repository, tag } => {
                write!(f, "{SCHEME}{}", directory.display())?;
                repository.iter().try_for_each(|repository| write!(f, ":{repository}"))?;
                tag.iter().try_for_each(|tag| write!(f, ":{tag}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_with_the_scheme_is_a_layout() {
        for (text, expected) in [
            ("ghcr.io", Ok("ghcr.io/a/b:1")),
            ("oci:images", Ok("oci:images:a/b:1")),
            ("oci:/mnt/usb/images", Ok("oci:/mnt/usb/images:a/b:1")),
            ("OCI:images", Ok("oci:images:a/b:1")),
            ("oci:", Err("has no directory")),
            ("oci:images:1.27", Err("names an image, not an OCI layout")),
            ("ghcr.io/a", Err("must be a host without a path")),
        ] {
            let location = text.parse::<Location>();
            let (repository, tag) = ("a/b".parse().unwrap(), "1".parse().unwrap());
            let shown =
                location.map(|location| location.reference(&repository, &TagOrDigest::Tag(tag)));
            assert_eq!(shown.as_deref().map_err(|e| e.problem.as_str()), expected, "{text}");
        }
    }

    #[test]
    fn an_image_of_a_layout_has_an_optional_tag_and_repository() {
        let parts = |text: &str| match text.parse::<ImageLocation>() {
            Ok(ImageLocation::Layout { directory, repository, tag }) => Ok((
                directory.display().to_string(),
                repository.map(|it| it.to_string()),
                tag.map(|it| it.to_string()),
            )),
            Ok(ImageLocation::Registry(_)) => Err("a registry".to_owned()),
            Err(error) => Err(error.problem),
        };
        let found = |directory: &str, repository: Option<&str>, tag: Option<&str>| {
            let owned = |text: Option<&str>| text.map(str::to_owned);
            Ok((directory.to_owned(), owned(repository), owned(tag)))
        };
        assert_eq!(parts("oci:d"), found("d", None, None));
        assert_eq!(parts("oci:/a/b:1.27"), found("/a/b", None, Some("1.27")));
        assert_eq!(parts("oci:d:a/b:1"), found("d", Some("a/b"), Some("1")));
        for (text, problem) in [
            ("oci:", "has no directory"),
            ("oci::1", "has no directory"),
            ("oci:d:", "is not a tag"),
            ("oci:d:a/b", "is not a tag"),
            ("oci:d:A:1", "has uppercase letters, repository names are lowercase"),
            ("nginx:1.27", "a registry"),
        ] {
            assert_eq!(parts(text), Err(problem.to_owned()), "{text}");
        }
        for text in ["oci:d", "oci:d:1", "oci:d:a/b:1", "docker.io/library/nginx:1"] {
            assert_eq!(text.parse::<ImageLocation>().unwrap().to_string(), text);
        }
    }
}
