//! Backups, in a pool of files that keeps them.
//!
//! ```text
//! DIR/backups/CHAIN/ID.manifest         which pieces a backup is made of: complete in itself
//! DIR/backups/CHAIN/pieces/ab/abcd...   1 MiB of content, named by its SHA-256
//! DIR/locks/backups-CHAIN
//! ```
//!
//! A chain is a full backup and the incremental ones after it: they share pieces, chains do not. So a piece that goes bad spoils one chain, no
//! tenant learns from sizes what another has, and a backup is removed without looking at the others' volumes. A manifest is written last
//! and is all that makes a backup; pieces that no manifest names are left overs, and are written again rather than trusted.

mod manifest;
mod pieces;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use unkai_crashpoint::point;
use unkai_model::volume::Backend;

use crate::driver::Lock;
use crate::error::{Error, Result};
use crate::files::{make_dir, mark, remove_dir, remove_file, sync, try_lock, write_durably};
use crate::spec::word;
use manifest::Manifest;
pub(crate) use manifest::PIECE;
pub(crate) use pieces::{Reader, Writer};

/// Another backup of the chain may take long; it is not waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// Where backups are kept. Calls block.
#[derive(Debug, Clone)]
pub struct Repository {
    dir: PathBuf,
}

/// What a backup is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Bytes that were stored anew.
    pub stored: u64,
    /// Pieces of the whole.
    pub objects: u64,
}

/// A backup that is being made.
pub(crate) struct Making {
    dir: PathBuf,
    header: manifest::Header,
    known: BTreeSet<String>,
    _lock: Lock,
}

impl Repository {
    pub fn of(backend: &Backend) -> Result<Repository> {
        match backend {
            Backend::Files { dir } => Ok(Repository { dir: dir.clone() }),
            other => Err(Error::Invalid(format!("{other:?} keeps no backups: only pools of files do"))),
        }
    }

    fn backups(&self) -> Result<PathBuf> {
        mark::require(&self.dir)?;
        Ok(self.dir.join("backups"))
    }

