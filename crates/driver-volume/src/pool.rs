//! The verbs of volumes, the same for every kind of storage.

use std::sync::Arc;

use unkai_crashpoint::point;
use unkai_model::volume::Backend;

use crate::driver::{Driver, Lock, Look, present};
use crate::error::{Error, Result};
use crate::files::Files;
use crate::image::Image;
use crate::iscsi::Iscsi;
use crate::job::Job;
use crate::luks;
use crate::nbd;
use crate::nfs::Nfs;
use crate::rbd::Rbd;
use crate::repository::{Kept, Reader, Repository, Writer};
use crate::spec::{Content, Found, Luks, New, Notes, Spot, Status, word};
use crate::tool::{Run, Tools, dotted};

/// A pool as this host uses it. Cheap to clone. Calls block.
#[derive(Clone)]
pub struct Pool {
    driver: Arc<dyn Driver>,
    tools: Tools,
    /// The fencing generation that everything is done with.
    fence: u64,
}

impl Pool {
    pub fn new(driver: impl Driver + 'static, tools: Tools) -> Pool {
        Pool::of(Arc::new(driver), tools)
    }

    pub(crate) fn of(driver: Arc<dyn Driver>, tools: Tools) -> Pool {
        Pool { driver, tools, fence: 0 }
    }

    /// The same, working with a fencing generation: what one does, those with older ones can do no more.
    pub fn at(&self, fence: u64) -> Pool {
        Pool { fence, ..self.clone() }
    }

    /// The pool that a host was told of.
    pub fn open_backend(backend: &Backend, tools: Tools) -> Result<Pool> {
        match backend {
            Backend::Files { dir } => Ok(Pool::new(Files::new(dir, tools.clone()), tools)),
            Backend::Rbd { monitors, pool, user, key } => Ok(Pool::new(Rbd::new(monitors, pool, user, key, tools.clone())?, tools)),
            Backend::Iscsi { portal, iqn, dir, user, password, .. } => {
                let (portal, iqn, user, password) = (portal.clone(), iqn.clone(), user.clone(), password.clone());
                Iscsi { portal, iqn, dir: dir.clone(), user, password }.pool(tools)
            }
            Backend::Nfs { server, export, uid, gid } => Ok(Pool::new(Nfs::new(server, export, *uid, *gid)?, tools)),
        }
    }

    /// How the pool is. One that never was a pool becomes one when no `mark` is expected.
    pub fn status(&self, mark: Option<&str>) -> Result<Status> {
        self.driver.status(mark)
    }

    /// The pool is none of this host's any more: ends what was started for it here, and removes nothing that is in it.
    pub fn leave(&self) -> Result<()> {
        self.driver.leave()
    }

    /// None: there is no trace of the volume.
    pub fn look(&self, volume: &str) -> Result<Option<Found>> {
        word(volume)?;
        self.driver.look(volume)
    }

    /// Begins work on a volume: nobody else does any, and nobody with an older generation will.
    fn enter(&self, volume: &str) -> Result<(Lock, Found)> {
        word(volume)?;
        let lock = self.driver.lock(volume, false)?;
        let mut found = self.driver.look(volume)?.unwrap_or_default();
        self.pass(volume, &mut found.notes)?;
        Ok((lock, found))
    }

    fn enter_whole(&self, volume: &str) -> Result<(Lock, Found)> {
        let (lock, mut found) = self.whole(volume)?;
        self.pass(volume, &mut found.notes)?;
        Ok((lock, found))
    }

    fn whole(&self, volume: &str) -> Result<(Lock, Found)> {
        word(volume)?;
        let lock = self.driver.lock(volume, false)?;
        Ok((lock, present(self.driver.look(volume)?.filter(|found| found.bytes.is_some()), volume)?))
    }

