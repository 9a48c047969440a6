//! What an operator allows in an image.

/// Limits an image is judged by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The largest disk an image may describe, in bytes.
    pub max_virtual_size: u64,
    /// Whether an image may be encrypted (qcow2 with AES or LUKS). Such an image can be stored but not converted.
    pub allow_encrypted: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self { max_virtual_size: 16 << 40, allow_encrypted: false }
    }
}
