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
//! told to. The engine knows the traits [`Source`](crate::registry::Source)
//! and [`Destination`](crate::registry::Destination) and no registry.

pub mod budget;
mod carry;
mod companions;
mod conclude;
mod copy;
mod download;
pub mod ledger;
pub mod mirror;
mod plan;
mod reader;
mod settle;
pub mod shutdown;
mod stage;
mod survey;
mod tree;

#[cfg(test)]
mod tests;

pub use mirror::{End, Intent, Mirror, Options, Sides, Summary};
pub use shutdown::Shutdown;