    fn pass(&self, volume: &str, notes: &mut Notes) -> Result<()> {
        let fence = self.fence;
        if fence < notes.fence {
            return Err(Error::Fenced { volume: volume.to_owned(), asked: fence, newest: notes.fence });
        }
        if fence > notes.fence {
            notes.fence = fence;
            self.driver.note(volume, notes)?;
            point("volume: a fence is noted");
            self.driver.fence(volume, notes)?;
        }
        Ok(())
    }

    /// Makes a volume; nothing happens when it is there.
    pub fn create(&self, volume: &str, new: &New, job: &Job) -> Result<()> {
        let (_lock, found) = self.enter(volume)?;
        if found.bytes.is_some() {
            return Ok(());
        }
        self.draft(volume, new, job)?;
        point("volume: a volume is made but has no name");
        self.driver.publish(&Spot::data(volume))?;
        point("volume: a volume is made");
        Ok(())
    }

    fn draft(&self, volume: &str, new: &New, job: &Job) -> Result<()> {
        let data = Spot::data(volume);
        match &new.content {
            Content::Blank => self.blank(&data, new).map(drop),
            Content::Image { path, format } => {
                self.blank(&data, new)?;
                self.fill(&Image::file(path, *format), None, &data, new.luks.as_ref(), job)
            }
            Content::Copy { from, luks } => self.duplicate(from, luks.as_ref(), &data, new, job),
            Content::Backup { repository, backup } => {
                let mut reader = repository.read(backup)?;
                self.driver.begin(&data, new.bytes.max(reader.bytes()), new.shared)?;
                self.refill(&mut reader, &data, job)
            }
        }
    }

    /// An empty draft for a content of that size, encrypted as it is to be.
    fn blank(&self, spot: &Spot, new: &New) -> Result<()> {
        let Some(luks) = &new.luks else { return self.driver.begin(spot, new.bytes, new.shared) };
        let (container, length) = luks::container(&self.tools, luks, new.bytes)?;
        self.driver.begin(spot, length, new.shared)?;
        let mut run = Run::qemu_img(&self.tools, "convert");
        let source = serde_json::json!({"driver": "raw", "file": run.file(&container)?});
        let target = run.open(&self.driver.image(spot, Look::Draft), true)?;
        convert(run, &source, &target, &Job::default())
    }

    /// Moves the bytes of an image into a draft.
    fn fill(&self, from: &Image, from_luks: Option<&Luks>, to: &Spot, to_luks: Option<&Luks>, job: &Job) -> Result<()> {
        let mut run = Run::qemu_img(&self.tools, "convert");
        let source = opened(&mut run, from, from_luks, "from", false)?;
        let target = opened(&mut run, &self.driver.image(to, Look::Draft), to_luks, "to", true)?;
        convert(run, &source, &target, job)
    }

    /// A draft with the content of another spot, at least as large as it is to be.
    fn duplicate(&self, from: &Spot, from_luks: Option<&Luks>, to: &Spot, new: &New, job: &Job) -> Result<()> {
        from.validate()?;
        let _source = if from.volume == to.volume { Lock::none() } else { self.driver.lock(&from.volume, true)? };
        let _rest = self.rest(from)?;
        let bytes = self.driver.bytes(from, Look::Whole)?;
        if from_luks != new.luks.as_ref() {
            let _still = self.still(from)?;
            self.blank(to, new)?;
            return self.fill(&self.driver.image(from, Look::Whole), from_luks, to, new.luks.as_ref(), job);
        }
        self.replicate(from, to, bytes, new.shared, job)?;
        self.lengthen(to, bytes, new)
    }

    /// A container is longer than its content; what comes behind makes the content longer too.
    fn lengthen(&self, draft: &Spot, bytes: u64, new: &New) -> Result<()> {
        let content = if new.luks.is_some() { bytes >> 30 << 30 } else { bytes };
        if content < new.bytes { self.driver.grow(draft, Look::Draft, bytes + (new.bytes - content)) } else { Ok(()) }
    }

