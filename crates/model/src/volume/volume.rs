//! A volume: a disk in a pool.
//!
//! `spec` is written by the APIs; `status.pool` and `status.carrier` by control; the rest of `status` from reports of the carrier. The
//! generation counts changes that the carrier must act on; `status.generation` says which it has reached.
//!
//! ```text
//! accepted ──pool──> carrier ──> Working ──> Ready <──> Working (extend, snapshot, backup, restore, upload)
//!     └─no pool──> fault            └──> Failed: says why; the next change asks again
//! any ── spec.deleted ──> Gone ──> the document is deleted
//! ```
//!
//! Use by servers is written in [`super::Attachment`] alone.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Backup, Pool, Snapshot, VolumeKey, VolumeType};
use crate::compute::{Fault, Host};
use crate::image::Image;
use crate::{Derived, Id, Kind, Meta};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    pub meta: Meta<Volume>,
    pub spec: VolumeSpec,
    #[serde(default)]
    pub status: VolumeStatus,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VolumeSpec {
    pub user: String,
    #[serde(default)]
    pub description: Option<String>,
    /// Only grows.
    pub size_gib: u64,
    pub volume_type: Id<VolumeType>,
    #[serde(default)]
    pub source: Source,
    /// The availability zone as it was asked for.
    #[serde(default)]
    pub zone: Option<String>,
    #[serde(default)]
    pub bootable: bool,
    #[serde(default)]
    pub read_only: bool,
    #[serde(default)]
    pub multi_attach: bool,
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// Of the image it was made from, `image_id` and `image_name` among them; servers booted from it take their hardware from here.
    #[serde(default)]
    pub image_metadata: BTreeMap<String, String>,
    /// Its key, when it is encrypted.
    #[serde(default)]
    pub key: Option<Id<VolumeKey>>,
    /// Its content is to be put back. Done once per number.
    #[serde(default)]
    pub restore: Option<Restore>,
    /// Its content is to become an image.
    #[serde(default)]
    pub upload: Option<Upload>,
    /// It, and all that is its own, is to go.
    #[serde(default)]
    pub deleted: bool,
    /// Reserved for an attachment that is not made yet (`os-reserve`).
    #[serde(default)]
    pub reserved: bool,
    /// An administrator's word about its state, good until the generation after this one: (state, generation).
    #[serde(default)]
    pub reset: Option<(String, u64)>,
    /// When the fault arose whose message its owner has put away.
    #[serde(default)]
    pub put_away: Option<Timestamp>,
    /// Fencing: counts the hosts and servers that were given it. The pool refuses older ones.
    #[serde(default)]
    pub fence: u64,
}

