//! The log of a guest's serial console. QEMU appends to the file whether anybody listens or not, so it survives agents; a guest may write
//! without end, so the agent keeps only the newest part on disk.

use crate::error::{Error, Result};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// The last `lines` lines (all when none), at most `limit` bytes. A log that is not there is empty.
pub fn tail(path: &Path, lines: Option<usize>, limit: u64) -> Result<Vec<u8>> {
    let file = match open(path, false) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io("open console log", path)(e)),
    };
    let size = file.metadata().map_err(Error::io("read console log", path))?.len();
    let start = size.saturating_sub(limit);
    let mut bytes = vec![0; (size - start) as usize];
    let mut got = 0;
    while got < bytes.len() {
        match file.read_at(&mut bytes[got..], start + got as u64).map_err(Error::io("read console log", path))? {
            0 => break,
            n => got += n,
        }
    }
    bytes.truncate(got);
    // the part that was given back to the file system reads as zeroes
    let first = bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len());
    Ok(last_lines(&bytes[first..], lines).to_vec())
}

/// Without the end of the last one: callers count the pieces between line ends.
fn last_lines(bytes: &[u8], lines: Option<usize>) -> &[u8] {
    let Some(lines) = lines else { return bytes };
    if lines == 0 {
        return &[];
    }
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let mut ends = bytes.iter().enumerate().rev().filter(|(_, b)| **b == b'\n').map(|(i, _)| i);
    match ends.nth(lines - 1) {
        Some(at) => &bytes[at + 1..],
        None => bytes,
    }
}

/// Gives all but the newest `keep` bytes back to the file system. Nothing moves, so what QEMU writes meanwhile cannot be lost; on
/// file systems without holes the file is emptied instead, when it is twice too long.
pub fn trim(path: &Path, keep: u64) -> io::Result<()> {
    let file = open(path, true)?;
    let size = file.metadata()?.len();
    let excess = size.saturating_sub(keep) / 4096 * 4096;
    if excess == 0 {
        return Ok(());
    }
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    // SAFETY: a valid descriptor and plain numbers.
    if unsafe { libc::fallocate(file.as_raw_fd(), mode, 0, excess as libc::off_t) } == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP | libc::ENOSYS) if size > 2 * keep => file.set_len(0),
        Some(libc::EOPNOTSUPP | libc::ENOSYS) => Ok(()),
        _ => Err(error),
    }
}

fn open(path: &Path, write: bool) -> io::Result<File> {
    OpenOptions::new().read(true).write(write).custom_flags(libc::O_NOFOLLOW).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn lines_from_the_end() {
        let log = b"one\r\ntwo\r\n\r\nfour";
        let table: [(Option<usize>, &[u8]); 6] =
            [(None, log), (Some(0), b""), (Some(1), b"four"), (Some(2), b"\r\nfour"), (Some(3), b"two\r\n\r\nfour"), (Some(99), log)];
        for (lines, want) in table {
            assert_eq!(last_lines(log, lines), want, "{lines:?}");
        }
        assert_eq!(last_lines(b"a\nb\n", Some(1)), b"b");
        assert_eq!(last_lines(b"a\nb\n", None), b"a\nb\n");
    }

    #[test]
    fn a_flood_is_bounded_and_the_newest_kept() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("log");
        assert!(tail(&path, None, 100).unwrap().is_empty());
        let mut file = OpenOptions::new().append(true).create(true).open(&path).unwrap();
        for i in 0..200_000 {
            writeln!(file, "line {i}").unwrap();
        }
        file.sync_all().unwrap();
        trim(&path, 64 * 1024).unwrap();
        writeln!(file, "after").unwrap();
        file.sync_all().unwrap();
        let metadata = path.metadata().unwrap();
        assert!(metadata.blocks() * 512 <= 96 * 1024 || metadata.len() < 128 * 1024, "{} blocks", metadata.blocks());
        assert!(tail(&path, Some(2), 64 * 1024).unwrap().ends_with(b"after"));
        assert!(!tail(&path, None, 1 << 30).unwrap().contains(&0));
    }
}
