//! QEMU's own locks of image files, from outside.
//!
//! Who has an image open holds a read lock on one byte for each permission it has, and on another byte for each permission that it lets
//! nobody else have. A lock lives as long as the open file, so it ends with the process that has it.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::fcntl::{FcntlArg, fcntl};

use crate::error::{Error, Result};

const HAS: i64 = 100;
const REFUSES: i64 = 200;
/// Numbers of the permissions.
const READ: i64 = 0;
const WRITE: i64 = 1;
const RESIZE: i64 = 3;

/// Holds an image as one who reads it and lets nobody write. [`Error::Busy`] when somebody can.
pub fn unwritten(file: File, path: &Path) -> Result<File> {
    for byte in [HAS + READ, REFUSES + WRITE, REFUSES + RESIZE] {
        let taken = fcntl(&file, FcntlArg::F_OFD_SETLK(&lock(libc::F_RDLCK, byte)));
        taken.map_err(|e| Error::io("lock", path)(e.into()))?;
    }
    for byte in [HAS + WRITE, HAS + RESIZE, REFUSES + READ] {
        let mut other = lock(libc::F_WRLCK, byte);
        // SAFETY: an open descriptor and a structure of ours. (nix passes it by a shared reference, and the kernel writes into it.)
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut other) } == -1 {
            return Err(Error::io("look at the locks of", path)(std::io::Error::last_os_error()));
        }
        if other.l_type != libc::F_UNLCK as libc::c_short {
            return Err(Error::Busy(format!("`{}`: a server has it open", path.display())));
        }
    }
    Ok(file)
}

fn lock(kind: libc::c_int, byte: i64) -> libc::flock {
    libc::flock { l_type: kind as libc::c_short, l_whence: libc::SEEK_SET as libc::c_short, l_start: byte, l_len: 1, l_pid: 0 }
}