    /// A draft that is the same, byte for byte.
    fn replicate(&self, from: &Spot, to: &Spot, bytes: u64, shared: bool, job: &Job) -> Result<()> {
        if self.driver.copy(from, to, shared, job)? {
            return Ok(());
        }
        let _still = self.still(from)?;
        self.driver.begin(to, bytes, shared)?;
        self.fill(&self.driver.image(from, Look::Whole), None, to, None, job)
    }

    /// Nobody writes a snapshot; a volume must not be written while it is copied, unless its storage does that at once.
    fn rest(&self, spot: &Spot) -> Result<Lock> {
        if self.driver.snapshots_live() { Ok(Lock::none()) } else { self.still(spot) }
    }

    /// Nobody writes what is read byte by byte.
    fn still(&self, spot: &Spot) -> Result<Lock> {
        if *spot == Spot::data(&spot.volume) { self.driver.at_rest(&spot.volume) } else { Ok(Lock::none()) }
    }

    /// Makes a volume that no server has open longer: `bytes` of content. Nothing happens when it is.
    pub fn grow(&self, volume: &str, bytes: u64, encrypted: bool) -> Result<()> {
        let (_lock, found) = self.enter_whole(volume)?;
        let now = found.bytes.unwrap_or_default();
        let content = if encrypted { now >> 30 << 30 } else { now };
        if content >= bytes {
            return Ok(());
        }
        self.driver.grow(&Spot::data(volume), Look::Whole, now + (bytes - content))?;
        point("volume: a volume is grown");
        Ok(())
    }

    /// Takes a snapshot of a volume that no server writes, or whose storage does not mind. Nothing happens when there is one.
    pub fn snapshot(&self, volume: &str, snapshot: &str, job: &Job) -> Result<()> {
        let to = Spot::snapshot(volume, snapshot);
        to.validate()?;
        let (_lock, found) = self.enter_whole(volume)?;
        if found.snapshots.contains_key(snapshot) {
            return Ok(());
        }
        let from = Spot::data(volume);
        let _rest = self.rest(&from)?;
        self.replicate(&from, &to, self.driver.bytes(&from, Look::Whole)?, self.is_shared(volume)?, job)?;
        point("volume: a snapshot is made but has no name");
        self.driver.publish(&to)?;
        point("volume: a snapshot is made");
        Ok(())
    }

    pub fn delete_snapshot(&self, volume: &str, snapshot: &str) -> Result<()> {
        let spot = Spot::snapshot(volume, snapshot);
        spot.validate()?;
        let (_lock, _) = self.enter(volume)?;
        self.driver.remove(&spot)?;
        point("volume: a snapshot is removed");
        Ok(())
    }

    /// Puts the content of a snapshot back, as the restore of that number. Nothing happens when that one was done.
    pub fn revert(&self, volume: &str, snapshot: &str, number: u64, job: &Job) -> Result<()> {
        let from = Spot::snapshot(volume, snapshot);
        from.validate()?;
        let (_lock, found) = self.enter_whole(volume)?;
        if found.notes.restored >= number {
            return Ok(());
        }
        if !found.snapshots.contains_key(snapshot) {
            return Err(Error::Missing(from.to_string()));
        }
        let to = Spot::data(volume);
        let _rest = self.driver.at_rest(volume)?;
        let (old, new) = (found.bytes.unwrap_or_default(), self.driver.bytes(&from, Look::Whole)?);
        self.replicate(&from, &to, new, self.is_shared(volume)?, job)?;
        if new < old {
            self.driver.grow(&to, Look::Draft, old)?;
        }
        self.restored(volume, number, found.notes)
    }

    /// Puts the content of an image, or nothing, in the place of the volume's, once per number. `new` is what the volume is to be.
    pub fn rewrite(&self, volume: &str, new: &New, number: u64, job: &Job) -> Result<()> {
        let (_lock, found) = self.enter_whole(volume)?;
        if found.notes.restored >= number {
            return Ok(());
        }
        let _rest = self.driver.at_rest(volume)?;
        self.draft(volume, new, job)?;
        self.restored(volume, number, found.notes)
    }

