//! Sealing: AES-256-GCM under keys that are documents, so that every controller has them and a backup of the store has them.
//!
//! ```text
//! version:1 key number:4 nonce:12 ciphertext tag:16
//! ```
//! The newest key seals. A new one is made when it is older than [`ROTATE_AFTER`]; older ones open until nothing they sealed can still
//! be good. All controllers see a new key no later than the first token it sealed, because both come through the store.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use jiff::{SignedDuration, Timestamp};
use unkai_model::identity::{KeyPurpose, SecretKey};
use unkai_model::{Error, Id};
use unkai_store::{Tx, View};

const VERSION: u8 = 1;
const HEADER: usize = 1 + 4;
const NONCE: usize = 12;
/// Far below the number of random nonces that one key can bear, at any rate of log-ins.
pub const ROTATE_AFTER: SignedDuration = SignedDuration::from_hours(24 * 7);

/// Ready-made ciphers by key. Key documents never change, so neither does what is here.
#[derive(Default)]
pub struct Ciphers {
    known: RwLock<HashMap<Id<SecretKey>, Arc<LessSafeKey>>>,
}

impl Ciphers {
    /// Seals `plain` with the newest key of `purpose`.
    pub fn seal(&self, view: &View, purpose: KeyPurpose, plain: &[u8]) -> Result<Vec<u8>, Error> {
        let newest = newest(view, purpose).ok_or_else(|| Error::internal(format!("there is no {} key", purpose.as_str())))?;
        let cipher = self.cipher(&newest)?;
        let mut nonce = [0; NONCE];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|e| Error::caused("asking for random bytes", e))?;
        let mut head = [0; HEADER];
        head[0] = VERSION;
        head[1..].copy_from_slice(&newest.number.to_be_bytes());
        let mut sealed = plain.to_vec();
        cipher
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(head), &mut sealed)
            .map_err(|e| Error::caused("sealing", e))?;
        let mut out = Vec::with_capacity(HEADER + NONCE + sealed.len());
        out.extend(head);
        out.extend(nonce);
        out.append(&mut sealed);
        Ok(out)
    }

    /// Opens what [`Ciphers::seal`] made; refuses everything else with one and the same words.
    pub fn open(&self, view: &View, purpose: KeyPurpose, sealed: &[u8]) -> Result<Vec<u8>, Error> {
        let bad = || Error::denied("not sealed here");
        let (head, rest) = sealed.split_at_checked(HEADER).ok_or_else(bad)?;
        let (nonce, body) = rest.split_at_checked(NONCE).ok_or_else(bad)?;
        if head[0] != VERSION {
            return Err(bad());
        }
        let number = u32::from_be_bytes(head[1..].try_into().map_err(|_| bad())?);
        let key = view.get(&SecretKey::id(purpose, number)).ok_or_else(bad)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| bad())?;
        let mut body = body.to_vec();
        let plain = self.cipher(&key)?.open_in_place(nonce, Aad::from(head), &mut body).map_err(|_| bad())?.len();
        body.truncate(plain);
        Ok(body)
    }

    fn cipher(&self, key: &SecretKey) -> Result<Arc<LessSafeKey>, Error> {
        let poisoned = "no code panics while it holds this lock";
        if let Some(cipher) = self.known.read().expect(poisoned).get(&key.meta.id) {
            return Ok(cipher.clone());
        }
        let bytes = hex::decode(&key.key).map_err(|e| Error::caused(format!("reading secret key {}", key.meta.id), e))?;
        let unbound = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|e| Error::caused(format!("using secret key {}", key.meta.id), e))?;
        let cipher = Arc::new(LessSafeKey::new(unbound));
        self.known.write().expect(poisoned).insert(key.meta.id.clone(), cipher.clone());
        Ok(cipher)
    }
}

pub fn newest(view: &View, purpose: KeyPurpose) -> Option<Arc<SecretKey>> {
    view.by_index::<SecretKey>("purpose", purpose.as_str()).last()
}

