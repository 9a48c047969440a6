//! What is done to the bytes of an image in the one pass in which they arrive: written, hashed twice and looked into.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use aws_lc_rs::digest::{self, SHA512};
use bytes::Bytes;
use md5::{Digest, Md5};
use unkai_imagefile::{DiskFormat, Inspector, Policy, check};

use super::error::BytesError;
use super::files::{ImageFiles, remove};
use super::lane::Sink;

/// Makes `checksum`. A lane of its own: it is half of the work.
#[derive(Default)]
pub struct Md5Sink(Md5);

impl Sink for Md5Sink {
    fn take(&mut self, batch: &[Bytes]) -> Result<(), BytesError> {
        batch.iter().for_each(|chunk| self.0.update(chunk));
        Ok(())
    }
}

impl Md5Sink {
    pub fn finish(self) -> String {
        hex::encode(self.0.finalize())
    }
}

/// Writes the file, makes `os_hash_value` and looks into the content.
pub struct FileSink {
    files: ImageFiles,
    file: File,
    part: Part,
    sha512: digest::Context,
    judge: Option<(DiskFormat, Inspector)>,
    written: u64,
    checked: u64,
}

/// A file that is removed unless it was renamed.
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// What the file sink knows at the end.
pub struct Written {
    pub size: u64,
    pub sha512: String,
    pub virtual_size: Option<u64>,
}

/// How many bytes go by between two looks at the free space.
const SPACE_CHECK: u64 = 64 << 20;

impl FileSink {
    pub fn create(files: ImageFiles, name: &str, format: Option<DiskFormat>) -> Result<Self, BytesError> {
        files.require_space(1)?;
        let path = files.part_path(name);
        let file = File::create(&path).map_err(BytesError::io(format!("creating {}", path.display())))?;
        let policy = Policy { max_virtual_size: files.limits().max_virtual_size, ..Policy::default() };
        let judge = format.map(|format| (format, Inspector::new(policy)));
        Ok(FileSink { files, file, part: Part(path), sha512: digest::Context::new(&SHA512), judge, written: 0, checked: 0 })
    }

    fn require_space(&mut self, coming: u64) -> Result<(), BytesError> {
        if self.written + coming - self.checked >= SPACE_CHECK {
            self.files.require_space(coming)?;
            self.checked = self.written + coming;
        }
        Ok(())
    }

    /// Judges the content, then makes the file durable under its name. Blocks.
    pub fn finish(mut self, name: &str) -> Result<Written, BytesError> {
        let virtual_size = match self.judge.take() {
            None => None,
            Some((format, inspector)) => {
                let report = inspector.finish(self.written);
                let accepted = check(format, &report).map_err(|refusal| BytesError::Refused(refusal.to_string()))?;
                Some(accepted.virtual_size())
            }
        };
        let path = self.files.path(name);
        let context = || format!("making {} durable", path.display());
        self.file.sync_all().map_err(BytesError::io(context()))?;
        std::fs::rename(&self.part.0, &path).map_err(BytesError::io(context()))?;
        self.files.sync_dir().map_err(BytesError::io(context()))?;
        let sha512 = hex::encode(self.sha512.finish());
        Ok(Written { size: self.written, sha512, virtual_size })
    }
}

impl Sink for FileSink {
    fn take(&mut self, batch: &[Bytes]) -> Result<(), BytesError> {
        let coming: usize = batch.iter().map(Bytes::len).sum();
        self.require_space(coming as u64)?;
        for chunk in batch {
            self.file.write_all(chunk).map_err(BytesError::io("writing image data"))?;
            self.sha512.update(chunk);
            if let Some((_, inspector)) = &mut self.judge {
                inspector.push(chunk);
            }
        }
        self.written += coming as u64;
        Ok(())
    }
}
