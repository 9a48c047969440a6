//! Volumes in pools: made, grown, copied, snapshotted, backed up, removed, and opened for servers by fencing generation.
//!
//! - **Owns** what is inside a pool. Which volumes there should be is the agent's to say, which server uses them too.
//! - **Two layers.** [`Pool`] has the verbs and is the same for every back end; a [`Driver`] knows one kind of storage and has few, small
//!   steps. Bytes go through `qemu-img` as an unprivileged user; QEMU reaches a volume by an open file or by a client of its own
//!   ([`Storage`]). A format is always stated, never looked for in a tenant's bytes.
//! - **Encryption** is a LUKS container inside the volume, whatever the back end. So snapshots, copies and backups hold what is encrypted.
//! - **Dying half way**: what is being made is a draft and gets its name when it is whole and durable; drafts are made anew. Programs this
//!   crate starts end with the thread that waits for them.
//! - **Blocking**: calls take as long as copying takes. [`Job`] says how far it is and ends it.
//! - **Not here**: images (the agent fetches and checks them), volumes in use: what must go through a server's QEMU is the agent's, by
//!   [`Pool::begin_copy`].

#[cfg(test)]
mod conformance;
mod driver;
mod error;
mod files;
mod image;
mod iscsi;
mod job;
mod luks;
mod nbd;
mod nfs;
mod pool;
mod rbd;
mod repository;
mod spec;
mod tool;

pub use driver::{Driver, Lock, Look};
pub use error::{Error, Result};
pub use files::{Files, create_file};
pub use image::{Format, Image, Secret, Storage};
pub use iscsi::Iscsi;
pub use job::Job;
pub use nfs::Nfs;
pub use pool::Pool;
pub use rbd::Rbd;
pub use repository::{Kept, Repository};
pub use spec::{Content, Found, Luks, New, Notes, Part, Spot, Status};
pub use tool::Tools;
