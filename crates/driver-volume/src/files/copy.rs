//! A file copied: by sharing blocks where the file system can, else block by block with holes left out.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

use crate::error::{Error, Result};
use crate::job::Job;

/// How much is copied between two looks at whether it is still wanted.
const PIECE: u64 = 8 << 20;

pub fn file(from: &File, from_path: &Path, to: &File, to_path: &Path, job: &Job) -> Result<()> {
    let length = from.metadata().map_err(Error::io("look at", from_path))?.len();
    // SAFETY: two open descriptors; the call takes a number.
    if unsafe { libc::ioctl(to.as_raw_fd(), libc::FICLONE, from.as_raw_fd()) } == 0 {
        job.reached(1, 1);
        return Ok(());
    }
    to.set_len(length).map_err(Error::io("size", to_path))?;
    let mut at = 0;
    while let Some((start, end)) = data(from, at, length).map_err(|e| Error::io("read", from_path)(e.into()))? {
        let mut here = start;
        while here < end {
            job.go_on()?;
            here += piece(from, to, here, (end - here).min(PIECE)).map_err(Error::io("write", to_path))?;
            job.reached(here, length);
        }
        at = end;
    }
    Ok(())
}

/// The next stretch of data at or after `at`.
fn data(file: &File, at: u64, length: u64) -> nix::Result<Option<(u64, u64)>> {
    if at >= length {
        return Ok(None);
    }
    let start = match lseek(file, at as i64, Whence::SeekData) {
        Err(Errno::ENXIO) => return Ok(None),
        // A file system that knows no holes.
        Err(Errno::EINVAL | Errno::EOPNOTSUPP) => return Ok(Some((at, length))),
        other => other? as u64,
    };
    Ok(Some((start, lseek(file, start as i64, Whence::SeekHole)? as u64)))
}

fn piece(from: &File, to: &File, at: u64, length: u64) -> std::io::Result<u64> {
    use std::os::unix::fs::FileExt;
    let (mut source, mut target) = (at as i64, at as i64);
    match nix::fcntl::copy_file_range(from, Some(&mut source), to, Some(&mut target), length as usize) {
        Ok(0) => Err(std::io::ErrorKind::UnexpectedEof.into()),
        Ok(n) => Ok(n as u64),
        Err(Errno::EXDEV | Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP) => {
            let mut buffer = vec![0; length.min(1 << 20) as usize];
            let n = from.read_at(&mut buffer, at)?;
            if n == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            to.write_all_at(&buffer[..n], at)?;
            Ok(n as u64)
        }
        Err(error) => Err(error.into()),
    }
}