/// Should a new key be made?
pub fn is_due(view: &View, purpose: KeyPurpose, now: Timestamp) -> bool {
    newest(view, purpose).is_none_or(|key| now.duration_since(key.meta.created) > ROTATE_AFTER)
}

/// Makes a new key and forgets those that can no longer matter. Credentials stay sealed for years, so their keys are all kept.
pub fn rotate(tx: &mut Tx, purpose: KeyPurpose, longest_life: SignedDuration) -> Result<(), Error> {
    let old: Vec<Arc<SecretKey>> = tx.by_index("purpose", purpose.as_str()).collect();
    let number = old.last().map_or(0, |key| key.number) + 1;
    let now = tx.now();
    if purpose == KeyPurpose::Token {
        // A key stopped sealing when its successor was made.
        for pair in old.windows(2) {
            if now.duration_since(pair[1].meta.created) > longest_life {
                tx.delete(&pair[0].meta.id)?;
            }
        }
    }
    let key = hex::encode(tx.random::<32>());
    tx.insert(SecretKey::new(purpose, number, key))?;
    Ok(())
}

/// Like [`rotate`], when it is due; for callers that raced.
pub fn rotate_if_due(tx: &mut Tx, purpose: KeyPurpose, longest_life: SignedDuration) -> Result<(), Error> {
    if is_due(&tx.view(), purpose, tx.now()) { rotate(tx, purpose, longest_life) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::payload::tests::widest;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use unkai_store::{Store, System};

    async fn rotated(store: &Store, life: SignedDuration) {
        store.transact(move |tx| rotate(tx, KeyPurpose::Token, life)).await.unwrap();
    }

    #[tokio::test]
    async fn old_keys_open_until_nothing_of_theirs_is_left() {
        let store = Store::in_memory(Arc::new(System));
        let ciphers = Ciphers::default();
        assert!(is_due(&store.view(), KeyPurpose::Token, Timestamp::now()));
        assert!(ciphers.seal(&store.view(), KeyPurpose::Token, b"x").is_err());
        rotated(&store, SignedDuration::from_hours(1)).await;
        let first = ciphers.seal(&store.view(), KeyPurpose::Token, b"hello").unwrap();
        rotated(&store, SignedDuration::from_hours(1)).await;
        let second = ciphers.seal(&store.view(), KeyPurpose::Token, b"hello").unwrap();
        assert_ne!(first[..5], second[..5], "the newest key seals");
        for sealed in [&first, &second] {
            assert_eq!(ciphers.open(&store.view(), KeyPurpose::Token, sealed).unwrap(), b"hello");
        }
        assert!(!is_due(&store.view(), KeyPurpose::Token, Timestamp::now()));
        rotated(&store, SignedDuration::from_nanos(-1)).await;
        assert!(ciphers.open(&store.view(), KeyPurpose::Token, &first).is_err(), "its key is forgotten");
        assert!(ciphers.open(&store.view(), KeyPurpose::Token, &second).is_ok());
    }

    #[tokio::test]
    async fn a_changed_bit_anywhere_is_refused() {
        let store = Store::in_memory(Arc::new(System));
        let ciphers = Ciphers::default();
        rotated(&store, SignedDuration::ZERO).await;
        let good = ciphers.seal(&store.view(), KeyPurpose::Token, b"hello").unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(ciphers.open(&store.view(), KeyPurpose::Token, &bad).is_err(), "byte {at}");
            assert!(ciphers.open(&store.view(), KeyPurpose::Token, &good[..at]).is_err(), "length {at}");
        }
        assert!(ciphers.open(&store.view(), KeyPurpose::Credential, &good).is_err(), "the other purpose's keys do not open it");
    }

    #[tokio::test]
    async fn the_widest_token_fits() {
        let store = Store::in_memory(Arc::new(System));
        rotated(&store, SignedDuration::ZERO).await;
        let sealed = Ciphers::default().seal(&store.view(), KeyPurpose::Token, &widest().encode()).unwrap();
        let text = URL_SAFE_NO_PAD.encode(sealed);
        assert!(text.len() <= 255, "{}", text.len());
    }
}
