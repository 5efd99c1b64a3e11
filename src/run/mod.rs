//! A run of a configuration: selects the images, mirrors them, warms the pull-through cache and
//! reports.
//!
//! Returns values and prints nothing: `commands` prints.

pub(crate) mod any_destination;
pub(crate) mod any_source;
pub(crate) mod copy;
pub(crate) mod image_mapping;
pub(crate) mod lock_file;
pub(crate) mod merge;
mod open_files;
pub(crate) mod pull_through;
mod rates;
pub mod registries;
mod sandbox;
pub(crate) mod select_images;
pub(crate) mod shards;
pub mod sync;
pub(crate) mod used_images;
pub(crate) mod used_mapping;
pub(crate) mod warm;
pub mod wildcards;
