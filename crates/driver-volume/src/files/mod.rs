//! Pools of files: a directory of one host, or mounted at the same path on all hosts of the pool.
//!
//! ```text
//! DIR/.unkai-pool                     tells the pool from an empty mount point
//! DIR/locks/VOLUME                    locked while a host works on the volume
//! DIR/volumes/VOLUME/data.qcow2       its content; data.raw when several servers may write it, which qcow2 does not allow
//!                    snap-ID.qcow2    its content at one moment: a file of its own that nothing else needs
//!                    *.draft          being made
//!                    notes.json       newest fencing generation, newest restore
//! ```
//!
//! Copies share blocks where the file system can (reflink), else holes stay holes. QEMU locks a file that it has open, so that a server
//! which should be gone and is not keeps the next one waiting instead of both writing.

mod copy;
mod header;
mod image_lock;
pub(crate) mod mark;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use unkai_crashpoint::point;

use crate::driver::{Driver, Lock, Look};
use crate::error::{Error, Result};
use crate::image::{Format, Image};
use crate::job::Job;
use crate::spec::{Found, Notes, Part, Spot, Status};
use crate::tool::{Run, Tools};

/// Others hold a lock for moments, or for as long as a copy takes; only the former is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const FORMATS: [Format; 2] = [Format::Raw, Format::Qcow2];

pub struct Files {
    dir: PathBuf,
    tools: Tools,
}

impl Files {
    pub fn new(dir: impl Into<PathBuf>, tools: Tools) -> Files {
        Files { dir: dir.into(), tools }
    }

    /// The directory of a volume, in a pool that is there.
    fn volume(&self, volume: &str) -> Result<PathBuf> {
        mark::require(&self.dir)?;
        Ok(self.dir.join("volumes").join(volume))
    }

    fn named(&self, spot: &Spot, look: Look, format: Format) -> PathBuf {
        let draft = if look == Look::Draft { ".draft" } else { "" };
        let name = match &spot.part {
            Part::Data => format!("data.{}{draft}", format.name()),
            Part::Snapshot(id) => format!("snap-{id}.{}{draft}", format.name()),
        };
        self.dir.join("volumes").join(&spot.volume).join(name)
    }

    /// Formats are in names, which nobody but the agent writes.
    pub(crate) fn path(&self, spot: &Spot, look: Look) -> (PathBuf, Format) {
        let raw = self.named(spot, look, Format::Raw);
        if raw.exists() { (raw, Format::Raw) } else { (self.named(spot, look, Format::Qcow2), Format::Qcow2) }
    }

    /// An empty file for a draft, which programs may write.
    fn draft(&self, spot: &Spot, format: Format) -> Result<(File, PathBuf)> {
        let dir = self.volume(&spot.volume)?;
        make_dir(&dir)?;
        for old in FORMATS {
            remove_file(&self.named(spot, Look::Draft, old))?;
        }
        let path = self.named(spot, Look::Draft, format);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = options.open(&path).map_err(Error::io("create", &path))?;
        self.tools.give(&file, &path)?;
        Ok((file, path))
    }
}

impl Driver for Files {
    fn status(&self, mark: Option<&str>) -> Result<Status> {
        let mark = mark::expect(&self.dir, mark)?;
        let stat = nix::sys::statvfs::statvfs(&self.dir).map_err(|e| Error::io("look at", &self.dir)(e.into()))?;
        let unit = stat.fragment_size() as u64;
        Ok(Status { mark, total: stat.blocks() as u64 * unit, free: stat.blocks_available() as u64 * unit })
    }

