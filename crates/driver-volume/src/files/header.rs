//! The header of a qcow2 file: as much as says how large the disk is, and that it refers to no other file.
//!
//! A server's QEMU has the file open for writing. Were it taken over, it could name any file in here, for the next program to read.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::error::{Error, Result};

const MAGIC: &[u8] = b"QFI\xfb";
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;
/// Dirty, corrupt, compression type, extended L2 entries.
const KNOWN: u64 = 1 | CORRUPT | 1 << 3 | 1 << 4;

/// Bytes of the disk in it.
pub fn bytes(path: &Path) -> Result<u64> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let mut header = [0; 104];
    let damaged = |what: &str| Err(Error::Damaged(format!("`{}`", path.display()), what.to_owned()));
    match file.read_exact_at(&mut header, 0) {
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return damaged("it ends within its header"),
        other => other.map_err(Error::io("read", path))?,
    }
    let word = |at: usize| u64::from_be_bytes(std::array::from_fn(|i| header[at + i]));
    let features = word(72);
    match () {
        () if &header[..4] != MAGIC || header[4..8] != 3u32.to_be_bytes() => damaged("it is no qcow2 file of version 3"),
        () if word(8) != 0 => damaged("it names a backing file"),
        () if features & EXTERNAL_DATA != 0 => damaged("it names an external data file"),
        () if features & CORRUPT != 0 => damaged("QEMU has marked it as corrupt"),
        () if features & !KNOWN != 0 => damaged("it has features that are not known"),
        () => Ok(word(24)),
    }
}
