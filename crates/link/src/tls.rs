//! TLS settings of both ends. One port serves APIs and agents: an agent names the link's protocol in the handshake and proves its host by
//! certificate; other clients bring no certificate.

use std::sync::{Arc, RwLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use unkai_model::Error;
use unkai_model::compute::Host;

use crate::ALPN;
use crate::ca::{Authority, CONTROLLER, Identity};
use crate::enrolment;

/// The server's present certificate; replaced while running.
pub struct Certificate(RwLock<Arc<CertifiedKey>>);

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Certificate")
    }
}

impl Certificate {
    pub fn new(identity: Identity) -> Result<Self, Error> {
        Ok(Certificate(RwLock::new(certified(identity)?)))
    }
    pub fn replace(&self, identity: Identity) -> Result<(), Error> {
        *self.0.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = certified(identity)?;
        Ok(())
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone())
    }
}

fn certified(identity: Identity) -> Result<Arc<CertifiedKey>, Error> {
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&identity.key).map_err(|e| Error::caused("loading a private key", e))?;
    Ok(Arc::new(CertifiedKey::new(identity.chain, key)))
}

/// Settings of the controller's one port.
pub fn server(authority: &Authority, certificate: Arc<Certificate>) -> Result<Arc<ServerConfig>, Error> {
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots(authority.certificate())?))
        .allow_unauthenticated()
        .build()
        .map_err(|e| Error::caused("preparing the verification of agents", e))?;
    let mut config = ServerConfig::builder().with_client_cert_verifier(verifier).with_cert_resolver(certificate);
    config.alpn_protocols = vec![ALPN.to_vec(), b"h2".to_vec(), b"http/1.1".to_vec()];
    // A resumed session would keep an agent's old identity without checking it again.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// Settings of an agent's connection.
pub fn agent(authority: &CertificateDer<'static>, identity: Identity) -> Result<Arc<ClientConfig>, Error> {
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots(authority)?)
        .with_client_auth_cert(identity.chain, identity.key)
        .map_err(|e| Error::caused("loading the agent's certificate", e))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

fn roots(certificate: &CertificateDer<'static>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).map_err(|e| Error::caused("loading the cloud's certificate authority", e))?;
    Ok(roots)
}

/// Settings of a machine that knows nothing of the cloud but the fingerprint of its CA, and has no certificate.
pub fn stranger(authority: [u8; 32]) -> Arc<ClientConfig> {
    let verifier = Arc::new(Pinned { authority, provider: rustls::crypto::aws_lc_rs::default_provider().into() });
    let mut config = ClientConfig::builder().dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

/// Takes a server whose chain leads to the CA with this fingerprint, by the ordinary rules.
#[derive(Debug)]
struct Pinned {
    authority: [u8; 32],
    provider: Arc<rustls::crypto::CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let known = intermediates.iter().find(|certificate| enrolment::fingerprint(certificate) == self.authority);
        let authority = known.ok_or(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let ordinary = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|e| rustls::Error::General(e.to_string()))?;
        ordinary.verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The name in every controller's certificate beside its addresses, by which agents know a controller of their cloud wherever it answers:
/// behind a balancer, an address translation, a new address.
pub const CONTROLLER_NAME: &str = "controller.unkai.internal";

/// Who presented a certificate; the handshake has verified it.
#[derive(Debug, Clone, PartialEq)]
pub enum Peer {
    Host { host: unkai_model::Id<Host>, enrolment: u64 },
    Controller,
}

pub fn peer_of(certificate: &CertificateDer<'_>) -> Option<Peer> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?.as_str().ok()?;
    if name == CONTROLLER {
        return Some(Peer::Controller);
    }
    let enrolment = parsed.subject().iter_organizational_unit().next()?.as_str().ok()?.parse().ok()?;
    Some(Peer::Host { host: unkai_model::Id::new(name), enrolment })
}

pub fn server_name(name: &str) -> Result<ServerName<'static>, Error> {
    ServerName::try_from(name.to_owned()).map_err(|e| Error::caused(format!("using `{name}` as a server name"), e))
}
