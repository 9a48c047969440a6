//! The output file: made beside its final name, handed to the cage open, then made durable and renamed.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use super::error::CageError;

const SUFFIX: &str = ".part";
static NEXT: AtomicU64 = AtomicU64::new(0);

/// An unfinished output. Dropping it removes the file.
#[derive(Debug)]
pub(super) struct Output {
    file: File,
    temporary: PathBuf,
    wanted: PathBuf,
    published: bool,
}

impl Output {
    /// Makes the file, owned by the caged user so that only it and we can open it.
    pub fn create(wanted: &Path, owner: Option<(u32, u32)>) -> Result<Self, CageError> {
        let temporary = temporary_name(wanted);
        let failed = |what| {
            let path = temporary.clone();
            move |source| CageError::Output { what, path, source }
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = options.open(&temporary).map_err(failed("creating"))?;
        let output = Self { file, temporary: temporary.clone(), wanted: wanted.to_owned(), published: false };
        if let Some((uid, gid)) = owner {
            fchown(&output.file, Some(uid), Some(gid)).map_err(failed("handing over"))?;
        }
        Ok(output)
    }

    pub fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    /// Takes the file back from the caged user, makes it durable, and gives it its name. Blocks.
    pub fn publish(mut self, owned: bool) -> Result<(), CageError> {
        let result = self.try_publish(owned);
        self.published = result.is_ok();
        result.map_err(|source| CageError::Output { what: "publishing", path: self.wanted.clone(), source })
    }

    fn try_publish(&self, owned: bool) -> io::Result<()> {
        if owned {
            // SAFETY: neither call can fail or touches memory.
            let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
            fchown(&self.file, Some(uid), Some(gid))?;
        }
        self.file.set_permissions(Permissions::from_mode(0o600))?;
        self.file.sync_all()?;
        fs::rename(&self.temporary, &self.wanted)?;
        File::open(directory(&self.wanted))?.sync_all()
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if !self.published {
            // Nothing more can be done about a failure here; `sweep_partial` comes back to it.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn temporary_name(wanted: &Path) -> PathBuf {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut name = std::ffi::OsString::from(".");
    name.push(wanted.file_name().unwrap_or_default());
    name.push(format!(".{}-{number}{SUFFIX}", std::process::id()));
    directory(wanted).join(name)
}

/// Removes what unfinished conversions of a process that died left in `directory`: hidden `*.part` files that were not
/// written to for `age`. Returns how many.
pub fn sweep_partial(directory: &Path, age: Duration) -> io::Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let metadata = entry.metadata()?;
        let old = metadata.modified()?.checked_add(age).is_some_and(|until| until <= SystemTime::now());
        if metadata.is_file() && old && name.starts_with('.') && name.ends_with(SUFFIX) {
            fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}
