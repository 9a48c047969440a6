//! What stateless tokens need of the store: the keys that seal them, and which of them were revoked one by one.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Derived, Id, Kind, Meta};

/// A secret key of 256 bits. The newest of its purpose seals; older ones still open, until nothing they sealed can be valid.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct SecretKey {
    /// The id is `purpose/number`.
    pub meta: Meta<SecretKey>,
    pub purpose: KeyPurpose,
    pub number: u32,
    /// 64 hex digits.
    pub key: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyPurpose {
    Token,
    Credential,
}

impl KeyPurpose {
    pub fn as_str(self) -> &'static str {
        match self {
            KeyPurpose::Token => "token",
            KeyPurpose::Credential => "credential",
        }
    }
}

impl SecretKey {
    pub fn new(purpose: KeyPurpose, number: u32, key: String) -> Self {
        SecretKey { meta: Meta::new(Self::id(purpose, number)), purpose, number, key }
    }
    /// Sorts by number within a purpose.
    pub fn id(purpose: KeyPurpose, number: u32) -> Id<SecretKey> {
        Id::new(format!("{}/{number:010}", purpose.as_str()))
    }
}

/// Never shows the key.
impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretKey").field("id", &self.meta.id).finish_non_exhaustive()
    }
}

impl Kind for SecretKey {
    const NAME: &'static str = "secret_key";
    const NOUN: &'static str = "secret key";
    crate::meta_accessors!();

    fn derive(&self, d: &mut Derived) {
        d.index("purpose", self.purpose.as_str());
    }
}

/// One token that may not be used again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Revocation {
    /// The id sorts by expiry, so that the useless ones are in front.
    pub meta: Meta<Revocation>,
    pub audit_id: String,
    pub expires: Timestamp,
}

impl Revocation {
    pub fn new(audit_id: &str, expires: Timestamp) -> Self {
        Revocation { meta: Meta::new(Self::id(audit_id, expires)), audit_id: audit_id.into(), expires }
    }
    pub fn id(audit_id: &str, expires: Timestamp) -> Id<Revocation> {
        Id::new(format!("{:012}/{audit_id}", expires.as_second().max(0)))
    }
}

impl Kind for Revocation {
    const NAME: &'static str = "revocation";
    crate::meta_accessors!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time_and_number() {
        let at = |second| Timestamp::from_second(second).expect("in range");
        assert!(Revocation::id("z", at(9)) < Revocation::id("a", at(10)));
        assert!(SecretKey::id(KeyPurpose::Token, 9) < SecretKey::id(KeyPurpose::Token, 10));
    }

    #[test]
    fn a_key_is_never_printed() {
        let key = SecretKey::new(KeyPurpose::Token, 1, "5ec2e7".into());
        assert!(!format!("{key:?}").contains("5ec2e7"));
    }
}
