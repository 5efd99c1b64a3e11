//! A run of a configuration: select the images, mirror them, warm the pull-through cache, report.

pub(crate) mod any_destination;
pub(crate) mod any_source;
pub(crate) mod lock_file;
pub mod registries;
pub(crate) mod select_images;
pub mod sync;
pub(crate) mod warm;
