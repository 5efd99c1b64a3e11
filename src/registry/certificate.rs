//! Certificates of private registries.

use reqwest::Client;

use crate::model::{Error, Kind, Result};

/// Certificates to trust in addition to the system's.
#[derive(Debug, Clone)]
pub struct Certificate(pub(crate) Vec<reqwest::Certificate>);

impl Certificate {
    /// Parses a PEM file with one or more certificates.
    ///
    /// # Errors
    /// [`Kind::Configuration`] if it contains no valid certificate.
    pub fn from_pem(pem: &[u8]) -> Result<Self> {
        let refused = |problem: &str| {
            Error::new(Kind::Configuration, problem)
                .hint("a certificate starts with `-----BEGIN CERTIFICATE-----`")
        };
        let found = reqwest::Certificate::from_pem_bundle(pem).unwrap_or_default();
        if found.is_empty() {
            return Err(refused("no PEM certificate found"));
        }
        // only a client that is built reads their content
        let usable = Client::builder().tls_certs_only(found.clone()).build();
        usable.map_err(|error| refused("the certificate is broken").because(error))?;
        Ok(Self(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_valid_certificate_is_refused() {
        let broken = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
        for text in ["", "hello", "-----BEGIN CERTIFICATE-----\nnot base64!\n", broken] {
            let refused = Certificate::from_pem(text.as_bytes()).map(drop);
            assert_eq!(refused.map_err(|e| e.kind()), Err(Kind::Configuration), "{text}");
        }
    }
}
