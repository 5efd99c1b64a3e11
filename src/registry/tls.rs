//! TLS: the trusted certificates, and the meaning of failed handshakes.
//!
//! Registries and AWS share this setup, so that both trust and refuse the same certificates.

use std::{error::Error as StdError, fmt, sync::Arc};

use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError,
    InvalidMessage, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::ring,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use rustls_platform_verifier::Verifier;

use crate::model::{
    Kind,
    certificate::{Certificate, ClientCertificate},
};

/// A TLS setup that cannot work.
#[derive(Debug)]
pub(super) enum SetupError {
    /// The system has no CA certificates, or an additional one is broken.
    Trust(TlsError),
    ClientCertificate(TlsError),
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Trust(error) | Self::ClientCertificate(error)) = self;
        error.fmt(f)
    }
}

impl StdError for SetupError {}

/// A client that trusts the system's certificates and these, and presents `client`.
pub(super) fn client_config(
    trusted: &Certificate,
    client: Option<&ClientCertificate>,
) -> Result<ClientConfig, SetupError> {
    let provider = Arc::new(ring::default_provider());
    let roots = trusted.0.iter().cloned();
    let platform = Verifier::new_with_extra_roots(roots, Arc::clone(&provider));
    let verifier = PinningVerifier {
        platform: platform.map_err(SetupError::Trust)?,
        pinned: Arc::clone(&trusted.0),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(SetupError::Trust)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    match client {
        None => Ok(builder.with_no_client_auth()),
        Some(ClientCertificate { chain, key }) => builder
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .map_err(SetupError::ClientCertificate),
    }
}

/// A client for plain HTTP: it needs no CA certificates and accepts no server over TLS.
pub(super) fn trusting_nothing() -> Result<ClientConfig, SetupError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(SetupError::Trust)?;
    Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

/// Verifies as the platform does. Also accepts a server's own certificate that the user named.
///
/// curl and skopeo do so too: Go accepts a chain that consists of a trusted certificate only, and
/// curl sets OpenSSL's `X509_V_FLAG_PARTIAL_CHAIN`.
/// Source: Go, `crypto/x509`, `Certificate.Verify`; curl 7.68.0, changelog.
#[derive(Debug)]
struct PinningVerifier {
    platform: Verifier,
    pinned: Arc<[CertificateDer<'static>]>,
}

impl ServerCertVerifier for PinningVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let verified = self.platform.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verified {
            // webpki checks the validity of the server's certificate before these; its name after
            Err(error) if lacks_issuer_only(&error) && self.pinned.contains(end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.platform.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.platform.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.platform.supported_verify_schemes()
    }
}

/// Returns `true` if the certificate is refused only because no trusted CA issued it.
fn lacks_issuer_only(error: &TlsError) -> bool {
    match error {
        TlsError::InvalidCertificate(CertificateError::UnknownIssuer) => true,
        TlsError::InvalidCertificate(CertificateError::Other(other)) => matches!(
            other.0.downcast_ref(),
            Some(webpki::Error::CaUsedAsEndEntity | webpki::Error::UnknownIssuer)
        ),
        _ => false,
    }
}

/// The kind of a failed handshake, and the fix.
pub(super) fn explain(error: &TlsError) -> (Kind, &'static str) {
    use CertificateError as Certificate;
    let hint = match error {
        // a load balancer without a backend sends it
        TlsError::AlertReceived(AlertDescription::InternalError) => {
            return (Kind::Unavailable, "run again when the host is up");
        }
        TlsError::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::HandshakeFailure,
        ) => {
            "the host refuses this client; if it requires a client certificate, set `client_cert_file` and `client_key_file` under its [registry.\"…\"]"
        }
        TlsError::InvalidCertificate(
            Certificate::Expired
            | Certificate::ExpiredContext { .. }
            | Certificate::NotValidYet
            | Certificate::NotValidYetContext { .. },
        ) => "renew the certificate of the host, or check this machine's clock",
        TlsError::InvalidCertificate(
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. },
        ) => "use a name that the host's certificate contains, or replace the certificate",
        TlsError::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the host does not speak TLS: set `plain_http = true` if the registry uses plain HTTP"
        }
        error if lacks_issuer_only(error) => {
            "set `ca_file` to the CA of the registry, or to its self-signed certificate; for a CA of the network (an inspecting proxy), set `AWS_CA_BUNDLE` or `SSL_CERT_FILE`"
        }
        TlsError::InvalidCertificate(_) => "replace the certificate of the host",
        _ => {
            "set `ca_file` if the registry has its own CA, or `plain_http = true` if it uses plain HTTP"
        }
    };
    (Kind::Configuration, hint)
}
