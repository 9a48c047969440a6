//! How a machine becomes a host: the token, and the words of the exchange.
//!
//! The token carries the fingerprint of the cloud's CA, so that one string is enough: the machine knows to whom it talks before it says
//! the secret. It makes its own key and sends a signing request; the key never leaves it. A certificate names the host and the enrolment
//! it comes from, so that revoking a host, or enrolling it again, voids every earlier certificate at once.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use unkai_model::Error;

use crate::ca::Identity;
use crate::item::HostId;

/// So that a token is recognised where it should not be: in a log, in a repository.
const PREFIX: &str = "unkai-host-";

/// What an operator hands to a machine.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// SHA-256 of the CA's certificate.
    pub authority: [u8; 32],
    pub secret: [u8; 24],
}

impl Token {
    /// What the store knows of it.
    pub fn hash(&self) -> String {
        hex::encode(Sha256::digest(self.secret))
    }
}

pub fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    Sha256::digest(certificate.as_ref()).into()
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode([&self.authority[..], &self.secret[..]].concat()))
    }
}

impl FromStr for Token {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        // The text is a secret, so the refusal does not repeat it.
        let refuse = || Error::invalid("this is not a host token; `unkai host token` makes one");
        let bytes = URL_SAFE_NO_PAD.decode(text.trim().strip_prefix(PREFIX).ok_or_else(refuse)?).map_err(|_| refuse())?;
        let (authority, secret) = bytes.split_at_checked(32).ok_or_else(refuse)?;
        Ok(Token { authority: authority.try_into().map_err(|_| refuse())?, secret: secret.try_into().map_err(|_| refuse())? })
    }
}

/// `POST /enrol`, from a machine that has no certificate yet.
#[derive(Serialize, Deserialize)]
pub struct Enrol {
    pub token: String,
    /// The name it wants to be known by.
    pub name: String,
    /// The host it was before, if any.
    pub host: Option<HostId>,
    /// A PKCS #10 request, PEM.
    pub request: String,
}

/// `POST /renew`, from a host.
#[derive(Serialize, Deserialize)]
pub struct Renew {
    pub request: String,
}

/// The answer to both.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Admitted {
    pub host: HostId,
    /// The host's certificate, PEM.
    pub certificate: String,
    /// The cloud's CA, PEM.
    pub authority: String,
    /// For how long the certificate is good.
    pub life_seconds: u64,
    /// Where the cloud's controllers answer.
    pub controllers: Vec<String>,
}

/// A new key, PEM, and the request to sign its public half.
pub fn request() -> Result<(String, String), Error> {
    let make = || -> Result<_, rcgen::Error> {
        let key = KeyPair::generate()?;
        let request = CertificateParams::default().serialize_request(&key)?.pem()?;
        Ok((key.serialize_pem(), request))
    };
    make().map_err(|e| Error::caused("making a key", e))
}

/// What TLS needs, from the files that an agent keeps.
pub fn identity(certificate: &str, key: &str) -> Result<Identity, Error> {
    let reading = |e| Error::caused("reading this host's certificate", e);
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<Vec<_>, _>>().map_err(reading)?;
    Ok(Identity { chain, key: PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(reading)? })
}

pub fn certificate(pem: &str) -> Result<CertificateDer<'static>, Error> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| Error::caused("reading the certificate of the cloud's CA", e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_string() {
        let token = Token { authority: [7; 32], secret: [9; 24] };
        let text = token.to_string();
        assert!(text.parse::<Token>().unwrap() == token);
        assert!(format!(" {text}\n").parse::<Token>().unwrap() == token);
        let cut = &text[..text.len() - 1];
        for bad in ["", "unkai-host-", cut, "unkai-host-!!!!", &text.replace("host", "h")] {
            let refusal = bad.parse::<Token>().err().unwrap().to_string();
            assert!(refusal.contains("not a host token"), "{refusal}");
        }
    }
}