/// What a new volume begins with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    #[default]
    Blank,
    Image(Id<Image>),
    Snapshot(Id<Snapshot>),
    Volume(Id<Volume>),
    Backup(Id<Backup>),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restore {
    pub number: u64,
    pub from: RestoreFrom,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestoreFrom {
    /// The newest snapshot of this volume.
    Snapshot(Id<Snapshot>),
    Backup(Id<Backup>),
    Image(Id<Image>),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    pub image: Id<Image>,
    /// `raw`, `qcow2`, `vmdk`.
    pub format: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct VolumeStatus {
    /// Written by control. None: waits, or `fault` says why there is none.
    pub pool: Option<Id<Pool>>,
    /// The host that works on it. Written by control.
    pub carrier: Option<Id<Host>>,
    /// The generation that `phase` is about.
    pub generation: u64,
    pub phase: VolumePhase,
    /// It has been whole once: only then may anything be attached to it.
    pub made: bool,
    /// As large as it is.
    pub size_gib: u64,
    /// The newest restore that was done.
    pub restored: u64,
    pub fault: Option<Fault>,
    /// When it was first whole.
    pub since: Option<Timestamp>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumePhase {
    #[default]
    Unknown,
    /// Being worked on; which step, and percent where it is known.
    Working {
        step: String,
        percent: Option<u8>,
    },
    Ready {
        size_gib: u64,
    },
    Failed(String),
    Gone,
}

impl VolumeSpec {
    pub fn new(user: impl Into<String>, volume_type: Id<VolumeType>, size_gib: u64) -> Self {
        let (metadata, image_metadata) = Default::default();
        VolumeSpec {
            user: user.into(),
            description: None,
            size_gib,
            volume_type,
            source: Source::Blank,
            zone: None,
            bootable: false,
            read_only: false,
            multi_attach: false,
            metadata,
            image_metadata,
            key: None,
            restore: None,
            upload: None,
            deleted: false,
            reserved: false,
            reset: None,
            put_away: None,
            fence: 0,
        }
    }
}

impl Volume {
    /// The carrier has done what the newest generation asks for, or given up on it.
    pub fn is_settled(&self) -> bool {
        self.status.generation == self.meta.generation && !matches!(self.status.phase, VolumePhase::Unknown | VolumePhase::Working { .. })
    }

    /// What still has to be read for it: ids of a snapshot, volume or backup. They must not go meanwhile. A volume that could not be made reads
    /// nothing, so it keeps nothing from going.
    pub fn reads(&self) -> impl Iterator<Item = &str> {
        let begins = match &self.spec.source {
            Source::Snapshot(id) => Some(id.as_str()),
            Source::Volume(id) => Some(id.as_str()),
            Source::Backup(id) => Some(id.as_str()),
            Source::Blank | Source::Image(_) => None,
        };
        let begins = begins.filter(|_| !self.status.made && self.status.fault.is_none() && !self.spec.deleted);
        let put_back = self.pending_restore().and_then(|restore| match &restore.from {
            RestoreFrom::Snapshot(id) => Some(id.as_str()),
            RestoreFrom::Backup(id) => Some(id.as_str()),
            RestoreFrom::Image(_) => None,
        });
        begins.into_iter().chain(put_back)
    }

    /// Its content is still to be put back.
    pub fn pending_restore(&self) -> Option<&Restore> {
        self.spec.restore.as_ref().filter(|restore| restore.number > self.status.restored && !self.spec.deleted)
    }

    /// It is whole, and nothing is being done to it.
    pub fn is_ready(&self) -> bool {
        self.is_settled() && self.status.made && matches!(self.status.phase, VolumePhase::Ready { .. })
    }
}

impl Kind for Volume {
    const NAME: &'static str = "volume";
    crate::meta_accessors!();

    /// Indexes: `project`, `pool`, `carrier`, `unplaced`, `adrift` (in a pool, without a carrier), `making` (in a pool, not whole yet),
    /// `growing`, `restoring`, `deleting`, `key`, and `source`: what it is being made from or put back to. Tallies: `volumes` and `gigabytes` of the
    /// project, both also by type (`project/type`), `pool_gib` of the pool, `carried` of the carrier.
    fn derive(&self, d: &mut Derived) {
        let project = self.meta.project.as_ref().map_or("", |project| project.as_str());
        d.index("project", project);
        let of_type = format!("{project}/{}", self.spec.volume_type);
        let size = self.spec.size_gib as i64;
        for key in [project, &of_type] {
            d.tally("volumes", key, 1);
            d.tally("gigabytes", key, size);
        }
        d.refers(&self.spec.volume_type);
        match &self.status.pool {
            Some(pool) => {
                d.index("pool", pool);
                d.tally("pool_gib", pool, size);
                d.refers(pool);
                if self.status.carrier.is_none() {
                    d.index("adrift", "yes");
                }
                if !self.status.made {
                    d.index("making", "yes");
                } else if self.status.size_gib < self.spec.size_gib {
                    d.index("growing", "yes");
                }
            }
            None => d.index("unplaced", "yes"),
        }
        if let Some(carrier) = &self.status.carrier {
            d.index("carrier", carrier);
            d.tally("carried", carrier, 1);
            d.refers(carrier);
        }
        if self.pending_restore().is_some() {
            d.index("restoring", "yes");
        }
        for source in self.reads() {
            d.index("source", source);
        }
        if let Some(key) = &self.spec.key {
            d.index("key", key);
            d.refers(key);
        }
        if let Some(upload) = &self.spec.upload {
            d.index("upload", &upload.image);
        }
        if self.spec.deleted {
            d.index("deleting", "yes");
        }
    }
}
