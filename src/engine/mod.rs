//! The mirror itself: a post-order walk of a content-addressed graph with "is it there? skip".
//!
//! An image is planned and copied on its own; nothing waits for the whole run:
//!
//! ```text
//! survey   what the tags point to, on both sides, asked in bulk per repository
//! plan     up to date? immutable and different? else: the tree that is to stand there
//! copy     blobs → child manifests → root, under its tag, in one PUT
//! ```
//!
//! [`ledger`] sees to it that each blob is placed once, [`budget`] that no
//! pull is spent that is not there, [`shutdown`] that a run ends when it is
//! told to. The engine knows the traits [`Source`](crate::remote::Source)
//! and [`Destination`](crate::remote::Destination) and no registry.

pub(crate) mod blob;
pub(crate) mod image;
pub(crate) mod options;
pub(crate) mod run;
pub(crate) mod shutdown;
pub(crate) mod state;

#[cfg(test)]
mod tests;

pub use options::{Endpoint, Endpoints, Mode, Options};
pub use run::{Mirror, Summary};
pub use shutdown::Shutdown;
