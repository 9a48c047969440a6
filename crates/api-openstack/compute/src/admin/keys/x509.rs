//! Certificates as public keys, for guests that log in with those: imported, or a new self-signed one of a user.

use aws_lc_rs::digest;
use jiff::tz::TimeZone;
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, OtherNameValue, RsaKeySize, SanType};

use unkai_model::Timestamp;

use super::{Generated, KeyError, colons};

/// The OID of a user principal name, by which Windows finds the account.
const PRINCIPAL_NAME: [u64; 10] = [1, 3, 6, 1, 4, 1, 311, 20, 2, 3];

/// The SHA-1 fingerprint of the first certificate in `pem`.
pub fn fingerprint(pem: &str) -> Result<String, KeyError> {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem.trim_start().as_bytes()).map_err(|_| KeyError::Unreadable)?;
    block.parse_x509().map_err(|_| KeyError::Unreadable)?;
    Ok(colons(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &block.contents).as_ref()))
}

/// A new client certificate named after the user, good for ten years.
pub fn x509_pair(user: &str, now: Timestamp) -> Result<Generated, KeyError> {
    let failed = |error: rcgen::Error| KeyError::Generation(error.to_string());
    let pair = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).map_err(failed)?;
    let certificate = parameters(user, now).self_signed(&pair).map_err(failed)?.pem();
    let fingerprint = fingerprint(&certificate)?;
    Ok(Generated { public_key: certificate, private_key: pair.serialize_pem(), fingerprint })
}

fn parameters(user: &str, now: Timestamp) -> CertificateParams {
    let today = now.to_zoned(TimeZone::UTC).date();
    let (year, month) = (i32::from(today.year()), today.month() as u8);
    let mut parameters = CertificateParams::default();
    parameters.not_before = rcgen::date_time_ymd(year, month, 1);
    parameters.not_after = rcgen::date_time_ymd(year + 10, month, 1);
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, user);
    let principal = OtherNameValue::Utf8String(format!("{user}@localhost"));
    parameters.subject_alt_names = vec![SanType::OtherName((PRINCIPAL_NAME.to_vec(), principal))];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    parameters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_made_and_read_back() {
        let made = x509_pair("some-user", "2026-02-28T00:00:00Z".parse().unwrap()).unwrap();
        assert!(made.public_key.starts_with("-----BEGIN CERTIFICATE-----"));
        assert_eq!(made.fingerprint.len(), 20 * 3 - 1);
        assert_eq!(fingerprint(&made.public_key), Ok(made.fingerprint));
        assert_eq!(fingerprint("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), Err(KeyError::Unreadable));
        assert_eq!(fingerprint("ssh-rsa AAAA"), Err(KeyError::Unreadable));
    }
}
