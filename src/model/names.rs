//! Names: hosts, repositories, tags, digests.
//!
//! A name is validated once, when it is parsed; a [`Repository`] is always valid. The grammar is that
//! of the distribution specification. Digests are SHA-256 only, because ECR stores no others.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct NameError {
    /// The problem. A reader reads it after the text: "`x` …".
    pub problem: String,
    /// The fix, as an imperative.
    pub hint: Option<String>,
}

impl NameError {
    pub(crate) fn new(problem: impl Into<String>) -> Self {
        Self { problem: problem.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Defines a name type with cheap clones, ordering, `Display` and serde.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

name! {
    /// A registry's host with an optional port, in lower case.
    ///
    /// Docker Hub's aliases (`index.docker.io`, `registry-1.docker.io`) are parsed as `docker.io`.
    Host
}

impl Host {
    /// Docker Hub in references.
    pub const DOCKER_HUB: &str = "docker.io";

    pub fn is_docker_hub(&self) -> bool {
        self.as_str() == Self::DOCKER_HUB
    }

    /// Returns `true` for loopback hosts, for which plain HTTP is the default.
    pub fn is_loopback(&self) -> bool {
        let name = self.as_str();
        let name = match name.strip_prefix('[') {
            Some(v6) => v6.split(']').next().unwrap_or_default(),
            None => name.split(':').next().unwrap_or_default(),
        };
        name == "localhost"
            || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl FromStr for Host {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.contains("://") {
            return Err(NameError::new("is a URL, not a host").hint("remove `https://`"));
        }
        if let Some((host, _)) = text.split_once('/') {
            return Err(
                NameError::new("must be a host without a path").hint(format!("write `{host}`"))
            );
        }
        let lower = text.to_ascii_lowercase();
        let (name, port) = match lower.rfind(':') {
            Some(at) if !lower.ends_with(']') => (&lower[..at], Some(&lower[at + 1..])),
            _ => (lower.as_str(), None),
        };
        let name_ok = match name.strip_prefix('[').and_then(|n| n.strip_suffix(']')) {
            Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
            None => name.split('.').all(|label| {
                !label.is_empty()
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            }),
        };
        if !name_ok || port.is_some_and(|port| port.parse::<u16>().is_err()) {
            return Err(NameError::new("is not a registry host").hint(
                "write a host name with an optional port, like `ghcr.io` or `localhost:5000`",
            ));
        }
        Ok(match lower.as_str() {
            "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => {
                Self(Self::DOCKER_HUB.into())
            }
            _ => Self(lower.into()),
        })
    }
}

name! {
    /// A repository without its host, like `library/nginx`: at most 255 characters.
    Repository
}

impl Repository {
    /// The repository with a prefix, like `mirror/library/nginx`.
    pub(crate) fn below(&self, prefix: &Repository) -> Result<Self, NameError> {
        format!("{prefix}/{self}").parse()
    }

    /// Checks that ECR accepts the words of the name.
    ///
    /// Source: ECR API reference, `repositoryName`: `(?:[a-z0-9]+(?:[._-][a-z0-9]+)*/)*[a-z0-9]+…`,
    /// as CloudFormation and Terraform check it. The API model of 2026 also has `__` and `--`. The
    /// stricter one is safe for both.
    pub(crate) fn check_ecr(&self) -> Result<(), NameError> {
        match ["--", "__"].iter().find(|separator| self.0.contains(**separator)) {
            None => Ok(()),
            Some(separator) => Err(NameError::new(format!(
                "contains `{separator}`, which ECR refuses in the names of repositories"
            ))
            .hint("write one `-` or `_` between words")),
        }
    }
}

impl FromStr for Repository {
    type Err = NameError;

    /// Source: distribution specification, "Pulling manifests", `<name>`.
    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(NameError::new("has uppercase letters, repository names are lowercase")
                .hint(format!("write `{}`", text.to_ascii_lowercase())));
        }
        if text.len() > 255 {
            return Err(NameError::new("has more than 255 characters, the limit of a repository")
                .hint("shorten the name"));
        }
        if !text.split('/').all(is_path_component) {
            return Err(NameError::new("is not a repository name").hint(
                "write lowercase words joined by `/`, `.`, `_` or `-`, like `library/nginx`",
            ));
        }
        Ok(Self(text.into()))
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(text: &str) -> bool {
    let bytes = text.as_bytes();
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    alphanumeric(first)
        && alphanumeric(last)
        && bytes.split(alphanumeric).all(|separator| {
            matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|&b| b == b'-')
        })
}

name! {
    /// A tag: at most 128 characters of `[A-Za-z0-9_.-]`, the first neither `.` nor `-`.
    Tag
}

impl FromStr for Tag {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let bytes = text.as_bytes();
        let word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
        let good = bytes.first().is_some_and(word)
            && bytes.len() <= 128
            && bytes.iter().all(|b| word(b) || matches!(b, b'.' | b'-'));
        if good {
            return Ok(Self(text.into()));
        }
        Err(NameError::new("is not a tag")
            .hint("write 1 to 128 letters, digits, `_`, `.` or `-`, and not `.` or `-` first"))
    }
}

name! {
    /// A SHA-256 content digest, `sha256:` and 64 lower-case hexadecimal digits.
    Digest
}

impl Digest {
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_hasher(Sha256::new_with_prefix(bytes))
    }

