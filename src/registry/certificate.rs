//! Certificates that a registry of one's own is trusted by.

use reqwest::Client;

use crate::model::{Error, Kind, Result};

/// Certificates to trust besides the system's.
#[derive(Debug, Clone)]
pub struct Certificate(pub(crate) Vec<reqwest::Certificate>);

impl Certificate {
    /// Reads a PEM file's content, one certificate or several.
    ///
    /// # Errors
    /// [`Kind::Configuration`] when there is no certificate in it.
    pub fn from_pem(pem: &[u8]) -> Result<Self> {
        let refused = |problem: &str| {
            Error::new(Kind::Configuration, problem)
                .hint("a certificate starts with `-----BEGIN CERTIFICATE-----`")
        };
        let found = reqwest::Certificate::from_pem_bundle(pem).unwrap_or_default();
        if found.is_empty() {
            return Err(refused("there is no PEM certificate in it"));
        }
        // what is inside is read only when a client is made of it
        let usable = Client::builder().tls_certs_only(found.clone()).build();
        usable.map_err(|error| refused("the certificate in it is broken").because(error))?;
        Ok(Self(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_certificate_is_refused() {
        let broken = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
        for text in ["", "hello", "-----BEGIN CERTIFICATE-----\nnot base64!\n", broken] {
            let refused = Certificate::from_pem(text.as_bytes()).map(drop);
            assert_eq!(refused.map_err(|e| e.kind()), Err(Kind::Configuration), "{text}");
        }
    }
}
