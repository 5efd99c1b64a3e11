//! The vocabulary: names, platforms, content, decisions and results. Pure, no I/O.

pub mod names;
pub mod platform;

pub use names::{Digest, Host, NameError, Pointer, Reference, Repository, Tag};
pub use platform::{Platform, Platforms};
