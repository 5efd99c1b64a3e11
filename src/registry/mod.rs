//! Registries: the OCI distribution protocol, and the two traits the engine knows.
//!
//! [`Source`] reads content, [`Destination`] accepts it. Both speak of content
//! only; credentials, retries, limits and what each public registry does
//! differently stay behind them.

pub(crate) mod client;
pub(crate) mod credentials;
pub(crate) mod login;
pub(crate) mod rate_limit;
mod referrers;
pub(crate) mod settings;
pub(crate) mod transport;

mod artifact_registry;
mod auth;
mod certificate;
mod challenge;
mod destination;
mod errors;
#[doc(hidden)]
pub mod fuzzing;
mod http;
mod hub;
mod paging;
mod quay;
mod range;
mod redact;
mod redirect;
mod scope;
pub(crate) mod single_flight;
mod source;
mod token;
mod unescape;
mod upload;

#[cfg(test)]
pub(crate) mod tests;

pub use certificate::Certificate;
pub use client::Registry;
pub use credentials::Credentials;
pub use login::{Freshness, Login};
pub use rate_limit::{RateLimiter, RateLimiters};
pub use settings::{ConnectionSettings, Scheme};
pub use transport::{Network, Transport};
