//! What a configuration writes about ECR besides content: repositories and the account around them.
//!
//! Values only. What is `None` or empty is not written, and what is not written is never touched.

use std::{collections::BTreeMap, fmt};

use serde_json::Value;

use super::image::Create;

/// What is wanted of the repositories of one registry.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RepositoryRules {
    /// Which of those that do not exist are made.
    pub create: Create,
    /// What happens to those that do.
    pub reconcile: Reconcile,
    /// What they are to be like.
    pub settings: RepositorySettings,
}

/// What happens to repositories that exist and are not like they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reconcile {
    /// They stay as they are.
    #[default]
    Never,
    /// They are brought to what is written.
    Always,
}

/// What a repository is to be like.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RepositorySettings {
    /// Whether its tags may be moved.
    pub mutability: Option<TagMutability>,
    /// Whether images are scanned as they are pushed.
    pub scan_on_push: Option<bool>,
    /// How its content is encrypted; decided when it is made, for good.
    pub encryption: Option<Encryption>,
    /// Its resource tags; others that it has stay.
    pub tags: BTreeMap<String, String>,
    /// Its lifecycle policy, a document that ECR takes.
    pub lifecycle: Option<Value>,
    /// Its repository policy, a document that ECR takes.
    pub policy: Option<Value>,
}

impl RepositorySettings {
    /// Whether nothing is written.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Whether the tags of a repository may be moved.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TagMutability {
    /// All of them.
    #[default]
    Mutable,
    /// None of them.
    Immutable,
    /// All but those that one of these wildcards matches.
    MutableExcept(Vec<String>),
    /// None but those that one of these wildcards matches.
    ImmutableExcept(Vec<String>),
}

impl TagMutability {
    /// The wildcards of the exceptions.
    pub fn exclusions(&self) -> &[String] {
        match self {
            Self::Mutable | Self::Immutable => &[],
            Self::MutableExcept(wildcards) | Self::ImmutableExcept(wildcards) => wildcards,
        }
    }

    /// Whether both mean the same, in whatever order their wildcards are.
    pub fn is_like(&self, other: &Self) -> bool {
        let sorted = |wildcards: &[String]| {
            let mut sorted = wildcards.to_vec();
            sorted.sort();
            sorted
        };
        std::mem::discriminant(self) == std::mem::discriminant(other)
            && sorted(self.exclusions()) == sorted(other.exclusions())
    }
}

impl fmt::Display for TagMutability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self {
            Self::Mutable | Self::MutableExcept(_) => "mutable",
            Self::Immutable | Self::ImmutableExcept(_) => "immutable",
        };
        match self.exclusions() {
            [] => f.write_str(word),
            wildcards => write!(f, "{word} except {}", wildcards.join(", ")),
        }
    }
}

/// How the content of a repository is encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encryption {
    /// By S3's own keys.
    Aes256,
    /// By this key of KMS (ARN, id, `alias/…`); `None`: the one that AWS keeps for ECR.
    Kms(Option<String>),
    /// The same in two layers.
    KmsDsse(Option<String>),
}

impl Encryption {
    /// The key that is named.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Aes256 => None,
            Self::Kms(key) | Self::KmsDsse(key) => key.as_deref(),
        }
    }
}

impl fmt::Display for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self {
            Self::Aes256 => "aes256",
            Self::Kms(_) => "kms",
            Self::KmsDsse(_) => "kms_dsse",
        };
        match self.key() {
            Some(key) => write!(f, "{word} with {key}"),
            None => f.write_str(word),
        }
    }
}

/// What is wanted of an account in a region.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccountSettings {
    /// Whether blobs of one repository can be mounted into another.
    pub blob_mounting: Option<bool>,
    /// Whether the mirror's own reads are left out of the time of the last pull.
    pub pull_time_exclusion: Option<bool>,
    /// What is scanned.
    pub scanning: Option<Scanning>,
}

impl AccountSettings {
    /// Whether nothing is written.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Which repositories are scanned, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scanning {
    /// Who scans.
    pub kind: ScanKind,
    /// Wildcards of the repositories that are scanned all the time, sorted.
    pub continuous: Vec<String>,
    /// Wildcards of the repositories that are scanned when something is pushed, sorted.
    pub on_push: Vec<String>,
}

/// Who scans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanKind {
    /// ECR.
    Basic,
    /// Amazon Inspector.
    Enhanced,
}

impl fmt::Display for Scanning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            ScanKind::Basic => "basic",
            ScanKind::Enhanced => "enhanced",
        })?;
        for (word, wildcards) in [("continuous", &self.continuous), ("on push", &self.on_push)] {
            if !wildcards.is_empty() {
                write!(f, ", {word}: {}", wildcards.join(", "))?;
            }
        }
        Ok(())
    }
}
