//! The pool where its target is: raw files, served as LUNs to those who are let in.
//!
//! A volume is served under a name that tells its fencing generation. A newer generation ends that name: whoever has it is logged out, finds no
//! target to log in to again, and writes no more.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use unkai_crashpoint::point;

use super::initiator::Initiator;
use super::tgt::Tgt;
use crate::driver::{Driver, Lock, Look};
use crate::error::{Error, Result};
use crate::files::{Files, remove_file, write_durably};
use crate::image::Image;
use crate::job::Job;
use crate::spec::{Found, Notes, Part, Spot, Status};

pub struct Served {
    pub files: Files,
    pub dir: PathBuf,
    pub tgt: Tgt,
    pub initiator: Arc<Initiator>,
}

impl Served {
    fn volume_dir(&self, volume: &str) -> PathBuf {
        self.dir.join("volumes").join(volume)
    }

    /// The name that a volume was last served under.
    fn note_of_name(&self, volume: &str) -> PathBuf {
        self.volume_dir(volume).join("served")
    }

    fn several(&self, volume: &str) -> PathBuf {
        self.volume_dir(volume).join("several-write")
    }

    fn prefix(&self, volume: &str) -> String {
        self.initiator.name(&format!("{volume}:"))
    }

    fn name(&self, spot: &Spot, look: Look) -> Result<String> {
        let part = match (&spot.part, look) {
            (Part::Data, Look::Draft) => "draft".to_owned(),
            (Part::Data, Look::Whole) if self.several(&spot.volume).exists() => "all".to_owned(),
            (Part::Data, Look::Whole) => crate::files::read_notes(&self.volume_dir(&spot.volume))?.fence.to_string(),
            (Part::Snapshot(id), Look::Draft) => format!("draft:{id}"),
            (Part::Snapshot(id), Look::Whole) => format!("snap:{id}"),
        };
        Ok(self.initiator.name(&format!("{}:{part}", spot.volume)))
    }

    /// Lets others in; under which name.
    pub fn serve(&self, spot: &Spot, look: Look) -> Result<String> {
        let (path, _) = self.files.path(spot, look);
        if !path.exists() {
            return Err(Error::Missing(spot.to_string()));
        }
        let name = self.name(spot, look)?;
        if (&spot.part, look) == (&Part::Data, Look::Whole) {
            write_durably(&self.note_of_name(&spot.volume), name.as_bytes())?;
        }
        self.tgt.serve(&name, &path)?;
        Ok(name)
    }

    fn withdraw(&self, spot: &Spot, look: Look) -> Result<()> {
        let name = self.name(spot, look)?;
        self.tgt.withdraw(|served| served == name)
    }

    /// Nobody is let in to what the volume is, until it is opened again.
    fn cut(&self, volume: &str) -> Result<()> {
        remove_file(&self.note_of_name(volume))?;
        let prefix = self.prefix(volume);
        let is_data = |rest: &str| rest == "all" || rest.chars().all(|c| c.is_ascii_digit());
        self.tgt.withdraw(|served| served.strip_prefix(&prefix).is_some_and(is_data))
    }

    /// After the target, or the machine, was started anew: those who had a volume find it again.
    pub fn resume(&self) -> Result<()> {
        self.tgt.ensure()?;
        let control = self.initiator.control();
        if self.tgt.targets()?.iter().any(|target| target.name == control) {
            return Ok(());
        }
        let Ok(volumes) = fs::read_dir(self.dir.join("volumes")) else { return self.serve_control(&control) };
        for volume in volumes.flatten() {
            let name = volume.file_name().to_string_lossy().into_owned();
            let spot = Spot::data(&name);
            if spot.validate().is_err() || !self.note_of_name(&name).exists() {
                continue;
            }
            let served = fs::read_to_string(self.note_of_name(&name)).map_err(Error::io("read", self.note_of_name(&name)))?;
            let (path, _) = self.files.path(&spot, Look::Whole);
            if path.exists() {
                self.tgt.serve(served.trim(), &path)?;
            }
        }
        self.serve_control(&control)
    }

    fn serve_control(&self, name: &str) -> Result<()> {
        self.tgt.serve(name, &super::mailbox::file(&self.dir)?)
    }

