//! Images on this host: fetched once over the link, verified, converted when QEMU cannot use them as they are.
//!
//! A file has its name only when it is whole and verified. Files that no server's disk stands on, and
//! that no aggregate wants here, are removed after a while.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha2::{Digest, Sha512};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use unkai_driver_qemu::Format;
use unkai_imagefile::{DiskFormat, Policy, cage};
use unkai_link::client::Link;
use unkai_link::item::ImageRef;
use unkai_model::Error;

use crate::full;

/// How long an unused file is kept.
const UNUSED: Duration = Duration::from_secs(3600);

/// A file to put overlays on.
#[derive(Debug, Clone, PartialEq)]
pub struct Base {
    pub path: PathBuf,
    pub format: Format,
    /// Bytes of the disk it holds.
    pub virtual_size: u64,
}

#[derive(Clone)]
pub struct Images {
    dir: PathBuf,
    /// One fetch of an image at a time.
    busy: Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>,
    /// One image ahead of need at a time: servers that start have the rest of the wire.
    ahead: Arc<tokio::sync::Mutex<()>>,
}

impl Images {
    pub fn open(dir: PathBuf) -> Result<Self, Error> {
        std::fs::create_dir_all(&dir).map_err(|e| Error::caused(format!("creating `{}`", dir.display()), e))?;
        let images = Images { dir, busy: Arc::default(), ahead: Arc::default() };
        images.sweep_partial();
        Ok(images)
    }

    /// The image as a base for overlays; from the cache when it is there.
    pub async fn base(&self, link: &Link, image: &ImageRef) -> Result<Base, Error> {
        let file = self.fetch(link, image).await?;
        let declared = image.format.parse::<DiskFormat>().map_err(|e| Error::invalid(e.to_string()))?;
        let what = format!("image {}", image.id);
        let usable = tokio::task::spawn_blocking(move || usable(&file, declared)).await.map_err(|e| Error::caused(what.clone(), e))?;
        usable.map_err(|e| Error::caused(what, e))?.finish().await
    }

    /// Has the image at hand, as [`Images::base`] would need it.
    pub async fn prefetch(&self, link: &Link, image: &ImageRef) -> Result<(), Error> {
        let _turn = self.ahead.lock().await;
        self.base(link, image).await.map(drop)
    }

    /// Where the bytes of an image are, or will be.
    pub fn path(&self, image: &ImageRef) -> PathBuf {
        self.dir.join(format!("{}-{}", image.id, image.sha512.get(..16).unwrap_or("none")))
    }

    /// The bytes of the image as they are, for kernels and ramdisks.
    pub async fn fetch(&self, link: &Link, image: &ImageRef) -> Result<PathBuf, Error> {
        let path = self.path(image);
        let lock = self.lock(image.id.as_str());
        let _held = lock.lock().await;
        if !path.exists() {
            self.download(link, image, &path).await?;
        }
        Ok(path)
    }

    fn lock(&self, id: &str) -> Arc<tokio::sync::Mutex<()>> {
        self.busy.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).entry(id.to_owned()).or_default().clone()
    }

    async fn download(&self, link: &Link, image: &ImageRef, path: &Path) -> Result<(), Error> {
        full::require_room(&self.dir, image.size).map_err(|e| Error::caused(format!("fetching image {}", image.id), e))?;
        let partial = path.with_extension("part");
        let fetched = self.fetch_into(link, image, &partial, path).await;
        if fetched.is_err() {
            let _ = tokio::fs::remove_file(&partial).await;
        }
        fetched
    }

    async fn fetch_into(&self, link: &Link, image: &ImageRef, partial: &Path, path: &Path) -> Result<(), Error> {
        let context = || format!("fetching image {} to `{}`", image.id, partial.display());
        let failed = |e: std::io::Error| Error::caused(context(), e);
        let (mut bytes, _) = link.get_image(&image.id).await?;
        let mut file = tokio::fs::File::create(partial).await.map_err(failed)?;
        let (mut digest, mut buffer, mut length) = (Sha512::new(), vec![0; 256 << 10], 0u64);
        loop {
            let n = bytes.read(&mut buffer).await.map_err(failed)?;
            if n == 0 {
                break;
            }
            digest.update(&buffer[..n]);
            length += n as u64;
            if length > image.size {
                break;
            }
            file.write_all(&buffer[..n]).await.map_err(failed)?;
        }
        file.flush().await.map_err(failed)?;
        file.sync_all().await.map_err(failed)?;
        let found = hex::encode(digest.finalize());
        if length != image.size || found != image.sha512 {
            return Err(Error::internal(format!("{}: {length} bytes with the wrong digest", context())));
        }
        tokio::fs::rename(partial, path).await.map_err(failed)
    }

    fn sweep_partial(&self) {
        for entry in std::fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "part") {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        let _ = cage::sweep_partial(&self.dir, Duration::ZERO);
    }

    /// Removes files that are old and not in `used`.
    pub fn sweep(&self, used: &[PathBuf]) {
        for entry in std::fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let age = entry.metadata().and_then(|m| m.accessed().or_else(|_| m.modified())).ok().and_then(|at| at.elapsed().ok());
            let name = entry.file_name().to_string_lossy().into_owned();
            let original = name.strip_suffix(".qcow2").unwrap_or(&name);
            let needed = used.iter().any(|used| used.file_name().is_some_and(|used| used.to_string_lossy().starts_with(original)));
            if !needed && age.is_some_and(|age| age > UNUSED) {
                tracing::info!(path = %path.display(), "removing an unused image");
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

/// What a fetched file turned out to be.
enum Usable {
    AsIs(Base),
    Convert { image: unkai_imagefile::Accepted, file: std::fs::File, output: PathBuf },
}

/// Looks into the bytes again: this host trusts nobody's word about a file that QEMU will open.
fn usable(path: &Path, declared: DiskFormat) -> Result<Usable, Box<dyn std::error::Error + Send + Sync>> {
    let converted = path.with_extension("qcow2");
    if converted.exists() {
        let report = unkai_imagefile::inspect_file(&converted, &Policy::default())?;
        let virtual_size = unkai_imagefile::check(DiskFormat::Qcow2, &report)?.virtual_size();
        return Ok(Usable::AsIs(Base { path: converted, format: Format::Qcow2, virtual_size }));
    }
    let report = unkai_imagefile::inspect_file(path, &Policy::default())?;
    let accepted = unkai_imagefile::check(declared, &report)?;
    let as_is = |format| Base { path: path.to_path_buf(), format, virtual_size: accepted.virtual_size() };
    Ok(match declared {
        DiskFormat::Qcow2 => Usable::AsIs(as_is(Format::Qcow2)),
        DiskFormat::Raw | DiskFormat::Iso | DiskFormat::Ami | DiskFormat::Aki | DiskFormat::Ari => Usable::AsIs(as_is(Format::Raw)),
        _ => Usable::Convert { image: accepted, file: std::fs::File::open(path)?, output: converted },
    })
}

impl Usable {
    async fn finish(self) -> Result<Base, Error> {
        match self {
            Usable::AsIs(base) => Ok(base),
            Usable::Convert { image, file, output } => {
                let conversion = cage::Conversion { image: &image, source: file, target: cage::Target::Qcow2, output: &output };
                let done = cage::Cage::default().convert(conversion, &mut |_| {}).await;
                let done = done.map_err(|e| Error::caused(format!("converting to `{}`", output.display()), e))?;
                Ok(Base { path: output, format: Format::Qcow2, virtual_size: done.virtual_size })
            }
        }
    }
}
