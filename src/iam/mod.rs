//! The least-privilege IAM policies of a configuration.
//!
//! Pure: the same configuration gives the same document. A document names each repository once,
//! and has no statement for actions that do not occur.

mod actions;
mod grants;
mod limit;
mod mirror;
mod pull;
mod pull_through;
mod statements;

pub(crate) use limit::{LIMIT, by_prefix, fits, split};
pub(crate) use mirror::{destination_actions, mirror_policy};
pub(crate) use pull::pull_policy;
pub(crate) use pull_through::pull_through_policy;
