//! The OCI distribution protocol over HTTP: [`Registry`] is a source and a destination.
//!
//! Credentials, retries, rate limits and the differences between public registries stay in here.
//! `public_registries.rs` is the table of these differences.

pub(crate) mod client;
pub(crate) mod credentials;
pub(crate) mod login;
pub(crate) mod rate_limit;
pub(crate) mod settings;
pub(crate) mod single_flight;
pub(crate) mod transport;

mod artifact_registry;
mod auth;
mod auth_files;
mod challenge;
mod content;
mod destination;
mod errors;
mod foreign;
#[doc(hidden)]
pub mod fuzzing;
mod http;
mod hub;
mod index_listings;
mod paging;
mod product_api;
mod proxy;
mod public_registries;
mod quay;
mod range;
mod read_body;
mod redact;
mod redirect;
mod referrers;
pub(crate) mod repository_list;
mod scope;
mod source;
mod tag_page;
mod tls;
mod token;
mod unescape;
mod upload;

#[cfg(test)]
pub(crate) mod tests;

pub use crate::model::certificate::{Certificate, ClientCertificate};
pub use client::Registry;
pub use credentials::Credentials;
pub use login::{Freshness, Login};
pub use paging::list_tags;
pub(crate) use proxy::PROXY_VARIABLES;
pub use proxy::check_proxies;
pub use rate_limit::{RateLimiter, RateLimiters};
pub use redact::KnownSecrets;
pub use settings::{ConnectionSettings, Scheme};
pub use transport::{Network, Transport};
