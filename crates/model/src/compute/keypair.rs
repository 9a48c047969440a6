//! A key pair: a public key that servers let in. It belongs to a user, not to a project; the private half is never kept.

use serde::{Deserialize, Serialize};

use crate::{Derived, Id, Kind, Meta};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyPair {
    /// The id is `user/name`: names are unique per user.
    pub meta: Meta<KeyPair>,
    pub user: String,
    /// The integer that compute APIs show beside the name; nothing is found by it.
    pub number: u32,
    pub algorithm: KeyType,
    /// One OpenSSH line, or a certificate in PEM.
    pub public_key: String,
    /// Hex digits joined by colons: MD5 of an SSH key, SHA-1 of a certificate.
    pub fingerprint: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyType {
    #[default]
    Ssh,
    X509,
}

impl KeyType {
    pub fn as_str(self) -> &'static str {
        match self {
            KeyType::Ssh => "ssh",
            KeyType::X509 => "x509",
        }
    }
}

impl KeyPair {
    pub fn id(user: &str, name: &str) -> Id<KeyPair> {
        Id::new(format!("{user}/{name}"))
    }
}

impl Kind for KeyPair {
    const NAME: &'static str = "key_pair";
    const NOUN: &'static str = "key pair";
    crate::meta_accessors!();

    /// Index: `user`. Tally: `key_pairs` by user.
    fn derive(&self, d: &mut Derived) {
        d.index("user", &self.user);
        d.tally("key_pairs", &self.user, 1);
    }
}
