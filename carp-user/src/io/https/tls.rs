//! TLS 1.3 where a certificate is trusted by its fingerprint and by nothing else: names, dates and issuers do not count.

use super::{Fingerprint, Identity, pin};
use anyhow::Result;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::version::TLS13;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error,
    OtherError, ServerConfig, SignatureScheme,
};
use std::io;
use std::sync::Arc;

/// The peer shows another certificate than the pinned one, or none is pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch {
    shown: Fingerprint,
    pinned: Option<Fingerprint>,
}

impl std::error::Error for Mismatch {}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { shown, pinned } = self;
        match pinned {
            Some(pinned) => write!(
                f,
                "the other side shows the certificate {shown}, and {pinned} is pinned: if the peer was set up anew, compare \
                 with `carpctl peer fingerprint` there and say `carpctl peer pin {shown}` here; if not, somebody is in \
                 between"
            ),
            None => write!(
                f,
                "the other side shows the certificate {shown}, and none is pinned: compare with `carpctl peer fingerprint` \
                 there, and say `carpctl peer pin {shown}` here; or pair the nodes (carpctl pair)"
            ),
        }
    }
}

/// For a server that asks for a certificate, and takes the pinned one or none.
///
/// # Errors
/// A key that is none.
pub fn server(identity: &Identity, instance: &str) -> Result<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(Pinned { instance: instance.to_owned() }))
        .with_single_cert(vec![identity.certificate.clone()], identity.key.clone_key())?;
    // A session that goes on would not show its certificate again.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// For a client that trusts the pinned certificate, and shows its own.
///
/// # Errors
/// A key that is none.
pub fn client(identity: &Identity, instance: &str) -> Result<ClientConfig> {
    Ok(ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { instance: instance.to_owned() }))
        .with_client_auth_cert(vec![identity.certificate.clone()], identity.key.clone_key())?)
}

/// What went wrong with a certificate, if that is what ended a handshake.
pub fn mismatch(error: &io::Error) -> Option<Mismatch> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    let Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) = error else { return None };
    inner.downcast_ref::<Mismatch>().copied()
}

/// Whether the other side ended the connection because of this node's certificate.
pub fn is_refusal(error: &(dyn std::error::Error + 'static)) -> bool {
    let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    let tls =
        inside.and_then(|inside| inside.downcast_ref::<Error>()).or_else(|| error.downcast_ref::<Error>());
    matches!(
        tls,
        Some(Error::AlertReceived(
            AlertDescription::AccessDenied
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA
        ))
    ) || error.source().is_some_and(is_refusal)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Trusts what is pinned at the moment.
#[derive(Debug)]
struct Pinned {
    instance: String,
}

impl Pinned {
    fn verify(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        let pinned = pin::read(&self.instance).map_err(|error| Error::General(error.to_string()))?;
        let shown = Fingerprint::of(certificate);
        if pinned == Some(shown) {
            return Ok(());
        }
        let mismatch = OtherError(Arc::new(Mismatch { shown, pinned }));
        Err(Error::InvalidCertificate(CertificateError::Other(mismatch)))
    }

    /// Whoever shows the certificate has its key.
    fn signed(
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &provider().signature_verification_algorithms)
    }
}

fn schemes() -> Vec<SignatureScheme> {
    provider().signature_verification_algorithms.supported_schemes()
}

fn no_tls12() -> Error {
    Error::General("only TLS 1.3 is spoken here".to_owned())
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(end_entity).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Self::signed(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}

impl ClientCertVerifier for Pinned {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(end_entity).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Self::signed(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}
