//! Disks of a server that does not run, as files that go to another host and come from one.

use super::{Qemu, blocking};
use crate::disks;
use crate::error::{Error, Result};
use crate::layout::give;
use crate::qcow2;
use crate::spec::{Disk, Format, Source};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// A file to be sent.
pub struct Leaving {
    pub path: PathBuf,
    /// Made for this: to be removed afterwards.
    made: bool,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if self.made {
            let _ = disks::remove_file(&self.path);
        }
    }
}

impl Qemu {
    /// The file that holds a disk; `whole`: with what it stands on, as one raw image.
    pub async fn leaving_file(&self, id: Uuid, disk: &str, whole: bool) -> Result<Leaving> {
        let (ledger, dir) = (self.ledger(id)?, self.dir(id));
        if self.live_process(&ledger).is_some() {
            return Err(Error::AlreadyRunning(id));
        }
        let disk = find(ledger.spec.disks, disk)?;
        let path = dir.disk(&disk.id);
        if !(whole && matches!(disk.source, Source::Overlay { .. })) {
            return Ok(Leaving { path, made: false });
        }
        let tools = self.inner.config.tools.clone();
        let target = path.with_extension("out");
        blocking(move || {
            disks::remove_file(&target)?;
            disks::export(&disk, &dir, &target, Format::Raw, &tools)?;
            Ok(Leaving { path: target, made: true })
        })
        .await
    }

    /// Where a file that comes for a disk is written.
    pub fn arriving_file(&self, id: Uuid, disk: &str) -> PathBuf {
        self.dir(id).disk(disk).with_extension("in")
    }

    /// Makes what has come the disk. A file that stands on another one stands on this host's copy of that from now on.
    pub async fn adopt_file(&self, id: Uuid, disk: &str) -> Result<()> {
        let (ledger, dir, file) = (self.ledger(id)?, self.dir(id), self.arriving_file(id, disk));
        let disk = find(ledger.spec.disks, disk)?;
        blocking(move || {
            let base: Option<&Path> = match &disk.source {
                Source::Overlay { base, .. } => Some(base),
                _ => None,
            };
            if !file.exists() {
                // Adopted before, by an agent that died then.
                return base.map_or(Ok(()), |base| qcow2::check_own(&dir.disk(&disk.id), base));
            }
            if let Some(base) = base {
                qcow2::stand_on(&file, base)?;
            }
            give(&file, ledger.owner)?;
            let path = dir.disk(&disk.id);
            std::fs::File::open(&file).and_then(|file| file.sync_all()).map_err(Error::io("sync disk", &file))?;
            std::fs::rename(&file, &path).map_err(Error::io("rename disk to", &path))
        })
        .await
    }
}

fn find(disks: Vec<Disk>, id: &str) -> Result<Disk> {
    disks.into_iter().find(|disk| disk.id == id).ok_or_else(|| Error::NoDevice(id.to_owned()))
}
