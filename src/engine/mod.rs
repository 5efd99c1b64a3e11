//! Plans and copies images: a post-order walk of a content-addressed graph that skips existing
//! content.
//!
//! Each image is planned and copied on its own; no step waits for the whole run:
//!
//! ```text
//! plan     queries the tags of both sides, in bulk per repository; decides what differs
//! copy     blobs → child manifests → root and its tag, in one PUT
//! ```
//!
//! [`blob`] places each blob once. [`state`] holds what the images share, among it the pull
//! budget. [`shutdown`] ends a run early. The engine knows the traits of [`remote`](crate::remote)
//! and no registry.

pub(crate) mod blob;
pub(crate) mod context;
pub(crate) mod image;
pub(crate) mod options;
pub(crate) mod run;
pub(crate) mod shutdown;
pub(crate) mod state;

#[cfg(test)]
mod tests;

pub(crate) use image::tree::pushed_digest;
pub use options::{
    Check, Endpoint, Endpoints, Mode, Options, Questions, SourceEndpoint, TRANSFERS, WithoutSource,
};
pub use run::{Mirror, Summary};
pub use shutdown::{Shutdown, signals};
