//! The names of things: hosts, repositories, tags, digests, references.
//!
//! Every name is checked once, here, and is then known to be good: what holds
//! a [`Repository`] never has to ask again whether it is one. The grammar is
//! the distribution specification's; digests are SHA-256 only, because that is
//! what ECR stores.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

/// Why a text is not the name it should be, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct NameError {
    /// What is wrong, to be read after the text itself: "`x` …".
    pub problem: String,
    /// What to write instead, where that can be told.
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

/// Gives a name type its shared behaviour: cheap clones, ordering, `Display`, serde.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
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
    /// A registry's host, with its port where that is not the scheme's own, in lower case.
    ///
    /// Docker Hub's aliases (`index.docker.io`, `registry-1.docker.io`) are all `docker.io`.
    Host
}

impl Host {
    /// Docker Hub, under the name that references use.
    pub const DOCKER_HUB: &str = "docker.io";

    /// Whether this is Docker Hub.
    pub fn is_docker_hub(&self) -> bool {
        self.as_str() == Self::DOCKER_HUB
    }

    /// Whether the host is this machine, where plain HTTP is the default.
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
            return Err(NameError::new("is a URL, not a host").hint("leave the `https://` away"));
        }
        if let Some((host, _)) = text.split_once('/') {
            return Err(
                NameError::new("has a path, a host has none").hint(format!("write `{host}`"))
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
    /// A repository's path without its host, like `library/nginx`: at most 255 characters.
    Repository
}

impl Repository {
    /// This repository below `prefix`, like `mirror` + `library/nginx`.
    ///
    /// # Errors
    /// When the two together are longer than a repository may be.
    pub fn below(&self, prefix: &Repository) -> Result<Self, NameError> {
        format!("{prefix}/{self}").parse()
    }
}

impl FromStr for Repository {
    type Err = NameError;

    /// Source: distribution specification, "Pulling manifests", `<name>`.
    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(NameError::new("has capital letters, repository names are in lower case")
                .hint(format!("write `{}`", text.to_ascii_lowercase())));
        }
        if text.len() > 255 {
            return Err(NameError::new("is longer than the 255 characters a repository may have"));
        }
        if !text.split('/').all(is_path_component) {
            return Err(NameError::new("is not a repository name").hint(
                "write lower-case words joined by `/`, `.`, `_` or `-`, like `library/nginx`",
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
        Err(NameError::new("is not a tag").hint(
            "a tag is 1 to 128 letters, digits, `_`, `.` or `-`, and starts with neither `.` nor `-`",
        ))
    }
}

name! {
    /// A SHA-256 content digest, `sha256:` and 64 lower-case hexadecimal digits.
    Digest
}

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_hasher(Sha256::new_with_prefix(bytes))
    }

    /// The digest of everything the hasher was given.
    pub fn from_hasher(hasher: Sha256) -> Self {
        Self(format!("sha256:{}", const_hex::encode(hasher.finalize())).into())
    }

    /// The 64 hexadecimal digits alone.
    pub fn hex(&self) -> &str {
        &self.0["sha256:".len()..]
    }

    /// The first twelve hexadecimal digits, for people.
    pub fn short(&self) -> &str {
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
                Err(NameError::new("is a SHA-512 digest, ECR stores SHA-256 only"))
            }
            _ => Err(NameError::new("is not a digest")
                .hint("a digest is `sha256:` and 64 hexadecimal digits in lower case")),
        }
    }
}

/// What a manifest is asked for by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TagOrDigest {
    /// Whatever the tag points to now.
    Tag(Tag),
    /// Exactly this content.
    Digest(Digest),
}

impl TagOrDigest {
    /// The last part of the manifest's URL.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Tag(tag) => tag.as_str(),
            Self::Digest(digest) => digest.as_str(),
        }
    }
}

impl fmt::Display for TagOrDigest {
    /// With the separator that a reference has in front of it: `:tag` or `@digest`.
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
    fn loopback_hosts_are_known() {
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
    fn repository_components_follow_the_grammar() {
        for good in ["a", "a/b", "a.b", "a_b", "a__b", "a---b", "0/1"] {
            assert!(good.parse::<Repository>().is_ok(), "{good}");
        }
        for bad in ["", "/", "a/", "/a", "a//b", ".a", "a.", "a..b", "a___b", "a._b", "a b", "é"] {
            assert!(bad.parse::<Repository>().is_err(), "{bad}");
        }
    }
}
