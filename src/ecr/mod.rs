//! Amazon ECR as a destination: AWS identity, bulk checks, quotas, repositories.
//!
//! What content there is, ECR's API tells in bulk ([`look`]); content itself
//! travels through the registry protocol. Every API call goes through
//! [`api::Api::call`], which paces, counts, retries and explains.

pub(crate) mod account;
pub(crate) mod api;
mod caller;
pub(crate) mod destination;
pub(crate) mod failure;
pub(crate) mod images;
pub(crate) mod listing;
pub(crate) mod login;
pub(crate) mod prefix_rules;
pub(crate) mod quota;
mod reconcile;
pub(crate) mod repository;
pub mod secrets;
pub(crate) mod session;
pub(crate) mod settings;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;

pub use destination::{DataPlane, Ecr};

pub use session::{AwsSession, AwsSessions, Identity};
