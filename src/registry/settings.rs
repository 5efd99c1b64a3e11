//! The settings of the connection to one registry.

use std::{collections::HashMap, sync::Arc};

use url::Url;

use super::{
    credentials::Credentials, public_registries::PublicRegistry, rate_limit::RateLimiters,
    transport::Transport,
};
use crate::model::{
    Error, Host, Kind, Result,
    certificate::{Certificate, ClientCertificate},
};

/// The settings of the connection to one registry.
#[derive(Debug, Clone)]
pub struct ConnectionSettings {
    /// The origin of its credentials.
    pub credentials: Credentials,
    /// A token service on another host that may receive the credentials.
    pub auth_host: Option<Host>,
    /// Trusted in addition to the system's certificates.
    pub certificate: Option<Certificate>,
    /// Presented to the registry.
    pub client_certificate: Option<Arc<ClientCertificate>>,
    /// HTTP or HTTPS.
    pub scheme: Scheme,
    /// Concurrent requests, at least one.
    pub max_connections: usize,
    /// Registries that are asked first for content by digest.
    pub mirrors: Vec<(Host, ConnectionSettings)>,
    /// `true` if a blob may be uploaded in chunks after the registry refused it whole.
    pub allows_chunks: bool,
    /// The settings of other registries, for redirects to them.
    pub other_registries: Arc<HashMap<Host, ConnectionSettings>>,
    /// Rate limits of its writes.
    pub rate_limits: RateLimiters,
}

impl Default for ConnectionSettings {
    fn default() -> Self {
        Self {
            credentials: Credentials::Docker,
            auth_host: None,
            certificate: None,
            client_certificate: None,
            scheme: Scheme::Usual,
            max_connections: 32,
            mirrors: Vec::new(),
            allows_chunks: true,
            other_registries: Arc::default(),
            rate_limits: RateLimiters::default(),
        }
    }
}

impl ConnectionSettings {
    /// The connections to the registry, with its certificates.
    pub(crate) fn transport(&self, outside: &Transport) -> Transport {
        let trusting = self.certificate.as_ref().map(|trusted| outside.trusting(trusted));
        let transport = trusting.unwrap_or_else(|| outside.clone());
        let client = self.client_certificate.as_ref();
        client.map(|presented| transport.presenting(presented)).unwrap_or(transport)
    }
}

/// HTTP or HTTPS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scheme {
    /// HTTP for this machine, HTTPS for every other.
    #[default]
    Usual,
    /// HTTP.
    Http,
    /// HTTPS.
    Https,
}

/// The URL of the registry's API.
pub(crate) fn base(host: &Host, scheme: Scheme) -> Result<Url> {
    let plain = match scheme {
        Scheme::Usual => host.is_loopback(),
        Scheme::Http => true,
        Scheme::Https => false,
    };
    let scheme = if plain { "http" } else { "https" };
    let name = PublicRegistry::of(host).api_host.unwrap_or(host.as_str());
    Url::parse(&format!("{scheme}://{name}/")).map_err(|error| {
        Error::new(Kind::Configuration, format!("`{host}` is not a host")).because(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_is_http_for_this_machine_only_unless_it_is_set() {
        for (host, scheme, expected) in [
            ("docker.io", Scheme::Usual, "https://registry-1.docker.io/"),
            ("localhost:5000", Scheme::Usual, "http://localhost:5000/"),
            ("[::1]:5000", Scheme::Usual, "http://[::1]:5000/"),
            ("localhost:5000", Scheme::Https, "https://localhost:5000/"),
            ("r.example.com", Scheme::Http, "http://r.example.com/"),
        ] {
            assert_eq!(base(&host.parse().unwrap(), scheme).unwrap().as_str(), expected);
        }
    }
}
