//! TLS settings of both ends. One port serves APIs and agents: an agent names the link's protocol in the handshake and proves its host by
//! certificate; other clients bring no certificate.

use std::sync::{Arc, RwLock};

use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, ServerName};
use unkai_model::Error;
use unkai_model::compute::Host;

use crate::ALPN;
use crate::ca::{Authority, Identity};

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

/// The host whose agent presented this certificate; the handshake has verified it.
pub fn host_of(certificate: &CertificateDer<'_>) -> Option<unkai_model::Id<Host>> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?.as_str().ok()?;
    Some(unkai_model::Id::new(name))
}

pub fn server_name(name: &str) -> Result<ServerName<'static>, Error> {
    ServerName::try_from(name.to_owned()).map_err(|e| Error::caused(format!("using `{name}` as a server name"), e))
}
