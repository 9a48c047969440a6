//! The directory of image files.
//!
//! `name` is a complete, durable file; `name.part` is one that is being written. Names are `<image>.<attempt>`, so no two writers ever
//! share one.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use unkai_imagefile::DiskFormat;

use super::error::BytesError;
use super::upload::Upload;

/// What an upload may take.
#[derive(Debug, Clone)]
pub struct FileLimits {
    /// The most bytes of one image.
    pub max_size: u64,
    /// Free bytes that uploads leave on the disk: the store and the logs live there too.
    pub reserve: u64,
    /// The largest disk an image may describe.
    pub max_virtual_size: u64,
}

impl Default for FileLimits {
    fn default() -> Self {
        FileLimits { max_size: 1 << 40, reserve: 256 << 20, max_virtual_size: 16 << 40 }
    }
}

/// A directory of image files. Knows nothing of documents.
#[derive(Debug, Clone)]
pub struct ImageFiles {
    dir: PathBuf,
    limits: FileLimits,
}

const PART: &str = "part";

impl ImageFiles {
    pub fn new(dir: PathBuf, limits: FileLimits) -> Self {
        ImageFiles { dir, limits }
    }

    pub fn limits(&self) -> &FileLimits {
        &self.limits
    }

    /// Starts a new file. `format`: what the bytes are declared to be; none is not looked into.
    pub fn begin_upload(&self, name: &str, format: Option<DiskFormat>) -> Result<Upload, BytesError> {
        check_name(name)?;
        fs::create_dir_all(&self.dir).map_err(BytesError::io(format!("creating {}", self.dir.display())))?;
        Upload::begin(self.clone(), name, format)
    }

    /// A complete file and its length.
    pub fn open(&self, name: &str) -> Result<(fs::File, u64), BytesError> {
        check_name(name)?;
        let path = self.path(name);
        let file = fs::File::open(&path).map_err(BytesError::io(format!("opening {}", path.display())))?;
        let length = file.metadata().map_err(BytesError::io(format!("reading the length of {}", path.display())))?.len();
        Ok((file, length))
    }

    /// Removes a file; one that is not there is fine. Readers that have it open keep reading.
    pub fn remove(&self, name: &str) {
        if check_name(name).is_ok() {
            remove(&self.path(name));
        }
    }

    /// Removes everything but the files in `keep`: leftovers of uploads that a crash cut off. Only while nobody uploads.
    pub fn sweep(&self, keep: &HashSet<String>) -> io::Result<usize> {
        let leftovers: Vec<_> = self.entries()?.into_iter().filter(|name| !name.to_str().is_some_and(|name| keep.contains(name))).collect();
        leftovers.iter().for_each(|name| remove(&self.dir.join(name)));
        Ok(leftovers.len())
    }

    /// The names of all files, complete or not.
    pub fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.entries()?.into_iter().filter_map(|name| name.into_string().ok()).collect())
    }

    fn entries(&self) -> io::Result<Vec<OsString>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_type().is_ok_and(|kind| kind.is_file()) {
                names.push(entry.file_name());
            }
        }
        Ok(names)
    }

    /// Free bytes beyond the reserve, or a refusal when there are none.
    pub fn require_space(&self, wanted: u64) -> Result<(), BytesError> {
        let stat = nix::sys::statvfs::statvfs(&self.dir)
            .map_err(|e| BytesError::io(format!("asking for the free space of {}", self.dir.display()))(e.into()))?;
        let free = stat.blocks_available() as u64 * stat.fragment_size() as u64;
        match free.saturating_sub(self.limits.reserve) {
            spare if spare >= wanted && spare > 0 => Ok(()),
            _ => {
                tracing::error!(dir = %self.dir.display(), free, reserve = self.limits.reserve, wanted, "no room for image data");
                Err(BytesError::Full)
            }
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(super) fn part_path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.{PART}"))
    }

    /// Makes the names in the directory durable.
    pub(super) fn sync_dir(&self) -> io::Result<()> {
        fs::File::open(&self.dir)?.sync_all()
    }
}

pub(super) fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), error = %e, "could not remove an image file")
        }
        _ => {}
    }
}

/// Names come from ids that callers may choose: nothing but a plain file name may leave the directory.
fn check_name(name: &str) -> Result<(), BytesError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if name.is_empty() || name.len() > 200 || name.starts_with('.') || !name.chars().all(plain) {
        return Err(BytesError::Io {
            context: format!("`{name}` is no file name for an image"),
            source: io::ErrorKind::InvalidInput.into(),
        });
    }
    Ok(())
}
