//! Logins without a token service: their header is known before the first request.

use std::fmt;

use futures::future::BoxFuture;
use secrecy::SecretString;

use super::redact::KnownSecrets;
use crate::model::Result;

/// Provides the `Authorization` header of one registry, such as ECR's from the AWS API.
pub trait Login: Send + Sync + 'static {
    /// The header's value. It is sent verbatim, and to the registry's own host only.
    fn authorization(&self, freshness: Freshness) -> BoxFuture<'_, Result<SecretString>>;

    /// Further secrets that a server may repeat.
    fn secrets(&self) -> KnownSecrets {
        KnownSecrets::default()
    }
}

impl fmt::Debug for dyn Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login")
    }
}

/// The required age of a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// A cached login, while it is valid.
    Cached,
    /// A new login: the registry refused the cached one.
    Renewed,
}
