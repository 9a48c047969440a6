//! A copy of a volume's content in a repository: a pool that keeps backups.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Pool, Snapshot, Volume, VolumeKey, VolumeType};
use crate::compute::Host;
use crate::{Derived, Id, Kind, Meta};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Backup {
    pub meta: Meta<Backup>,
    pub user: String,
    /// May be gone by now.
    pub volume: Id<Volume>,
    pub size_gib: u64,
    /// Of this snapshot; none: as the volume was.
    #[serde(default)]
    pub snapshot: Option<Id<Snapshot>>,
    /// Incremental: what has not changed since this one is not stored again.
    #[serde(default)]
    pub parent: Option<Id<Backup>>,
    /// The moment whose content it holds.
    pub data_timestamp: Timestamp,
    pub repository: Id<Pool>,
    /// What the volume was, for what is made of the backup when that is gone.
    #[serde(default)]
    pub was: Was,
    /// An encrypted volume's container is kept as it is: this opens it.
    #[serde(default)]
    pub key: Option<Id<VolumeKey>>,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub container: Option<String>,
    #[serde(default)]
    pub zone: Option<String>,
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// It is to go; the document goes when it has.
    #[serde(default)]
    pub deleted: bool,
    /// Removes it, while it is to go. Written by control.
    #[serde(default)]
    pub carrier: Option<Id<Host>>,
    /// An administrator's word about its state.
    #[serde(default)]
    pub reset: Option<String>,
    #[serde(default)]
    pub phase: BackupPhase,
    #[serde(default)]
    pub facts: BackupFacts,
}

/// What is known of a volume beside its content.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Was {
    /// May be gone by now.
    pub volume_type: Option<Id<VolumeType>>,
    pub bootable: bool,
    pub metadata: BTreeMap<String, String>,
    pub image_metadata: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackupPhase {
    #[default]
    Creating,
    Available,
    Failed(String),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupFacts {
    /// Bytes that were stored anew.
    pub stored: u64,
    /// Pieces of the whole.
    pub objects: u64,
}

impl Backup {
    /// One that is to be made of `volume`, as it is or as `snapshot` has it.
    pub fn new(meta: Meta<Backup>, user: impl Into<String>, volume: &Volume, repository: Id<Pool>, moment: Timestamp) -> Self {
        let (snapshot, parent, description, container, zone, metadata, carrier) = Default::default();
        let (deleted, reset, phase, facts) = Default::default();
        Backup {
            meta,
            user: user.into(),
            volume: volume.meta.id.clone(),
            size_gib: volume.spec.size_gib,
            snapshot,
            parent,
            data_timestamp: moment,
            repository,
            was: Was {
                volume_type: Some(volume.spec.volume_type.clone()),
                bootable: volume.spec.bootable,
                metadata: volume.spec.metadata.clone(),
                image_metadata: volume.spec.image_metadata.clone(),
            },
            key: volume.spec.key.clone(),
            description,
            container,
            zone,
            metadata,
            deleted,
            carrier,
            reset,
            phase,
            facts,
        }
    }

    /// It is still to be made.
    pub fn is_wished(&self) -> bool {
        self.phase == BackupPhase::Creating && !self.deleted
    }
}

impl Kind for Backup {
    const NAME: &'static str = "volume_backup";
    const NOUN: &'static str = "backup";
    crate::meta_accessors!();

    /// Indexes: `project`, `volume`, `parent`, `repository`, `carrier`, `key`, `deleting`, and while it is to be made `wished` and
    /// `reads`: the snapshot it is made of. Tallies: `backups`, `backup_gigabytes` of the project.
    fn derive(&self, d: &mut Derived) {
        let project = self.meta.project.as_ref().map_or("", |project| project.as_str());
        d.index("project", project);
        d.index("volume", &self.volume);
        d.index("repository", &self.repository);
        d.refers(&self.repository);
        if let Some(parent) = &self.parent {
            d.index("parent", parent);
            d.refers(parent);
        }
        if let Some(carrier) = &self.carrier {
            d.index("carrier", carrier);
            d.refers(carrier);
        }
        if let Some(key) = &self.key {
            d.index("key", key);
            d.refers(key);
        }
        if self.deleted {
            d.index("deleting", "yes");
        }
        if self.is_wished() {
            d.index("wished", "yes");
            if let Some(snapshot) = &self.snapshot {
                d.index("reads", snapshot);
            }
        }
        d.tally("backups", project, 1);
        d.tally("backup_gigabytes", project, self.size_gib as i64);
    }
}
