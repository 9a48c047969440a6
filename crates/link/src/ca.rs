//! The cloud's own certificate authority. One per cloud, never shared; hosts are known by the certificates it signs.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use unkai_model::Error;

/// How long a leaf certificate is good. They are issued anew long before.
const LEAF_DAYS: i64 = 30;
const CA_DAYS: i64 = 3650;

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
    /// Opens the authority in `dir` (`ca.pem`, `ca.key`), making it the first time. The key is readable by its owner only.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let (pem_path, key_path) = (dir.join("ca.pem"), dir.join("ca.key"));
        if !key_path.exists() {
            let (pem, key) = generate().map_err(|e| Error::caused("making the cloud's certificate authority", e))?;
            write_new(&pem_path, pem.as_bytes(), 0o644)?;
            write_new(&key_path, key.as_bytes(), 0o600)?;
        }
        let read = |path: &Path| fs::read_to_string(path).map_err(|e| Error::caused(format!("reading `{}`", path.display()), e));
        Self::from_pem(read(&pem_path)?, &read(&key_path)?)
    }

    fn from_pem(pem: String, key: &str) -> Result<Self, Error> {
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
        let mut params = leaf("unkai controller", ExtendedKeyUsagePurpose::ServerAuth);
        for name in names {
            let name = name.as_str().try_into().map_err(|e| Error::caused(format!("using the server name `{name}`"), e))?;
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
        self.issue(params)
    }

    /// A certificate that proves to be the agent of `host`.
    pub fn issue_host(&self, host: &str) -> Result<Identity, Error> {
        self.issue(leaf(host, ExtendedKeyUsagePurpose::ClientAuth))
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

fn leaf(common_name: &str, purpose: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(common_name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    params.use_authority_key_identifier_extension = true;
    valid_for(&mut params, LEAF_DAYS);
    params
}

fn generate() -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("Unkai cloud CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid_for(&mut params, CA_DAYS);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// From a little before now, because clocks differ.
fn valid_for(params: &mut CertificateParams, days: i64) {
    let now = jiff::Timestamp::now();
    let day = |offset: i64| {
        let date = (now + jiff::SignedDuration::from_hours(24 * offset)).to_zoned(jiff::tz::TimeZone::UTC).date();
        rcgen::date_time_ymd(date.year().into(), date.month() as u8, date.day() as u8)
    };
    params.not_before = day(-1);
    params.not_after = day(days + 1);
}

/// Writes a file that did not exist, whole or not at all.
fn write_new(path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    let write = || -> std::io::Result<()> {
        let temporary = path.with_extension("new");
        let _ = fs::remove_file(&temporary);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|e| Error::caused(format!("writing `{}`", path.display()), e))
}
