//! The cage: `qemu-img` for images that were accepted, run so that a flaw in it stays there.
//!
//! - It runs as an unprivileged user without capabilities, cannot gain any, has an empty network namespace (both when
//!   we are root), and hard limits on memory, processor time, files, file size and wall-clock time.
//! - It opens no input file. The image is an already open descriptor that *we* read; `qemu-img` asks for its bytes over a
//!   socket pair (the NBD protocol, see `serve`). Passing `/dev/fd/N` would not do: opening that name again asks for
//!   permission on the file as the unprivileged user, so every image would have to be readable by that user.
//! - The format is always given, the backing file is always "none", so nothing is probed and nothing is followed.
//! - The output is a file we made beside its final name, handed over open, made durable and renamed at the end.
//!
//! Dropping a future kills the process group. If we die, the socket closes and `qemu-img` fails on its next read; what
//! stays is a `*.part` file, see [`sweep_partial`].

mod convert;
mod error;
mod info;
mod output;
mod progress;
mod run;
mod sandbox;
mod serve;

use std::path::PathBuf;
use std::time::Duration;

pub use convert::{Conversion, Converted, Target};
pub use error::CageError;
pub use info::Info;
pub use output::sweep_partial;

/// How `qemu-img` is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cage {
    pub qemu_img: PathBuf,
    /// The user and group it becomes when we are root. Neither may be 0.
    pub uid: u32,
    pub gid: u32,
    /// The most address space, in bytes.
    pub address_space: u64,
    /// The most processor time.
    pub cpu: Duration,
    /// The most wall-clock time.
    pub wall: Duration,
    /// The most open files.
    pub open_files: u64,
    /// The most bytes `info` may print.
    pub info_output: usize,
}

impl Default for Cage {
    fn default() -> Self {
        Self {
            qemu_img: PathBuf::from("qemu-img"),
            uid: 65_534,
            gid: 65_534,
            address_space: 2 << 30,
            cpu: Duration::from_secs(30 * 60),
            wall: Duration::from_secs(60 * 60),
            open_files: 64,
            info_output: 256 << 10,
        }
    }
}

/// The `qemu-img` name of an accepted format's driver.
fn driver(format: crate::DiskFormat) -> &'static str {
    use crate::DiskFormat::{Aki, Ami, Ari, Iso, Qcow2, Raw, Vdi, Vhd, Vhdx, Vmdk};
    match format {
        Raw | Iso | Ami | Aki | Ari => "raw",
        Qcow2 => "qcow2",
        Vmdk => "vmdk",
        Vhd => "vpc",
        Vhdx => "vhdx",
        Vdi => "vdi",
    }
}

/// The image as `qemu-img` is told to open it: this driver, over this socket, and nothing behind it.
fn source_spec(format: crate::DiskFormat, socket: std::os::fd::RawFd) -> String {
    let server = serde_json::json!({"type": "fd", "str": socket.to_string()});
    let file = serde_json::json!({"driver": "nbd", "server": server});
    let spec = serde_json::json!({"driver": driver(format), "backing": null, "read-only": true, "file": file});
    format!("json:{spec}")
}