    /// The draft becomes the volume.
    fn restored(&self, volume: &str, number: u64, notes: Notes) -> Result<()> {
        point("volume: a content is ready to be put back");
        self.driver.publish(&Spot::data(volume))?;
        point("volume: a content is put back but not noted");
        self.driver.note(volume, &Notes { restored: number, ..notes })
    }

    /// Copies a content into a repository; what its parent has is not stored again. Nothing happens when it is there.
    pub fn backup(&self, from: &Spot, repository: &Repository, backup: &str, parent: Option<&str>, job: &Job) -> Result<Kept> {
        from.validate()?;
        let _source = self.driver.lock(&from.volume, true)?;
        let _rest = self.still(from)?;
        let making = match repository.begin(backup, parent, self.driver.bytes(from, Look::Whole)?)? {
            Ok(making) => making,
            Err(kept) => return Ok(kept),
        };
        let mut writer = making.writer();
        let copied = self.pour(from, &mut writer, job).and_then(|()| writer.finish());
        match copied {
            Ok(written) => making.finish(written),
            Err(error) => {
                making.give_up();
                Err(error)
            }
        }
    }

    fn pour(&self, from: &Spot, into: &mut Writer<'_>, job: &Job) -> Result<()> {
        let mut run = Run::qemu_img(&self.tools, "convert");
        let source = run.open(&self.driver.image(from, Look::Whole), false)?;
        let bytes = into.bytes();
        nbd::with(into, bytes, run, |run, node| convert(run, &source, &raw(node), job))
    }

    fn refill(&self, from: &mut Reader, to: &Spot, job: &Job) -> Result<()> {
        let mut run = Run::qemu_img(&self.tools, "convert");
        let target = run.open(&self.driver.image(to, Look::Draft), true)?;
        let bytes = from.bytes();
        nbd::with(from, bytes, run, |run, node| convert(run, &raw(node), &target, job))
    }

    /// Puts the content of a backup back, as the restore of that number. Nothing happens when that one was done.
    pub fn restore(&self, volume: &str, repository: &Repository, backup: &str, number: u64, job: &Job) -> Result<()> {
        let (_lock, found) = self.enter_whole(volume)?;
        if found.notes.restored >= number {
            return Ok(());
        }
        let mut reader = repository.read(backup)?;
        let to = Spot::data(volume);
        let _rest = self.driver.at_rest(volume)?;
        self.driver.begin(&to, found.bytes.unwrap_or_default().max(reader.bytes()), self.is_shared(volume)?)?;
        self.refill(&mut reader, &to, job)?;
        self.restored(volume, number, found.notes)
    }

    /// Removes all there is of a volume that no server has open.
    pub fn remove(&self, volume: &str) -> Result<()> {
        if self.look(volume)?.is_none() {
            return Ok(());
        }
        let (_lock, _) = self.enter(volume)?;
        let _rest = self.driver.at_rest(volume)?;
        point("volume: before a volume is removed");
        self.driver.remove_volume(volume)?;
        point("volume: a volume is removed");
        Ok(())
    }

    /// Lets a server have the volume. Whoever comes later with an older generation is refused; several that share it do not fence each other.
    pub fn open(&self, volume: &str, shared: bool) -> Result<Image> {
        let (_lock, mut found) = self.whole(volume)?;
        if !shared {
            self.pass(volume, &mut found.notes)?;
        }
        self.driver.open(volume)
    }

    /// How QEMU opens a volume that is whole; whether it may is [`Pool::open`]'s to say.
    pub fn peek(&self, volume: &str) -> Result<Image> {
        word(volume)?;
        let found = self.driver.look(volume)?.filter(|found| found.bytes.is_some());
        present(found, volume)?;
        Ok(self.driver.image(&Spot::data(volume), Look::Whole))
    }

    /// The volume's storage takes snapshots while a server writes.
    pub fn snapshots_live(&self) -> bool {
        self.driver.snapshots_live()
    }

