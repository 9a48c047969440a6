//! Block storage: disks that outlive servers.
//!
//! ```text
//! VolumeType   what a tenant chooses: extra specs match pools, encryption
//! Pool         a place that holds volumes or backups, and the hosts that reach it
//! Volume       in one pool; all work on it is done by one host at a time, its carrier
//! Snapshot     of a volume, in its pool
//! Backup       of a volume, in a pool that keeps backups; outlives the volume
//! Attachment   the use of a volume by a server: the only place where that is written
//! Transfer     an offer of a volume to another project
//! VolumeKey    the passphrase of an encrypted volume
//! ```

mod attachment;
mod backup;
mod capabilities;
mod default_type;
mod key;
mod pool;
mod snapshot;
mod transfer;
#[allow(clippy::module_inception)]
mod volume;
mod volume_type;

pub use attachment::{AttachState, Attachment, Mode};
pub use backup::{Backup, BackupFacts, BackupPhase, Was};
pub use capabilities::unmet;
pub use default_type::DefaultType;
pub use key::VolumeKey;
pub use pool::{Backend, Pool, PoolStatus, Reached};
pub use snapshot::{Snapshot, SnapshotPhase};
pub use transfer::Transfer;
pub use volume::{Restore, RestoreFrom, Source, Upload, Volume, VolumePhase, VolumeSpec, VolumeStatus};
pub use volume_type::{Cipher, VolumeType};