    fn lock(&self, volume: &str, shared: bool) -> Result<Lock> {
        let dir = self.volume(volume)?;
        if shared && !dir.exists() {
            return Err(Error::Missing(format!("volume {volume}")));
        }
        let locks = self.dir.join("locks");
        make_dir(&locks)?;
        let path = locks.join(volume);
        let deadline = Instant::now() + LOCK_PATIENCE;
        loop {
            if let Some(file) = try_lock(&path, shared)? {
                return Ok(Lock::holding(file));
            }
            if Instant::now() > deadline {
                return Err(Error::Busy(format!("volume {volume}: somebody works on it")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn look(&self, volume: &str) -> Result<Option<Found>> {
        let dir = self.volume(volume)?;
        let entries = match fs::read_dir(&dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(Error::io("read", &dir))?,
        };
        let mut found = Found { notes: read_notes(&dir)?, ..Found::default() };
        for entry in entries {
            let name = entry.map_err(Error::io("read", &dir))?.file_name().to_string_lossy().into_owned();
            if let Some((id, _)) = name.strip_suffix(".draft").and_then(|name| name.strip_prefix("snap-")?.rsplit_once('.')) {
                found.drafts.insert(id.to_owned());
            }
            let Some((part, format)) = FORMATS.iter().find_map(|f| Some((name.strip_suffix(&format!(".{}", f.name()))?, *f))) else {
                continue;
            };
            let bytes = || length(&dir.join(&name), format);
            match part.strip_prefix("snap-") {
                Some(id) => drop(found.snapshots.insert(id.to_owned(), bytes()?)),
                None if part == "data" => found.bytes = Some(bytes()?),
                None => {}
            }
        }
        Ok(Some(found))
    }

    fn note(&self, volume: &str, notes: &Notes) -> Result<()> {
        let dir = self.volume(volume)?;
        make_dir(&dir)?;
        let path = dir.join("notes.json");
        let bytes = serde_json::to_vec(notes).map_err(|e| Error::Invalid(e.to_string()))?;
        write_durably(&path, &bytes)
    }

    fn image(&self, spot: &Spot, look: Look) -> Image {
        let (path, format) = self.path(spot, look);
        Image::file(path, format)
    }

    fn begin(&self, spot: &Spot, bytes: u64, shared: bool) -> Result<()> {
        let (file, path) = self.draft(spot, format_of(shared))?;
        if shared {
            file.set_len(bytes).map_err(Error::io("size", &path))?;
            point("volume: a draft is begun");
            return Ok(());
        }
        let mut run = Run::qemu_img(&self.tools, "create");
        let path = format!("/proc/self/fd/{}", run.hand(&file)?);
        run.args(["-q", "-f", "qcow2", "-o", "compat=1.1,lazy_refcounts=off", &path, &bytes.to_string()]);
        run.go(&Job::default())?;
        point("volume: a draft is begun");
        Ok(())
    }

    fn copy(&self, from: &Spot, to: &Spot, shared: bool, job: &Job) -> Result<bool> {
        let (source, format) = self.path(from, Look::Whole);
        if format != format_of(shared) {
            return Ok(false);
        }
        let open = File::open(&source);
        let open = open.map_err(|e| {
            if e.kind() == io::ErrorKind::NotFound { Error::Missing(from.to_string()) } else { Error::io("open", &source)(e) }
        })?;
        let (draft, path) = self.draft(to, format)?;
        copy::file(&open, &source, &draft, &path, job)?;
        point("volume: a draft is copied");
        Ok(true)
    }

    fn bytes(&self, spot: &Spot, look: Look) -> Result<u64> {
        self.volume(&spot.volume)?;
        let (path, format) = self.path(spot, look);
        if path.exists() { length(&path, format) } else { Err(Error::Missing(spot.to_string())) }
    }

    fn grow(&self, spot: &Spot, look: Look, bytes: u64) -> Result<()> {
        let (path, format) = self.path(spot, look);
        if format == Format::Raw {
            let file = OpenOptions::new().read(true).write(true).open(&path).map_err(Error::io("open", &path))?;
            let file = image_lock::unwritten(file, &path)?;
            return file.set_len(bytes).and_then(|()| file.sync_all()).map_err(Error::io("grow", &path));
        }
        let mut run = Run::qemu_img(&self.tools, "resize");
        let node = run.arg("-q").open(&self.image(spot, look), true)?;
        run.args([&format!("json:{node}"), &bytes.to_string()]);
        run.go(&Job::default())?;
        sync(&path)
    }

    fn publish(&self, spot: &Spot) -> Result<()> {
        let dir = self.volume(&spot.volume)?;
        let (draft, format) = self.path(spot, Look::Draft);
        let path = self.named(spot, Look::Whole, format);
        if !draft.exists() && self.path(spot, Look::Whole).0.exists() {
            return Ok(());
        }
        sync(&draft)?;
        point("volume: a draft is durable");
        fs::rename(&draft, &path).map_err(Error::io("rename to", &path))?;
        sync(&dir)
    }

    fn remove(&self, spot: &Spot) -> Result<()> {
        let dir = self.volume(&spot.volume)?;
        for look in [Look::Whole, Look::Draft] {
            FORMATS.iter().try_for_each(|format| remove_file(&self.named(spot, look, *format)))?;
        }
        if dir.exists() { sync(&dir) } else { Ok(()) }
    }

    /// Under a name that is no volume's first, so that nothing half removed is taken for one.
    fn remove_volume(&self, volume: &str) -> Result<()> {
        let dir = self.volume(volume)?;
        let gone = self.dir.join("volumes").join(format!(".gone-{volume}"));
        remove_dir(&gone)?;
        match fs::rename(&dir, &gone) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            renamed => renamed.map_err(Error::io("remove", &dir))?,
        }
        point("volume: a volume has no name any more");
        remove_dir(&gone)?;
        sync(&self.dir.join("volumes"))?;
        remove_file(&self.dir.join("locks").join(volume))
    }

    fn at_rest(&self, volume: &str) -> Result<Lock> {
        let (path, _) = self.path(&Spot::data(volume), Look::Whole);
        match File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Lock::none()),
            Err(e) => Err(Error::io("open", &path)(e)),
            Ok(file) => image_lock::unwritten(file, &path).map(Lock::holding),
        }
    }
}

fn format_of(shared: bool) -> Format {
    if shared { Format::Raw } else { Format::Qcow2 }
}

/// Bytes of the disk in a file.
fn length(path: &Path, format: Format) -> Result<u64> {
    match format {
        Format::Qcow2 => header::bytes(path),
        Format::Raw => Ok(fs::metadata(path).map_err(Error::io("look at", path))?.len()),
    }
}

/// None: somebody else has it, or it was removed meanwhile.
pub(crate) fn try_lock(path: &Path, shared: bool) -> Result<Option<Flock<File>>> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let file = options.open(path).map_err(Error::io("open", path))?;
    let how = if shared { FlockArg::LockSharedNonblock } else { FlockArg::LockExclusiveNonblock };
    match Flock::lock(file, how) {
        Ok(locked) => {
            let ours = locked.metadata().map_err(Error::io("look at", path))?;
            let same = fs::metadata(path).is_ok_and(|named| (named.dev(), named.ino()) == (ours.dev(), ours.ino()));
            Ok(same.then_some(locked))
        }
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, error)) => Err(Error::io("lock", path)(error.into())),
    }
}