    /// The manifest of a backup, wherever it is.
    fn find(&self, backup: &str) -> Result<Option<PathBuf>> {
        word(backup)?;
        let dir = self.backups()?;
        let chains = match fs::read_dir(&dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(Error::io("read", &dir))?,
        };
        for chain in chains {
            let path = chain.map_err(Error::io("read", &dir))?.path().join(format!("{backup}.manifest"));
            if path.exists() {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// A backup, if it is whole.
    pub(crate) fn read(&self, backup: &str) -> Result<Reader> {
        let path = self.find(backup)?.ok_or_else(|| Error::Missing(format!("backup {backup}")))?;
        let manifest = Manifest::read(&path)?;
        Ok(Reader::new(path.with_file_name("pieces"), backup.to_owned(), manifest))
    }

    /// Begins a backup of so many bytes; or what is known of it when it is whole already.
    pub(crate) fn begin(&self, backup: &str, parent: Option<&str>, bytes: u64) -> Result<std::result::Result<Making, Kept>> {
        if let Some(path) = self.find(backup)? {
            return Manifest::read(&path).map(|manifest| Err(manifest.kept()));
        }
        let chain = match parent {
            None => backup.to_owned(),
            Some(parent) => {
                let path = self.find(parent)?.ok_or_else(|| Error::Missing(format!("backup {parent}, which this one builds on,")))?;
                Manifest::read(&path)?.header.chain
            }
        };
        let lock = self.lock(&chain)?;
        let dir = self.backups()?.join(&chain);
        make_dir(&dir)?;
        let known = needed(&dir)?;
        let header =
            manifest::Header { version: 1, backup: backup.to_owned(), chain, parent: parent.map(str::to_owned), bytes, piece: PIECE };
        Ok(Ok(Making { dir, header, known, _lock: lock }))
    }

    /// Removes a backup, and the pieces that no other of its chain needs. What is left of one that never was whole, too.
    pub fn remove(&self, backup: &str) -> Result<()> {
        let dir = match self.find(backup)? {
            Some(path) => path.parent().unwrap_or(&self.dir).to_owned(),
            None => self.backups()?.join(backup),
        };
        if !dir.exists() {
            return Ok(());
        }
        let chain = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let _lock = self.lock(&chain)?;
        point("volume: before a backup is removed");
        remove_file(&dir.join(format!("{backup}.manifest")))?;
        sync(&dir)?;
        point("volume: a backup is removed but not its pieces");
        sweep(&dir)?;
        if manifests(&dir)?.is_empty() {
            remove_dir(&dir)?;
            sync(&self.backups()?)?;
            remove_file(&self.locks().join(format!("backups-{chain}")))?;
        }
        Ok(())
    }

    fn locks(&self) -> PathBuf {
        self.dir.join("locks")
    }

    fn lock(&self, chain: &str) -> Result<Lock> {
        make_dir(&self.locks())?;
        let path = self.locks().join(format!("backups-{chain}"));
        let deadline = Instant::now() + LOCK_PATIENCE;
        loop {
            if let Some(file) = try_lock(&path, false)? {
                return Ok(Lock::holding(file));
            }
            if Instant::now() > deadline {
                return Err(Error::Busy(format!("the chain of backup {chain}")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Making {
    pub fn writer(&self) -> Writer<'_> {
        Writer::new(self.dir.join("pieces"), self.header.bytes, &self.known)
    }

    /// All pieces are there: now it is a backup.
    pub fn finish(self, done: pieces::Written) -> Result<Kept> {
        let path = self.dir.join(format!("{}.manifest", self.header.backup));
        sync_all(&self.dir)?;
        point("volume: the pieces of a backup are durable");
        let manifest = Manifest { header: self.header, pieces: done.pieces, stored: done.stored };
        write_durably(&path, manifest.render()?.as_bytes())?;
        point("volume: a backup is made");
        Ok(manifest.kept())
    }

    /// It will not be one: what was written for it goes.
    pub fn give_up(self) {
        let swept = sweep(&self.dir).and_then(|()| if manifests(&self.dir)?.is_empty() { remove_dir(&self.dir) } else { Ok(()) });
        if let Err(error) = swept {
            tracing::warn!(%error, backup = self.header.backup, "left overs of a backup that failed");
        }
    }
}

fn manifests(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).map_err(Error::io("read", dir))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()).map_err(Error::io("read", dir)));
    let paths: Vec<PathBuf> = paths.collect::<Result<_>>()?;
    Ok(paths.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "manifest")).collect())
}

/// The pieces that the backups of a chain are made of.
fn needed(dir: &Path) -> Result<BTreeSet<String>> {
    let mut needed = BTreeSet::new();
    for path in manifests(dir)? {
        needed.extend(Manifest::read(&path)?.pieces.into_values());
    }
    Ok(needed)
}

/// Removes pieces that no backup of the chain is made of.
fn sweep(dir: &Path) -> Result<()> {
    let needed = needed(dir)?;
    let pieces = dir.join("pieces");
    for group in entries(&pieces)? {
        for path in entries(&group)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !needed.contains(&name) {
                remove_file(&path)?;
            }
        }
    }
    Ok(())
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(Error::io("read", dir))?.map(|entry| entry.map(|e| e.path()).map_err(Error::io("read", dir))).collect(),
    }
}

/// Everything written to the file system so far: one call instead of one for each piece.
fn sync_all(dir: &Path) -> Result<()> {
    let file = File::open(dir).map_err(Error::io("sync", dir))?;
    // SAFETY: an open descriptor; no pointers.
    if unsafe { libc::syncfs(std::os::fd::AsRawFd::as_raw_fd(&file)) } == 0 {
        return Ok(());
    }
    Err(Error::io("sync", dir)(io::Error::last_os_error()))
}

#[cfg(test)]
mod tests;
