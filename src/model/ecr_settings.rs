//! Settings of ECR repositories and of their account.
//!
//! Values only. A setting that is `None` or empty is not in the configuration and is never changed.

use std::{collections::BTreeMap, fmt};

use serde_json::Value;

use super::{image::Create, names::Repository, repository_glob::RepositoryGlob};

#[derive(Debug, Clone, Default, PartialEq)]
pub struct RepositoryRules {
    pub create: Create,
    pub reconcile: Reconcile,
    pub settings: RepositorySettings,
    /// Rules of some repositories, which precede those above.
    pub overrides: Vec<RepositoryOverride>,
}

/// Rules of the repositories that match. Those that are `None` or empty are those of the destination.
#[derive(Debug, Clone, PartialEq)]
pub struct RepositoryOverride {
    pub glob: RepositoryGlob,
    pub create: Option<Create>,
    pub reconcile: Option<Reconcile>,
    pub settings: RepositorySettings,
}

impl RepositoryRules {
    /// The rules of one repository, without overrides. Of the overrides that match, the most specific
    /// one applies, and the first of equally specific ones.
    pub(crate) fn of(&self, repository: &Repository) -> Self {
        let mut rules = Self { overrides: Vec::new(), ..self.clone() };
        let matching = self.overrides.iter().filter(|it| it.glob.matches(repository));
        // the last of equal ones is the maximum
        let Some(own) = matching.rev().max_by_key(|it| it.glob.literal_length()) else {
            return rules;
        };
        let RepositorySettings { mutability, scan_on_push, encryption, tags, lifecycle, policy } =
            own.settings.clone();
        let general = &mut rules.settings;
        general.mutability = mutability.or(general.mutability.take());
        general.scan_on_push = scan_on_push.or(general.scan_on_push);
        general.encryption = encryption.or(general.encryption.take());
        general.tags.extend(tags);
        general.lifecycle = lifecycle.or(general.lifecycle.take());
        general.policy = policy.or(general.policy.take());
        rules.reconcile = own.reconcile.unwrap_or(rules.reconcile);
        rules.create = match (own.create, rules.create) {
            (Some(create), _) => create,
            // a creation template would not apply these settings
            (None, Create::Unclaimed | Create::OnPush) if !own.settings.is_empty() => {
                Create::Missing
            }
            (None, create) => create,
        };
        rules
    }
}

/// The policy for existing repositories with other settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reconcile {
    #[default]
    Never,
    Always,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct RepositorySettings {
    pub mutability: Option<TagMutability>,
    pub scan_on_push: Option<bool>,
    /// The encryption. Cannot be changed after the repository was created.
    pub encryption: Option<Encryption>,
    /// The resource tags. Other tags of the repository are kept.
    pub tags: BTreeMap<String, String>,
    pub lifecycle: Option<Value>,
    pub policy: Option<Value>,
}

impl RepositorySettings {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Whether the tags of a repository can be moved.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TagMutability {
    #[default]
    Mutable,
    Immutable,
    /// All tags can but those that match one of these wildcards.
    MutableExcept(Vec<String>),
    /// Only tags that match one of these wildcards can.
    ImmutableExcept(Vec<String>),
}

impl TagMutability {
    pub(crate) fn exclusions(&self) -> &[String] {
        match self {
            Self::Mutable | Self::Immutable => &[],
            Self::MutableExcept(wildcards) | Self::ImmutableExcept(wildcards) => wildcards,
        }
    }

    /// Returns `true` if both are equal, apart from the order of their wildcards.
    pub(crate) fn is_equivalent(&self, other: &Self) -> bool {
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

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encryption {
    /// With the keys of S3.
    Aes256,
    /// With a KMS key (ARN, id, `alias/…`); `None`: the AWS managed key of ECR.
    Kms(Option<String>),
    /// With a KMS key, in two layers.
    KmsDsse(Option<String>),
}

impl Encryption {
    pub(crate) fn key(&self) -> Option<&str> {
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

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccountSettings {
    /// Whether blobs of one repository can be mounted into another.
    pub(crate) blob_mounting: Option<bool>,
    /// Whether the mirror's reads do not update the last pull time.
    pub(crate) pull_time_exclusion: Option<bool>,
    pub(crate) scanning: Option<Scanning>,
}

impl AccountSettings {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scanning {
    pub(crate) kind: ScanKind,
    /// Wildcards of repositories, sorted.
    pub(crate) continuous: Vec<String>,
    pub(crate) on_push: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanKind {
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