    /// An empty draft of a snapshot, as long as the volume, for a server's QEMU to copy into; [`Pool::finish_copy`] makes it one. The lock is
    /// to be held until then.
    pub fn begin_copy(&self, volume: &str, snapshot: &str) -> Result<(Image, Lock)> {
        let to = Spot::snapshot(volume, snapshot);
        to.validate()?;
        let (lock, _) = self.enter_whole(volume)?;
        self.driver.begin(&to, self.driver.bytes(&Spot::data(volume), Look::Whole)?, self.is_shared(volume)?)?;
        Ok((self.driver.image(&to, Look::Draft), lock))
    }

    pub fn finish_copy(&self, volume: &str, snapshot: &str, _lock: Lock) -> Result<()> {
        point("volume: a snapshot is copied but has no name");
        self.driver.publish(&Spot::snapshot(volume, snapshot))
    }

    /// The draft of a new volume, as long as the one that a server's QEMU copies into it; [`Pool::finish_clone`] makes it one.
    pub fn begin_clone(&self, volume: &str, from: &str, shared: bool) -> Result<(Image, Lock)> {
        word(from)?;
        let (lock, _) = self.enter(volume)?;
        let to = Spot::data(volume);
        self.driver.begin(&to, self.driver.bytes(&Spot::data(from), Look::Whole)?, shared)?;
        Ok((self.driver.image(&to, Look::Draft), lock))
    }

    pub fn finish_clone(&self, volume: &str, new: &New, _lock: Lock) -> Result<()> {
        let to = Spot::data(volume);
        let bytes = self.driver.bytes(&to, Look::Draft)?;
        self.lengthen(&to, bytes, new)?;
        point("volume: a volume is copied but has no name");
        self.driver.publish(&to)
    }

    /// Writes a content into a new file that stands alone: `raw`, `qcow2` or `vmdk`, decrypted.
    pub fn export(&self, from: &Spot, luks: Option<&Luks>, to: &std::fs::File, format: &str, job: &Job) -> Result<()> {
        from.validate()?;
        let _lock = self.driver.lock(&from.volume, true)?;
        let _rest = self.still(from)?;
        let options = match format {
            "raw" | "qcow2" => None,
            "vmdk" => Some("subformat=streamOptimized"),
            other => return Err(Error::Invalid(format!("volumes are not uploaded as {other:?}"))),
        };
        self.tools.give(to, std::path::Path::new("an image"))?;
        let mut run = Run::qemu_img(&self.tools, "convert");
        let source = opened(&mut run, &self.driver.image(from, Look::Whole), luks, "from", false)?;
        let path = format!("/proc/self/fd/{}", run.hand(to)?);
        run.args(["-p", "-O", format]);
        if let Some(options) = options {
            run.args(["-o", options]);
        }
        run.arg(format!("json:{source}")).arg(path);
        run.go(job).map(drop)
    }

    /// Several servers may have it open for writing.
    pub fn is_shared(&self, volume: &str) -> Result<bool> {
        self.driver.is_shared(volume)
    }
}

/// An image as a program's block device, decrypted when it is encrypted.
fn opened(run: &mut Run<'_>, image: &Image, luks: Option<&Luks>, secret: &str, writable: bool) -> Result<serde_json::Value> {
    let node = run.open(image, writable)?;
    let Some(luks) = luks else { return Ok(node) };
    run.secret(&luks.secret(secret))?;
    Ok(luks::over(node, secret))
}

fn raw(node: &serde_json::Value) -> serde_json::Value {
    serde_json::json!({"driver": "raw", "file": node})
}

/// Into what is empty so far.
fn convert(mut run: Run<'_>, source: &serde_json::Value, target: &serde_json::Value, job: &Job) -> Result<()> {
    run.args(["-p", "-n", "--target-is-zero", "-t", "writeback", "--target-image-opts"]);
    run.arg(format!("json:{source}")).arg(dotted(target));
    run.go(job).map(drop)
}
