//! Amazon ECR as a destination: AWS identity, bulk queries, quotas, repositories.
//!
//! ECR's API answers queries in bulk ([`images`]). Content goes through the registry protocol
//! ([`destination`]). Every API call goes through [`api::Api::call`], which limits rates, counts,
//! retries and explains errors.

/// Sets registry and repository of a request. The SDK's builders have no common type.
macro_rules! in_repository {
    ($request:expr, $account:expr, $repository:expr) => {
        $request.set_registry_id($account.clone()).repository_name($repository.as_str())
    };
}

pub(crate) mod account;
pub(crate) mod api;
mod ca_bundle;
pub(crate) mod cache_api;
pub(crate) mod caller;
pub(crate) mod destination;
pub(crate) mod failure;
mod identity;
pub(crate) mod images;
pub(crate) mod listing;
pub(crate) mod login;
pub(crate) mod pages;
pub(crate) mod prefix_rules;
pub(crate) mod probe;
pub(crate) mod quota;
pub(crate) mod repository;
pub(crate) mod repository_api;
mod sdk_http;
pub mod secrets;
pub(crate) mod session;
pub(crate) mod settings;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;

pub(crate) use account::EcrAccount;
pub use ca_bundle::ca_bundle;
pub(crate) use destination::data_plane_address;
pub use destination::{DataPlaneConfig, Ecr};
pub use identity::Identity;
pub use session::{AwsSession, AwsSessions};
