//! One file being written. Independent of HTTP: whoever has bytes feeds it.

use bytes::Bytes;
use unkai_imagefile::DiskFormat;
use unkai_model::image::Content;

use super::error::BytesError;
use super::files::ImageFiles;
use super::lane::Lane;
use super::sinks::{FileSink, Md5Sink};

/// How much is collected before the workers take it. At most two batches of an upload are in memory.
const BATCH: usize = 1 << 20;

/// An upload in progress. Dropped without [`Upload::finish`] it leaves nothing.
pub struct Upload {
    files: ImageFiles,
    name: String,
    batch: Vec<Bytes>,
    batched: usize,
    received: u64,
    file: Lane<FileSink>,
    md5: Lane<Md5Sink>,
}

impl Upload {
    pub(super) fn begin(files: ImageFiles, name: &str, format: Option<DiskFormat>) -> Result<Self, BytesError> {
        let file = Lane::new(FileSink::create(files.clone(), name, format)?);
        let md5 = Lane::new(Md5Sink::default());
        Ok(Upload { files, name: name.into(), batch: Vec::new(), batched: 0, received: 0, file, md5 })
    }

    /// How many bytes it was fed.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Refuses at once what is announced and cannot fit.
    pub fn announce(&self, length: u64) -> Result<(), BytesError> {
        self.check_size(length)?;
        self.files.require_space(length)
    }

    /// Takes the next bytes. Waits while the workers are a batch behind.
    pub async fn write(&mut self, chunk: Bytes) -> Result<(), BytesError> {
        self.received += chunk.len() as u64;
        self.check_size(self.received)?;
        self.batched += chunk.len();
        self.batch.push(chunk);
        if self.batched >= BATCH { self.flush().await } else { Ok(()) }
    }

    /// The file, complete, durable and judged.
    pub async fn finish(mut self) -> Result<Placed, BytesError> {
        self.flush().await?;
        let md5 = self.md5.end().await?.finish();
        let file = self.file.end().await?;
        let finished = tokio::task::spawn_blocking(move || place(self.files, self.name, file, md5));
        finished.await.map_err(|e| BytesError::Io { context: "finishing an image file".into(), source: e.into() })?
    }

    async fn flush(&mut self) -> Result<(), BytesError> {
        if self.batched > 0 {
            let batch = std::sync::Arc::new(std::mem::take(&mut self.batch));
            self.batched = 0;
            self.file.push(batch.clone()).await?;
            self.md5.push(batch).await?;
        }
        Ok(())
    }

    fn check_size(&self, size: u64) -> Result<(), BytesError> {
        let limit = self.files.limits().max_size;
        if size > limit { Err(BytesError::TooLarge { limit }) } else { Ok(()) }
    }
}

fn place(files: ImageFiles, name: String, file: FileSink, md5: String) -> Result<Placed, BytesError> {
    let written = file.finish(&name).inspect_err(|_| files.remove(&name))?;
    let content = Content { file: name, size: written.size, virtual_size: written.virtual_size, md5, sha512: written.sha512 };
    Ok(Placed { files, content, kept: false })
}

/// A complete file that no document names yet. Dropped without [`Placed::keep`] it is removed.
#[derive(Debug)]
pub struct Placed {
    files: ImageFiles,
    content: Content,
    kept: bool,
}

impl Placed {
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// A document names the file now, or may.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        if !self.kept {
            self.files.remove(&self.content.file);
        }
    }
}
