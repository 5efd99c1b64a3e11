//! Amazon ECR as a destination: AWS identity, bulk checks, quotas, repositories.
//!
//! What content there is, ECR's API tells in bulk ([`look`]); content itself
//! travels through the registry protocol. Every API call goes through
//! [`api::Api::call`], which paces, counts, retries and explains.

pub mod account;
pub mod api;
mod caller;
pub mod destination;
pub mod failure;
pub mod images;
pub mod listing;
pub mod login;
pub mod prefix_rules;
pub mod quota;
mod reconcile;
pub mod repository;
pub mod secrets;
pub mod session;
pub mod settings;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;

pub use destination::{Ecr, Wire};

pub use session::{Identity, Session, Sessions};
