//! Key material: what a public key is, its fingerprint, and new pairs. Pure but for the random numbers of new keys.

mod der;
mod generate;
mod ssh;
mod x509;

pub use generate::{Generated, ssh_pair};
pub use ssh::fingerprint as ssh_fingerprint;
pub use x509::{fingerprint as x509_fingerprint, x509_pair};

/// A key that could not be read or made. The text is for the caller.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum KeyError {
    #[error("failed to generate fingerprint")]
    Unreadable,
    #[error("generating a key: {0}")]
    Generation(String),
}

/// `[0x1f, 0xa0]` as `1f:a0`.
fn colons(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}