    fn is_used(&self, volume: &str) -> Result<bool> {
        let prefix = self.prefix(volume);
        let data = |name: &str| name.strip_prefix(&prefix).is_some_and(|rest| rest == "all" || rest.chars().all(|c| c.is_ascii_digit()));
        self.tgt.ensure()?;
        Ok(self.tgt.targets()?.iter().any(|target| target.used && data(&target.name)))
    }

    /// Who is logged in to a volume may write it: the file's own locks do not tell.
    fn unused(&self, spot: &Spot) -> Result<()> {
        if self.is_used(&spot.volume)? {
            return Err(Error::Busy(format!("volume {}, which a server has open,", spot.volume)));
        }
        Ok(())
    }
}

impl Driver for Served {
    fn status(&self, mark: Option<&str>) -> Result<Status> {
        let status = self.files.status(mark)?;
        self.resume()?;
        Ok(status)
    }

    fn lock(&self, volume: &str, shared: bool) -> Result<Lock> {
        self.files.lock(volume, shared)
    }

    fn look(&self, volume: &str) -> Result<Option<Found>> {
        self.files.look(volume)
    }

    /// Older generations are cut off first: a crash in between leaves a server without its disk, not two with it.
    fn note(&self, volume: &str, notes: &Notes) -> Result<()> {
        let before = crate::files::read_notes(&self.volume_dir(volume))?;
        if notes.fence > before.fence && !self.several(volume).exists() {
            self.cut(volume)?;
            point("volume: older generations are logged out");
        }
        self.files.note(volume, notes)
    }

    fn image(&self, spot: &Spot, look: Look) -> Image {
        self.files.image(spot, look)
    }

    fn open(&self, volume: &str) -> Result<Image> {
        let name = self.serve(&Spot::data(volume), Look::Whole)?;
        Ok(self.initiator.image(volume, &name))
    }

    fn begin(&self, spot: &Spot, bytes: u64, shared: bool) -> Result<()> {
        self.withdraw(spot, Look::Draft)?;
        self.files.begin(spot, bytes, true)?;
        self.mark_several(spot, shared)
    }

    fn copy(&self, from: &Spot, to: &Spot, shared: bool, job: &Job) -> Result<bool> {
        self.withdraw(to, Look::Draft)?;
        let copied = self.files.copy(from, to, true, job)?;
        self.mark_several(to, shared)?;
        Ok(copied)
    }

    fn bytes(&self, spot: &Spot, look: Look) -> Result<u64> {
        self.files.bytes(spot, look)
    }

    /// A LUN has the size that it was begun to be served with.
    fn grow(&self, spot: &Spot, look: Look, bytes: u64) -> Result<()> {
        if look == Look::Whole && spot.part == Part::Data {
            self.unused(spot)?;
            self.cut(&spot.volume)?;
        } else {
            self.withdraw(spot, look)?;
        }
        self.files.grow(spot, look, bytes)
    }

    fn publish(&self, spot: &Spot) -> Result<()> {
        self.withdraw(spot, Look::Draft)?;
        if spot.part == Part::Data {
            self.cut(&spot.volume)?;
        }
        self.files.publish(spot)
    }

    fn remove(&self, spot: &Spot) -> Result<()> {
        self.withdraw(spot, Look::Draft)?;
        self.withdraw(spot, Look::Whole)?;
        self.files.remove(spot)
    }

    fn remove_volume(&self, volume: &str) -> Result<()> {
        let prefix = self.prefix(volume);
        self.tgt.withdraw(|served| served.starts_with(&prefix))?;
        self.files.remove_volume(volume)
    }

    fn leave(&self) -> Result<()> {
        self.tgt.stop()
    }

    fn is_shared(&self, volume: &str) -> Result<bool> {
        Ok(self.several(volume).exists())
    }

    fn at_rest(&self, volume: &str) -> Result<Lock> {
        self.unused(&Spot::data(volume))?;
        self.files.at_rest(volume)
    }
}

impl Served {
    /// All is raw here, so it is noted who may write a volume.
    fn mark_several(&self, spot: &Spot, shared: bool) -> Result<()> {
        let path: &Path = &self.several(&spot.volume);
        match (&spot.part, shared) {
            (Part::Data, true) => write_durably(path, b""),
            (Part::Data, false) => remove_file(path),
            _ => Ok(()),
        }
    }
}
