//! What can be done with volumes, inside a transaction of whoever does it.
//!
//! The handlers of this dialect and of the compute dialect call these with their own [`Tx`]: nothing here goes through HTTP, reads a
//! token or waits. Either everything a verb did is committed with its transaction, or nothing is.
//!
//! [`Tx`]: unkai_store::Tx

mod attach;
mod backup;
mod create;
mod delete;
pub mod limits;
mod restore;
mod snapshot;
mod state;
mod transfer;

pub use attach::{How, MOST_DISKS, attach, attach_made, attachments, detach, of_server, release, reserve, settle_off_host};
pub use backup::{NewBackup, backup, backup_state, delete_backup, restore_backup};
pub use create::{New, create, default_type};
pub use delete::{Going, delete};
pub use restore::{put_back, reimage};
pub use snapshot::{Wanted, delete_snapshot, snapshot, snapshot_state};
pub use state::{State, state};
pub use transfer::{accept, offer};