pub(crate) fn read_notes(dir: &Path) -> Result<Notes> {
    let path = dir.join("notes.json");
    match fs::read(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Notes::default()),
        Err(e) => Err(Error::io("read", &path)(e)),
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| Error::Damaged(format!("`{}`", path.display()), e.to_string())),
    }
}

pub(crate) fn make_dir(dir: &Path) -> Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(Error::io("create", dir))
}

pub(crate) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(e)),
        _ => Ok(()),
    }
}

pub(crate) fn remove_dir(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(e)),
        _ => Ok(()),
    }
}

/// A new file in place of any that an interrupted attempt left.
pub fn create_file(path: &Path) -> Result<File> {
    remove_file(path)?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path).map_err(Error::io("create", path))
}

/// What is in the file, or the names in the directory, survive a power cut.
pub(crate) fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).map_err(Error::io("sync", path))
}

/// A crash leaves the old content or the new one.
pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> Result<()> {
    let new = path.with_extension("new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let mut file = options.open(&new).map_err(Error::io("create", &new))?;
    let written = io::Write::write_all(&mut file, bytes).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&new, path));
    if let Err(error) = written {
        let _ = fs::remove_file(&new);
        return Err(Error::io("write", path)(error));
    }
    sync(path.parent().unwrap_or(Path::new("/")))
}

#[cfg(test)]
mod tests;
