//! Certificates of private registries, and the certificate that this program presents.

use std::{fmt, sync::Arc};

use rustls::{
    RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

use super::{Error, Kind, Result};

/// Certificates to trust in addition to the system's. Each request clones the transport, and a CA
/// bundle has 150 of them: clones share them.
#[derive(Debug, Clone, Default)]
pub struct Certificate(pub(crate) Arc<[CertificateDer<'static>]>);

impl Certificate {
    /// Parses a PEM file with one or more certificates: CAs, or servers' own certificates.
    ///
    /// # Errors
    /// [`Kind::Configuration`] if it contains no valid certificate.
    pub fn from_pem(pem: &[u8]) -> Result<Self> {
        let found = Self(read_certificates(pem)?.into());
        let mut store = RootCertStore::empty();
        for certificate in &*found.0 {
            let added = store.add(certificate.clone());
            added.map_err(|error| refused("the certificate is broken").because(error))?;
        }
        Ok(found)
    }

    /// Both.
    pub(crate) fn and(&self, other: &Self) -> Self {
        Self([&self.0[..], &other.0].concat().into())
    }
}

/// A certificate with its key, to present to registries that require one.
pub struct ClientCertificate {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl ClientCertificate {
    /// Parses the PEM texts of a certificate, with its intermediates, and of its key.
    ///
    /// # Errors
    /// [`Kind::Configuration`] if one is invalid or they do not belong together.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self> {
        let chain = read_certificates(certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| {
            Error::new(Kind::Configuration, "no usable private key found").because(error).hint(
                "a key starts with `-----BEGIN PRIVATE KEY-----`; decrypt an encrypted one with `openssl pkey`",
            )
        })?;
        let copies = (chain.clone(), key.clone_key());
        match CertifiedKey::from_der(copies.0, copies.1, &ring::default_provider()) {
            Ok(_) => Ok(Self { chain, key }),
            Err(error) => {
                let problem = "the client certificate and its key do not belong together";
                Err(Error::new(Kind::Configuration, problem).because(error))
            }
        }
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientCertificate")
    }
}

fn read_certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    found.ok().filter(|found| !found.is_empty()).ok_or_else(|| refused("no PEM certificate found"))
}

fn refused(problem: &str) -> Error {
    Error::new(Kind::Configuration, problem)
        .hint("a certificate starts with `-----BEGIN CERTIFICATE-----`")
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

    #[test]
    fn a_client_certificate_needs_its_own_key() {
        let certificate = include_bytes!("../registry/tests/tls/client.pem");
        let own = include_bytes!("../registry/tests/tls/client.key");
        assert!(ClientCertificate::from_pem(certificate, own).is_ok());
        for key in [&include_bytes!("../registry/tests/tls/server.key")[..], b"", certificate] {
            let refused = ClientCertificate::from_pem(certificate, key).unwrap_err();
            assert_eq!(refused.kind(), Kind::Configuration);
        }
    }
}
