//! The passphrase of an encrypted volume.

use serde::{Deserialize, Serialize};

use crate::{Kind, Meta};

/// As safe as the store, like every secret of the cloud. Deleting it makes the volume's bytes noise.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct VolumeKey {
    pub meta: Meta<VolumeKey>,
    pub passphrase: String,
    /// `aes-256`, `xts` in QEMU's words.
    pub cipher: String,
    pub mode: String,
}

/// Never shows the passphrase.
impl std::fmt::Debug for VolumeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VolumeKey").field("id", &self.meta.id).finish_non_exhaustive()
    }
}

impl Kind for VolumeKey {
    const NAME: &'static str = "volume_key";
    const NOUN: &'static str = "key of a volume";
    crate::meta_accessors!();
}
