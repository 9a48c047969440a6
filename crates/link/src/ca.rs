//! The cloud's own certificate authority. One per cloud, never shared; hosts are known by the certificates it signs.

use std::net::IpAddr;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use unkai_model::Error;

/// How long a leaf certificate is good. They are issued anew long before.
pub const LEAF_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
const CA_LIFE: Duration = Duration::from_secs(3650 * 24 * 3600);
/// Certificates are good from a little before they are made, because clocks differ.
const CLOCK_MARGIN: Duration = Duration::from_secs(3600);

/// Signs certificates for this cloud.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

/// A certificate and its private key, ready for TLS.
pub struct Identity {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

impl Authority {
    /// A new authority: certificate and key, PEM.
    pub fn generate() -> Result<(String, String), Error> {
        generate().map_err(|e| Error::caused("making the cloud's certificate authority", e))
    }

    pub fn from_pem(pem: String, key: &str) -> Result<Self, Error> {
        let bad = |e: rcgen::Error| Error::caused("reading the cloud's certificate authority", e);
        let key = KeyPair::from_pem(key).map_err(bad)?;
        let issuer = Issuer::from_ca_cert_pem(&pem, key).map_err(bad)?;
        let certificate = rustls_pki_types::pem::PemObject::from_pem_slice(pem.as_bytes())
            .map_err(|e| Error::caused("reading the cloud's certificate authority", e))?;
        Ok(Authority { issuer, certificate, pem })
    }

    /// The authority's certificate, for clients.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// A certificate for a server that answers under these names and addresses.
    pub fn issue_server(&self, names: &[String], addresses: &[IpAddr]) -> Result<Identity, Error> {
        let mut params = leaf(CONTROLLER, ExtendedKeyUsagePurpose::ServerAuth, LEAF_LIFE);
        for name in names {
            let name = name.as_str().try_into().map_err(|e| Error::caused(format!("using the server name `{name}`"), e))?;
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
        self.issue(params)
    }

    /// A certificate with a new key that proves to be the agent of `host`; for an agent in the controller's own process.
    pub fn issue_host(&self, host: &str, enrolment: u64) -> Result<Identity, Error> {
        self.issue(host_leaf(host, enrolment, LEAF_LIFE))
    }

    /// A certificate with which this controller comes to another one.
    pub fn issue_controller(&self) -> Result<Identity, Error> {
        self.issue(leaf(CONTROLLER, ExtendedKeyUsagePurpose::ClientAuth, LEAF_LIFE))
    }

    /// Signs the key of a request, PEM, for a host; nothing else of the request counts. The answer is PEM.
    pub fn sign_host(&self, request: &str, host: &str, enrolment: u64, life: Duration) -> Result<String, Error> {
        let mut request = CertificateSigningRequestParams::from_pem(request)
            .map_err(|e| Error::invalid(format!("the certificate request cannot be read: {e}")))?;
        request.params = host_leaf(host, enrolment, life);
        let certificate = request.signed_by(&self.issuer).map_err(|e| Error::caused("signing a host's certificate", e))?;
        Ok(certificate.pem())
    }

    fn issue(&self, params: CertificateParams) -> Result<Identity, Error> {
        let sign = || -> Result<Identity, rcgen::Error> {
            let key = KeyPair::generate()?;
            let certificate = params.signed_by(&key, &self.issuer)?;
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
            Ok(Identity { chain: vec![certificate.der().clone(), self.certificate.clone()], key })
        };
        sign().map_err(|e| Error::caused("signing a certificate", e))
    }
}

/// The common name of controllers; hosts have their ids.
pub const CONTROLLER: &str = "unkai controller";

/// Names the host, and the enrolment it comes from.
fn host_leaf(host: &str, enrolment: u64, life: Duration) -> CertificateParams {
    let mut params = leaf(host, ExtendedKeyUsagePurpose::ClientAuth, life);
    params.distinguished_name.push(DnType::OrganizationalUnitName, enrolment.to_string());
    params
}

fn leaf(common_name: &str, purpose: ExtendedKeyUsagePurpose, life: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(common_name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    params.use_authority_key_identifier_extension = true;
    valid_for(&mut params, life);
    params
}

fn generate() -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("Unkai cloud CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid_for(&mut params, CA_LIFE);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn valid_for(params: &mut CertificateParams, life: Duration) {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    // Certificates count in seconds.
    let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(since_epoch.as_secs());
    params.not_before = now - CLOCK_MARGIN;
    params.not_after = now + life;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{enrolment, tls};

    #[test]
    fn a_request_gets_a_certificate_of_what_was_decided_and_not_of_what_it_says() {
        let (pem, key) = Authority::generate().unwrap();
        let authority = Authority::from_pem(pem, &key).unwrap();
        let (key, _) = enrolment::request().unwrap();
        let mut wish = leaf("somebody else", ExtendedKeyUsagePurpose::ServerAuth, LEAF_LIFE);
        wish.subject_alt_names.push(SanType::DnsName(tls::CONTROLLER_NAME.try_into().unwrap()));
        // What a request cannot say.
        wish.use_authority_key_identifier_extension = false;
        let request = wish.serialize_request(&KeyPair::from_pem(&key).unwrap()).unwrap().pem().unwrap();
        let signed = authority.sign_host(&request, "h1", 3, LEAF_LIFE).unwrap();
        let identity = enrolment::identity(&signed, &key).unwrap();
        assert_eq!(tls::peer_of(&identity.chain[0]), Some(tls::Peer::Host { host: unkai_model::Id::new("h1"), enrolment: 3 }));
        let (_, parsed) = x509_parser::parse_x509_certificate(&identity.chain[0]).unwrap();
        assert!(parsed.subject_alternative_name().unwrap().is_none());
        assert!(authority.sign_host("nonsense", "h1", 3, LEAF_LIFE).is_err());
    }
}