    pub(crate) fn from_hasher(hasher: Sha256) -> Self {
        Self(format!("sha256:{}", const_hex::encode(hasher.finalize())).into())
    }

    pub(crate) fn to_bytes(&self) -> [u8; 32] {
        const_hex::decode_to_array(self.hex()).expect("a digest has 64 hexadecimal digits")
    }

    pub fn hex(&self) -> &str {
        &self.0["sha256:".len()..]
    }

    /// The first twelve hexadecimal digits, for messages.
    pub(crate) fn short(&self) -> &str {
        &self.hex()[..12]
    }
}

impl FromStr for Digest {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        match text.split_once(':') {
            Some(("sha256", hex)) if hex.len() == 64 && hex.bytes().all(lower_hex) => {
                Ok(Self(text.into()))
            }
            Some(("sha512", _)) => {
                Err(NameError::new("is a SHA-512 digest, ECR stores SHA-256 only")
                    .hint("write the SHA-256 digest"))
            }
            _ => Err(NameError::new("is not a digest")
                .hint("write `sha256:` and 64 lowercase hexadecimal digits")),
        }
    }
}

/// The identifier of a manifest in a repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TagOrDigest {
    /// The manifest that the tag points to now.
    Tag(Tag),
    Digest(Digest),
}

impl TagOrDigest {
    /// The last part of the manifest's URL.
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Tag(tag) => tag.as_str(),
            Self::Digest(digest) => digest.as_str(),
        }
    }
}

impl fmt::Display for TagOrDigest {
    /// Writes `:tag` or `@digest`, as in a reference.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => write!(f, ":{tag}"),
            Self::Digest(digest) => write!(f, "@{digest}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_hosts_are_recognized() {
        for (host, expected) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("127.9.9.9", true),
            ("[::1]:5000", true),
            ("ghcr.io", false),
            ("localhost.example.com", false),
            ("128.0.0.1", false),
        ] {
            assert_eq!(host.parse::<Host>().unwrap().is_loopback(), expected, "{host}");
        }
    }

    #[test]
    fn ecr_accepts_one_separator_between_words() {
        for (name, expected) in [
            ("a", true),
            ("a-b/c_d/e.f", true),
            ("a--b", false),
            ("a__b", false),
            ("x/a---b", false),
        ] {
            assert_eq!(name.parse::<Repository>().unwrap().check_ecr().is_ok(), expected, "{name}");
        }
    }

    #[test]
    fn repository_components_follow_the_grammar() {
        for good in ["a", "a/b", "a.b", "a_b", "a__b", "a---b", "0/1"] {
            assert!(good.parse::<Repository>().is_ok(), "{good}");
        }
        for bad in ["", "/", "a/", "/a", "a//b", ".a", "a.", "a..b", "a___b", "a._b", "a b", "é"] {
            assert!(bad.parse::<Repository>().is_err(), "{bad}");
        }
    }
}
