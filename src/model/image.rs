//! An image to mirror: its origin, its targets and its filter.

use std::{fmt, sync::Arc};

use super::{
    location::Location,
    names::{Digest, Repository, Tag, TagOrDigest},
    platform::{Platform, Platforms},
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    pub location: Location,
    pub repository: Repository,
    pub at: TagOrDigest,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.location.reference(&self.repository, &self.at))
    }
}

/// The index of a destination in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DestinationId(pub usize);

/// The place of an image at a destination.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    pub destination: DestinationId,
    /// The repository, with the destination's prefix.
    pub repository: Repository,
    pub tag: Tag,
}

/// The policy for an image that lacks a platform of the filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MissingPlatform {
    #[default]
    Fail,
    /// The image is mirrored without it, with a warning.
    Warn,
}

/// The policy for BuildKit's attestations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Attestations {
    /// They are mirrored with the image that they describe.
    #[default]
    Keep,
    Drop,
}

/// The policy for foreign layers, which clients fetch from their own URLs (Windows base layers).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ForeignLayers {
    /// They stay where they are.
    #[default]
    Skip,
    /// They are mirrored like other layers.
    Copy,
}

/// The form in which an image with one platform is pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Shape {
    #[default]
    Index,
    /// The image of the platform, without an index. AWS Lambda requires this.
    Flat,
}

/// The policy for a repository that is missing at a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Create {
    /// This program creates it, unless a creation template applies: then ECR does, on push.
    #[default]
    Unclaimed,
    /// This program creates it.
    Missing,
    /// ECR creates it on push, by a creation template. Without one its images fail.
    OnPush,
    /// Its images fail.
    Never,
}

impl Create {
    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Unclaimed | Self::Missing)
    }
}

/// The way an image gets to ECR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Delivery {
    #[default]
    Mirror,
    /// ECR caches it, and the run warms the cache.
    PullThrough,
    /// ECR caches it if a rule covers its source, else it is pushed.
    Auto,
}

/// The policy for an image that ECR has archived: it exists, and cannot be pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Archived {
    /// It stays archived, and its row has the way to restore it.
    #[default]
    Leave,
    Restore,
}

/// The signatures, SBOMs and other referrers that are mirrored with an image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Signatures {
    #[default]
    None,
    /// All OCI 1.1 referrers, and cosign's tags.
    All,
    /// The referrers with one of these artifact types.
    Only(Vec<String>),
}

impl Signatures {
    pub(crate) fn matches(&self, artifact_type: Option<&str>) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Only(types) => types.iter().any(|only| Some(only.as_str()) == artifact_type),
        }
    }
}

/// The parts of an image that are mirrored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    pub platforms: Platforms,
    pub missing: MissingPlatform,
    pub attestations: Attestations,
    pub shape: Shape,
    /// The referrers.
    pub signatures: Signatures,
    /// Layers that clients fetch from other hosts.
    pub foreign_layers: ForeignLayers,
    /// Not a part of the image: two entries that differ in it are two wishes.
    pub archived: Archived,
}

impl Filter {
    /// Returns `true` if nothing is removed: then equal digests mean up to date.
    pub(crate) fn is_everything(&self) -> bool {
        self.platforms == Platforms::All && self.attestations == Attestations::Keep
    }

    /// Returns `true` if an image keeps its digest: nothing is removed, and its index stays.
    pub(crate) fn keeps_digests(&self) -> bool {
        self.is_everything() && self.shape == Shape::Index
    }

    /// The canonical form, for the annotation of a filtered index.
    pub(crate) fn canonical(&self) -> String {
        let attestations = match self.attestations {
            Attestations::Keep => "keep",
            Attestations::Drop => "drop",
        };
        format!("platforms={};attestations={attestations}", self.platforms)
    }
}

/// An entry of an index, as a listing names it: an image, or an attestation without a platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedImage {
    /// `unknown/unknown` for an attestation.
    pub platform: Platform,
    /// The digest of its manifest.
    pub digest: Digest,
}

/// One image to mirror, to one or more targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The entry's name, for `--only` and the report.
    pub name: Arc<str>,
    pub origin: Origin,
    /// One target for each destination that it is mirrored to.
    pub targets: Vec<Target>,
    /// Shared by the images of one entry.
    pub filter: Arc<Filter>,
}
