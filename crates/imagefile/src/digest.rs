//! The digests Glance keeps of every image, made in the one pass in which it is uploaded.

use md5::Md5;
use sha2::{Digest, Sha512};

/// Hashes a stream: MD5 for `checksum`, SHA-512 for `os_hash_value`.
#[derive(Debug, Clone, Default)]
pub struct Digests {
    md5: Md5,
    sha512: Sha512,
    length: u64,
}

/// The digests of a finished stream, in lower-case hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    pub md5: String,
    pub sha512: String,
    pub length: u64,
}

impl Digests {
    /// The name of the strong hash, as in `os_hash_algo`.
    pub const ALGORITHM: &'static str = "sha512";

    pub fn new() -> Self {
        Self::default()
    }

    pub fn push(&mut self, chunk: &[u8]) {
        self.md5.update(chunk);
        self.sha512.update(chunk);
        self.length += chunk.len() as u64;
    }

    pub fn finish(self) -> Summary {
        Summary { md5: hex::encode(self.md5.finalize()), sha512: hex::encode(self.sha512.finalize()), length: self.length }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers_in_any_chunks() {
        for size in [1, 2, 3] {
            let mut digests = Digests::new();
            b"abc".chunks(size).for_each(|chunk| digests.push(chunk));
            let summary = digests.finish();
            assert_eq!(summary.md5, "900150983cd24fb0d6963f7d28e17f72");
            assert!(summary.sha512.starts_with("ddaf35a193617abacc417349ae204131"));
            assert!(summary.sha512.ends_with("2a9ac94fa54ca49f"));
            assert_eq!(summary.length, 3);
        }
    }
}
