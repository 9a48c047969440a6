//! Runs servers: one QEMU process each, driven over QMP.
//!
//! - **Owns** a directory per server (disks, console log, sockets, ledger), its QEMU process and its control group. The network devices
//!   are the network driver's; they arrive as open tap descriptors.
//! - **Pure first**: [`LaunchSpec`] is data, [`command_line`] renders it, [`exit::decide`] says why a process ended; the rest carries out.
//! - **Dying half way**: the agent may be killed at any point. Disks appear under their names only when complete; the ledger is
//!   written durably before and after a process starts; a process started but not yet noted is found by its command line. QEMU runs
//!   on, its console log too, and [`Qemu::discover`] adopts it. A guest that powers off meanwhile waits, paused, to tell.
//! - **Hostile guests**: QEMU has a user of its own, no privileges, a seccomp filter, a directory it can only search, and no
//!   descriptor it does not need. Whatever it says over QMP is bounded and checked.
//! - **Not here**: deciding what should run (the agent), fetching and converting images (`imagefile`), networks.
//!
//! ```text
//!            define            launch                     guest powers off, panics, is killed
//!   (none) ---------> defined ---------> running <-> paused ------------------------------> defined (Exit known)
//!                        ^  \                |  suspend
//!                 remove |   `-- launch      v
//!                        `------------- suspended
//! ```

pub mod cgroup;
mod command_line;
pub mod console;
mod disks;
mod error;
pub mod exit;
mod given;
mod guest_agent;
mod iso9660;
mod layout;
mod ledger;
mod machine;
mod process;
mod qcow2;
mod qemu;
pub mod qmp;
pub mod spec;
mod vm;

pub use command_line::{Fds, Host, ImageFd, command_line};
pub use disks::Tools;
pub use error::{Error, Result};
pub use exit::{Exit, ExitReason};
pub use given::{Given, Passphrase, Storage};
pub use guest_agent::GuestAgent;
pub use iso9660::DiscFile;
pub use layout::ServerDir;
pub use ledger::{Desired, Ledger, ProcessId};
pub use machine::{Accel, detect as detect_accelerator};
pub use process::kill_all;
pub use qemu::{Config, Found, FoundState, Qemu, Tap};
pub use spec::{Boot, Bus, Disk, Firmware, Format, LaunchSpec, Nic, NicModel, Source};
pub use vm::diagnostics::{Diagnostics, DiskCounters, NicFact, VcpuTime};
pub use vm::migrate::{Copied, Moved, Outgoing, Transfer, Wish};
pub use vm::snapshot::{Progress, Snapshot};
pub use vm::{Event, EventKind, RunState, Status, Vm};

#[cfg(test)]
#[path = "../../../tests/corpus/format.rs"]
mod corpus;
