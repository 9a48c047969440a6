//! New SSH key pairs: RSA of 2048 bits, the private key in PEM (PKCS#1), the public key as an OpenSSH line.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{KeyError, der, ssh_fingerprint};

/// A new pair; the private half is given to the caller once and kept nowhere.
#[derive(Debug)]
pub struct Generated {
    pub public_key: String,
    pub private_key: String,
    pub fingerprint: String,
}

/// Takes a tenth of a second or so of one core: not for the reactor's threads.
pub fn ssh_pair() -> Result<Generated, KeyError> {
    let failed = |what: &str| KeyError::Generation(what.to_owned());
    let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_| failed("no key was found"))?;
    let public_key = open_ssh(pair.public_key().as_ref()).ok_or_else(|| failed("the public key is not DER"))?;
    let pkcs8: Pkcs8V1Der = pair.as_der().map_err(|_| failed("the private key has no DER"))?;
    let private_key = pkcs1(pkcs8.as_ref()).ok_or_else(|| failed("the private key is not PKCS#8"))?;
    let fingerprint = ssh_fingerprint(&public_key)?;
    Ok(Generated { public_key, private_key: pem("RSA PRIVATE KEY", private_key), fingerprint })
}

/// The line for an RSAPublicKey (modulus, exponent); both encodings write positive numbers alike.
fn open_ssh(public: &[u8]) -> Option<String> {
    let (numbers, _) = der::element(der::SEQUENCE, public)?;
    let (modulus, rest) = der::element(der::INTEGER, numbers)?;
    let (exponent, _) = der::element(der::INTEGER, rest)?;
    let mut blob = Vec::new();
    for field in [b"ssh-rsa", exponent, modulus] {
        blob.extend((field.len() as u32).to_be_bytes());
        blob.extend(field);
    }
    Some(format!("ssh-rsa {} Generated-by-Nova", STANDARD.encode(blob)))
}

/// The RSAPrivateKey inside a PrivateKeyInfo: version, algorithm, octets.
fn pkcs1(pkcs8: &[u8]) -> Option<&[u8]> {
    let (info, _) = der::element(der::SEQUENCE, pkcs8)?;
    let (_version, rest) = der::element(der::INTEGER, info)?;
    let (_algorithm, rest) = der::element(der::SEQUENCE, rest)?;
    der::element(der::OCTETS, rest).map(|(key, _)| key)
}

fn pem(label: &str, bytes: &[u8]) -> String {
    let text = STANDARD.encode(bytes);
    let lines = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("base64 is ASCII"));
    let body = lines.collect::<Vec<_>>().join("\n");
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_halves_belong_together() {
        let made = ssh_pair().unwrap();
        assert!(made.private_key.starts_with("-----BEGIN RSA PRIVATE KEY-----\n"));
        let body: String = made.private_key.lines().filter(|line| !line.starts_with('-')).collect();
        let private = KeyPair::from_der(&STANDARD.decode(body).unwrap()).unwrap();
        assert_eq!(open_ssh(private.public_key().as_ref()), Some(made.public_key.clone()));
        assert_eq!(ssh_fingerprint(&made.public_key), Ok(made.fingerprint));
    }
}
