//! An offer of a volume to whoever knows its key.

use serde::{Deserialize, Serialize};

use super::Volume;
use crate::identity::Project;
use crate::{Derived, Id, Kind, Meta};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transfer {
    pub meta: Meta<Transfer>,
    pub volume: Id<Volume>,
    /// SHA-256 of salt and key, in hex; the key itself is shown once and not kept.
    pub salt: String,
    pub hash: String,
    #[serde(default)]
    pub no_snapshots: bool,
    #[serde(default)]
    pub destination: Option<Id<Project>>,
}

impl Kind for Transfer {
    const NAME: &'static str = "volume_transfer";
    const NOUN: &'static str = "transfer";
    crate::meta_accessors!();

    /// Index: `project`, `volume`. A volume is offered once at a time.
    fn derive(&self, d: &mut Derived) {
        d.index("project", self.meta.project.as_ref().map_or("", |project| project.as_str()));
        d.index("volume", &self.volume);
        d.claim("volume-transfer", &self.volume);
        d.refers(&self.volume);
    }
}
