//! Logins that need no token service: the header is known beforehand.

use futures::future::BoxFuture;
use secrecy::SecretString;

use crate::model::Result;

/// Knows the `Authorization` header of one registry (ECR's, which the AWS API hands out).
pub trait Login: Send + Sync + 'static {
    /// The header's value, to be sent verbatim to the registry's own host and nowhere else.
    fn authorization(&self, freshness: Freshness) -> BoxFuture<'_, Result<SecretString>>;
}

/// Whether what is known will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// What is cached, while it is valid.
    Cached,
    /// A new one: the registry refused the cached one.
    Renewed,
}
