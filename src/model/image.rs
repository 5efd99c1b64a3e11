//! What is to be mirrored: one image, from where to where, and which parts of it.

use std::fmt;

use super::{
    location::Location,
    names::{Repository, Tag, TagOrDigest},
    platform::Platforms,
};

/// Where an image comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// The registry, or the layout.
    pub location: Location,
    /// The repository there.
    pub repository: Repository,
    /// The tag, or the pinned digest.
    pub at: TagOrDigest,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.location.reference(&self.repository, &self.at))
    }
}

/// A destination of the configuration, by its place there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DestinationId(pub usize);

/// Where an image goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// Which destination.
    pub destination: DestinationId,
    /// The repository there, prefix included.
    pub repository: Repository,
    /// The tag there.
    pub tag: Tag,
}

/// What happens when a wanted platform is not in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MissingPlatform {
    /// The image fails.
    #[default]
    Fail,
    /// The image is mirrored without it, and a warning says so.
    Warn,
}

/// What happens to BuildKit's attestations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Attestations {
    /// They go with the image they describe.
    #[default]
    Keep,
    /// They stay behind.
    Drop,
}

/// What is pushed when exactly one platform is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Shape {
    /// An index, as the source has one.
    #[default]
    Index,
    /// The platform's image itself (AWS Lambda needs this).
    Flat,
}

/// What happens to a repository of a destination that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Create {
    /// It is made, unless the registry itself makes it with the first push (a creation template).
    #[default]
    Unclaimed,
    /// It is made.
    Missing,
    /// ECR makes it with the first push, by a creation template; without one its images fail.
    OnPush,
    /// Its images fail.
    Never,
}

impl Create {
    /// Whether this program may make it.
    pub fn is_ours(self) -> bool {
        matches!(self, Self::Unclaimed | Self::Missing)
    }
}

/// How an image gets to ECR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Delivery {
    /// It is mirrored.
    #[default]
    Mirror,
    /// ECR caches it, and it is warmed.
    PullThrough,
    /// ECR caches it where a rule covers its source; it is mirrored elsewhere.
    Auto,
}

/// Which signatures, SBOMs and other things that refer to an image come along.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Signatures {
    /// None.
    #[default]
    None,
    /// Everything that refers to it by OCI 1.1, and cosign's tags.
    All,
    /// What refers to it with one of these artifact types.
    Only(Vec<String>),
}

impl Signatures {
    /// Whether a referrer of that artifact type comes along.
    pub fn matches(&self, artifact_type: Option<&str>) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Only(types) => types.iter().any(|wanted| Some(wanted.as_str()) == artifact_type),
        }
    }
}

/// Which parts of an image are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// The platforms.
    pub platforms: Platforms,
    /// What a missing platform means.
    pub missing: MissingPlatform,
    /// Whether attestations come along.
    pub attestations: Attestations,
    /// Index or single image.
    pub shape: Shape,
    /// What refers to it.
    pub signatures: Signatures,
}

impl Filter {
    /// Whether everything is wanted as it is, so that equal digests mean up to date.
    pub fn is_everything(&self) -> bool {
        self.platforms == Platforms::All && self.attestations == Attestations::Keep
    }

    /// The filter in canonical form, as the annotation of a filtered index carries it.
    pub fn canonical(&self) -> String {
        let attestations = match self.attestations {
            Attestations::Keep => "keep",
            Attestations::Drop => "drop",
        };
        format!("platforms={};attestations={attestations}", self.platforms)
    }
}

/// One image to mirror, to one or more places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The entry's name, for `--only` and the report.
    pub name: String,
    /// Where it comes from.
    pub origin: Origin,
    /// Where it goes, one place a destination, never empty.
    pub targets: Vec<Target>,
    /// Which parts of it.
    pub filter: Filter,
}
