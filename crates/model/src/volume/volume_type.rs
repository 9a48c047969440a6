//! What tenants choose from when they make a volume.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::identity::Project;
use crate::{Derived, Id, Kind, Meta};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VolumeType {
    pub meta: Meta<VolumeType>,
    #[serde(default)]
    pub description: Option<String>,
    pub public: bool,
    /// Projects that may use it although it is not public.
    #[serde(default)]
    pub access: BTreeSet<Id<Project>>,
    #[serde(default)]
    pub extra_specs: BTreeMap<String, String>,
    /// Volumes of it are encrypted so.
    #[serde(default)]
    pub encryption: Option<Cipher>,
    /// The id by which encryption is shown.
    #[serde(default)]
    pub encryption_id: Option<String>,
}

/// LUKS inside the volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cipher {
    /// `luks`.
    pub provider: String,
    /// For example `aes-xts-plain64`.
    pub cipher: Option<String>,
    /// Bits; 256 or 512 of `aes-xts-plain64`.
    pub key_size: Option<u32>,
    /// `front-end`: QEMU decrypts. `back-end` is shown as it was given.
    pub control_location: String,
}

impl VolumeType {
    pub fn is_visible_to(&self, project: Option<&Id<Project>>) -> bool {
        self.public || project.is_some_and(|project| self.access.contains(project))
    }

    /// `multiattach` of the extra specs, in the field's notation.
    pub fn allows_multi_attach(&self) -> bool {
        self.extra_specs.get("multiattach").is_some_and(|value| value == "<is> True")
    }
}

impl Kind for VolumeType {
    const NAME: &'static str = "volume_type";
    const NOUN: &'static str = "volume type";
    crate::meta_accessors!();

    fn derive(&self, d: &mut Derived) {
        d.claim("volume-type-name", &self.meta.name);
    }
}
