//! The mark of a pool: a name of its own in a file. A mount point without its file system has none, so nothing is made there.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{make_dir, sync, write_durably};
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

/// Hosts find a new pool at the same time; the first whose mark has the name marks it, and the others take that.
fn make(dir: &Path) -> Result<String> {
    make_dir(dir)?;
    let ours = |name: &OsStr| name == "lost+found" || name.as_encoded_bytes().starts_with(b".unkai-pool");
    let mut entries = fs::read_dir(dir).map_err(Error::io("read", dir))?.flatten();
    if let Some(stranger) = entries.find(|entry| !ours(&entry.file_name())) {
        if let Some(mark) = read(dir)? {
            return Ok(mark);
        }
        let name = stranger.file_name();
        return Err(Error::Pool(format!("`{}` is no pool, and not empty: there is {name:?}", dir.display())));
    }
    const RANDOM: &str = "/proc/sys/kernel/random/uuid";
    let mark = fs::read_to_string(RANDOM).map_err(Error::io("read", RANDOM))?.trim().to_owned();
    let draft = dir.join(format!(".unkai-pool-{mark}"));
    write_durably(&draft, format!("{mark}\n").as_bytes())?;
    let linked = fs::hard_link(&draft, path(dir));
    let _ = fs::remove_file(&draft);
    match linked {
        Ok(()) => sync(dir).map(|()| mark),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => read(dir)?.ok_or_else(|| not_mounted(dir)),
        Err(e) => Err(Error::io("write", path(dir))(e)),
    }
}
