//! The content of a volume at one moment, kept beside it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Volume, VolumeType};
use crate::{Derived, Id, Kind, Meta};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    pub meta: Meta<Snapshot>,
    pub user: String,
    pub volume: Id<Volume>,
    /// The size of the volume when it was taken.
    pub size_gib: u64,
    /// The volume's, for limits by type. May be gone by now.
    #[serde(default)]
    pub volume_type: Option<Id<VolumeType>>,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// It is to go; the document goes when it has.
    #[serde(default)]
    pub deleted: bool,
    /// An administrator's word about its state.
    #[serde(default)]
    pub reset: Option<String>,
    /// What a caller said about its progress.
    #[serde(default)]
    pub progress: Option<String>,
    /// Written from the reports of the volume's carrier.
    #[serde(default)]
    pub phase: SnapshotPhase,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotPhase {
    #[default]
    Creating,
    Available,
    Failed(String),
}

impl Snapshot {
    /// One that is to be taken.
    pub fn new(meta: Meta<Snapshot>, user: impl Into<String>, volume: impl Into<Id<Volume>>, size_gib: u64) -> Self {
        let (volume_type, description, metadata, deleted, reset, progress, phase) = Default::default();
        let (user, volume) = (user.into(), volume.into());
        Snapshot { meta, user, volume, size_gib, volume_type, description, metadata, deleted, reset, progress, phase }
    }
}

impl Kind for Snapshot {
    const NAME: &'static str = "volume_snapshot";
    const NOUN: &'static str = "snapshot";
    crate::meta_accessors!();

    /// Indexes: `project`, `volume`. Tallies: `snapshots`, and `gigabytes` like the volume's, of the project, both also by type.
    fn derive(&self, d: &mut Derived) {
        let project = self.meta.project.as_ref().map_or("", |project| project.as_str());
        d.index("project", project);
        d.index("volume", &self.volume);
        d.refers(&self.volume);
        let of_type = self.volume_type.as_ref().map(|kind| format!("{project}/{kind}"));
        for key in [Some(project), of_type.as_deref()].into_iter().flatten() {
            d.tally("snapshots", key, 1);
            d.tally("gigabytes", key, self.size_gib as i64);
        }
    }
}
