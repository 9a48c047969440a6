//! The mark of a pool: a name of its own in a file. A mount point without its file system has none, so nothing is made there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{make_dir, write_durably};
use crate::error::{Error, Result};

fn path(dir: &Path) -> PathBuf {
    dir.join(".unkai-pool")
}

fn read(dir: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path(dir)) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::Pool(format!("`{}` cannot be read: {e}", dir.display()))),
    }
}

fn not_mounted(dir: &Path) -> Error {
    Error::Pool(format!("`{}` is not mounted: it has no mark of a pool", dir.display()))
}

/// There is a pool.
pub fn require(dir: &Path) -> Result<()> {
    read(dir)?.map(drop).ok_or_else(|| not_mounted(dir))
}

/// The mark that is there and as it was expected. Without an expectation an empty directory becomes a pool.
pub fn expect(dir: &Path, expected: Option<&str>) -> Result<String> {
    match (read(dir)?, expected) {
        (Some(found), Some(expected)) if found != expected => {
            Err(Error::Pool(format!("`{}` is another pool than the one known by this name", dir.display())))
        }
        (Some(found), _) => Ok(found),
        (None, Some(_)) => Err(not_mounted(dir)),
        (None, None) => make(dir),
    }
}

fn make(dir: &Path) -> Result<String> {
    make_dir(dir)?;
    let mut entries = fs::read_dir(dir).map_err(Error::io("read", dir))?.flatten();
    if let Some(stranger) = entries.find(|entry| entry.file_name() != "lost+found" && entry.file_name() != ".unkai-pool.new") {
        let name = stranger.file_name();
        return Err(Error::Pool(format!("`{}` is no pool, and not empty: there is {name:?}", dir.display())));
    }
    const RANDOM: &str = "/proc/sys/kernel/random/uuid";
    let mark = fs::read_to_string(RANDOM).map_err(Error::io("read", RANDOM))?.trim().to_owned();
    write_durably(&path(dir), format!("{mark}\n").as_bytes())?;
    Ok(mark)
}
