//! TLS between two hosts. Both present the certificates they have as hosts of the cloud, and each takes exactly one other host, of exactly one
//! enrolment: the one that a controller named.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::version::TLS13;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use unkai_model::Error;

use crate::ca::Identity;
use crate::migration::Partner;
use crate::tls::{Peer, peer_of, server_name};

const ALPN: &[u8] = b"unkai-move/1";

/// The end that listens.
pub fn listener(authority: &CertificateDer<'static>, own: Identity, partner: Partner) -> Result<Arc<ServerConfig>, Error> {
    let mut config = ServerConfig::builder_with_protocol_versions(&[&TLS13])
        .with_client_cert_verifier(Arc::new(Only::new(authority, partner)?))
        .with_single_cert(own.chain, own.key)
        .map_err(|e| Error::caused("loading this host's certificate", e))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The end that comes.
pub fn dialler(authority: &CertificateDer<'static>, own: Identity, partner: Partner) -> Result<Arc<ClientConfig>, Error> {
    let mut config = ClientConfig::builder_with_protocol_versions(&[&TLS13])
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Only::new(authority, partner)?))
        .with_client_auth_cert(own.chain, own.key)
        .map_err(|e| Error::caused("loading this host's certificate", e))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

/// What the dialler calls the listener; who that is, its certificate says.
pub fn name() -> Result<ServerName<'static>, Error> {
    server_name("host.unkai.internal")
}

/// Takes one host. Hosts' certificates are those of clients, whichever end presents them.
#[derive(Debug)]
struct Only {
    hosts: Arc<dyn ClientCertVerifier>,
    partner: Partner,
}

impl Only {
    fn new(authority: &CertificateDer<'static>, partner: Partner) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone()).map_err(|e| Error::caused("loading the cloud's certificate authority", e))?;
        let hosts = WebPkiClientVerifier::builder(Arc::new(roots)).build();
        Ok(Only { hosts: hosts.map_err(|e| Error::caused("preparing the verification of hosts", e))?, partner })
    }

    fn check(&self, end: &CertificateDer<'_>, between: &[CertificateDer<'_>], now: UnixTime) -> Result<(), rustls::Error> {
        self.hosts.verify_client_cert(end, between, now)?;
        let Partner { host, enrolment } = self.partner.clone();
        match peer_of(end) {
            Some(found) if found == (Peer::Host { host, enrolment }) => Ok(()),
            _ => Err(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)),
        }
    }
}

impl ClientCertVerifier for Only {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.hosts.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.check(end, between, now).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.hosts.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.hosts.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.hosts.supported_verify_schemes()
    }
}

impl ServerCertVerifier for Only {
    fn verify_server_cert(
        &self,
        end: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(end, between, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.hosts.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.hosts.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.hosts.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::Authority;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::{TlsAcceptor, TlsConnector};
    use unkai_model::Id;

    fn authority() -> Authority {
        let (pem, key) = Authority::generate().unwrap();
        Authority::from_pem(pem, &key).unwrap()
    }

    fn partner(host: &str, enrolment: u64) -> Partner {
        Partner { host: Id::new(host), enrolment }
    }

    /// Host a comes to host b. Does a byte arrive?
    async fn meets(cloud: &Authority, comes: Identity, listens: Identity, wanted: Partner, expected: Partner) -> bool {
        let listener = listener(cloud.certificate(), listens, expected).unwrap();
        let dialler = dialler(cloud.certificate(), comes, wanted).unwrap();
        let (near, far) = tokio::io::duplex(1 << 16);
        let accept = async {
            let mut stream = TlsAcceptor::from(listener).accept(far).await.ok()?;
            stream.read_u8().await.ok()
        };
        let come = async {
            let mut stream = TlsConnector::from(dialler).connect(name().unwrap(), near).await.ok()?;
            stream.write_u8(7).await.ok()?;
            stream.flush().await.ok()?;
            Some(stream)
        };
        let (accepted, came) = tokio::join!(accept, come);
        accepted == Some(7) && came.is_some()
    }

    #[tokio::test]
    async fn each_end_takes_exactly_the_host_it_was_told_of() {
        let (cloud, other) = (authority(), authority());
        let host = |name: &str, enrolment| cloud.issue_host(name, enrolment).unwrap();
        assert!(meets(&cloud, host("a", 1), host("b", 2), partner("b", 2), partner("a", 1)).await);
        assert!(!meets(&cloud, host("c", 1), host("b", 2), partner("b", 2), partner("a", 1)).await, "another host comes");
        assert!(!meets(&cloud, host("a", 1), host("c", 2), partner("b", 2), partner("a", 1)).await, "another host listens");
        assert!(!meets(&cloud, host("a", 1), host("b", 2), partner("b", 2), partner("a", 2)).await, "an earlier enrolment comes");
        assert!(!meets(&cloud, host("a", 1), host("b", 1), partner("b", 2), partner("a", 1)).await, "an earlier enrolment listens");
        let stranger = || other.issue_host("a", 1).unwrap();
        assert!(!meets(&cloud, stranger(), host("b", 2), partner("b", 2), partner("a", 1)).await, "of another cloud");
        let controller = || cloud.issue_controller().unwrap();
        assert!(!meets(&cloud, controller(), host("b", 2), partner("b", 2), partner("a", 1)).await, "a controller is no host");
    }
}
