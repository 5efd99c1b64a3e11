//! The common types: names, platforms, content, selections and results. Pure, no I/O.

pub mod certificate;
pub mod check_report;
pub mod content;
pub(crate) mod ecr_host;
pub mod ecr_rates;
pub mod ecr_settings;
pub(crate) mod error;
pub mod event;
pub(crate) mod fallback_tag;
pub mod filter;
pub(crate) mod hints;
pub(crate) mod image;
pub(crate) mod lifecycle;
pub(crate) mod location;
pub(crate) mod names;
pub(crate) mod nesting;
pub mod outcome;
pub(crate) mod platform;
pub mod pull_through;
pub(crate) mod reference;
pub(crate) mod registry_prefix;
pub(crate) mod repository_glob;
pub(crate) mod rule_report;
pub mod select;
pub mod setting_change;
pub mod shard;
pub mod text;
pub(crate) mod user_password;
pub(crate) mod yaml;

pub use content::{Descriptor, Manifest, MediaType, RawManifest};
pub use ecr_host::EcrHost;
pub use ecr_rates::Rates;
pub use error::{Error, Kind, Result};
pub use image::{
    Archived, Attestations, Create, Delivery, DestinationId, Filter, ForeignLayers, Image,
    ListedImage, MissingPlatform, Origin, Shape, Signatures, Target,
};
pub use location::{ImageLocation, Location, Naming};
pub use names::{Digest, Host, NameError, Repository, Tag, TagOrDigest};
pub use platform::{Platform, Platforms};
pub use reference::Reference;
pub use registry_prefix::RegistryPrefix;
pub use repository_glob::RepositoryGlob;
pub use select::{Listed, Selection, TagQuery};
pub use setting_change::SettingChange;
pub use user_password::UserPassword;
