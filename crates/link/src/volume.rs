//! Volumes as hosts are told of them, and what hosts say back.
//!
//! A pool is one place that holds volumes. Work on a volume (make, grow, snapshot, copy, remove) is an item of exactly one host at a time, its
//! carrier: the host that a server uses the volume on, else any host that reaches the pool. Use of a volume by a server is part of the
//! server's item ([`VolumeUse`]): it names the fencing generation, and a pool lets only the newest generation of a volume write.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use unkai_model::Id;
use unkai_model::compute::Server;
use unkai_model::image::Image;
pub use unkai_model::volume::{Backend, BackupFacts, VolumePhase};

use crate::item::ImageRef;

/// A pool that this host reaches: it is to be looked after, and reported on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolItem {
    pub id: String,
    pub backend: Backend,
    /// What the hosts that use it have found there: a place without this mark is not it. None: it is to be found out.
    #[serde(default)]
    pub mark: Option<String>,
}

/// LUKS inside the volume's own format; the passphrase comes from the cloud's key store.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encryption {
    /// For example `aes-256`.
    pub cipher: String,
    /// For example `xts`.
    pub mode: String,
    pub passphrase: String,
}

impl std::fmt::Debug for Encryption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encryption").field("cipher", &self.cipher).field("mode", &self.mode).finish_non_exhaustive()
    }
}

/// What a new volume begins with.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    #[default]
    Blank,
    Image(ImageRef),
    /// A snapshot of another volume of the same pool.
    Snapshot {
        volume: String,
        snapshot: String,
        encryption: Option<Encryption>,
    },
    /// Another volume of the same pool, as it is now.
    Volume {
        volume: String,
        encryption: Option<Encryption>,
    },
    /// Manifest of a backup in a repository, and its key there.
    Backup {
        repository: Backend,
        backup: String,
    },
}

/// A volume whose content this host looks after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VolumeItem {
    pub id: String,
    /// Older generations than the one already seen are refused.
    pub generation: u64,
    pub backend: Backend,
    /// False: it, and all that is its own, is to go.
    pub present: bool,
    /// It has been whole: if it is not there now, that is a fault, and it is not made again.
    #[serde(default)]
    pub made: bool,
    /// The fencing generation that this host works on it with; that of a use of it here when there is one.
    #[serde(default)]
    pub fence: u64,
    /// Only grows.
    pub size_gib: u64,
    /// Several servers may write it at once.
    #[serde(default)]
    pub shared: bool,
    /// Blank once it was made.
    pub source: Source,
    pub encryption: Option<Encryption>,
    /// The server here that uses it now: growing and snapshots go through its QEMU.
    pub in_use_by: Option<Id<Server>>,
    /// Snapshots that are wanted, by id; others of this volume go.
    #[serde(default)]
    pub snapshots: Vec<String>,
    /// A copy of its content that is wanted as an image, to be uploaded as `PUT /images/{image}`.
    #[serde(default)]
    pub upload: Option<Upload>,
    /// Backups to be made of it: by id.
    #[serde(default)]
    pub backups: Vec<BackupWish>,
    /// Its content is to be put back: to a snapshot, a backup or an image. Done once per number.
    #[serde(default)]
    pub restore: Option<Restore>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Upload {
    pub image: Id<Image>,
    /// `raw`, `qcow2`, `vmdk`.
    pub format: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackupWish {
    pub backup: String,
    pub repository: Backend,
    /// Of this snapshot; none: as the volume is now.
    pub snapshot: Option<String>,
    /// The backup whose unchanged parts are not stored again.
    pub parent: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Restore {
    pub number: u64,
    pub from: RestoreFrom,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestoreFrom {
    Snapshot(String),
    Backup { repository: Backend, backup: String },
    Image(ImageRef),
}

/// A backup that outlives its volume: this host removes it when it is not present.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackupItem {
    pub id: String,
    pub generation: u64,
    pub repository: Backend,
    pub present: bool,
}

/// A volume as a disk of a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VolumeUse {
    pub volume: String,
    /// Fencing: the pool refuses writes of an older one.
    pub generation: u64,
    pub backend: Backend,
    pub encryption: Option<Encryption>,
    /// `vda`, `vdb`: order of the guest's disks.
    pub device: String,
    pub boot_index: Option<u32>,
    /// `virtio`, `ide`.
    #[serde(default)]
    pub bus: Option<String>,
    pub read_only: bool,
    /// Others may have it open for writing too, each under a generation of its own: none of them fences another.
    pub shared: bool,
    /// A tag for the guest to find it by.
    #[serde(default)]
    pub tag: Option<String>,
}

/// What a host says about a volume it carries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VolumeReport {
    pub volume: String,
    /// The generation this is about.
    pub generation: u64,
    pub phase: VolumePhase,
    /// Snapshots that exist, with the GiB they were taken at.
    #[serde(default)]
    pub snapshots: BTreeMap<String, u64>,
    /// What became of one asked thing: id of a snapshot, backup or image -> none when done, else why not.
    #[serde(default)]
    pub outcomes: BTreeMap<String, Option<String>>,
    /// The newest restore that was done.
    #[serde(default)]
    pub restored: u64,
    #[serde(default)]
    pub backups: BTreeMap<String, BackupFacts>,
}

/// What a host says about a pool it reaches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolReport {
    pub pool: String,
    /// None: it works.
    pub fault: Option<String>,
    pub total_gib: u64,
    pub free_gib: u64,
    /// What tells it from other places, when it works.
    #[serde(default)]
    pub mark: Option<String>,
}

/// What became of the removal of a backup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackupReport {
    pub backup: String,
    pub generation: u64,
    /// None: nothing of it is left.
    pub fault: Option<String>,
}
