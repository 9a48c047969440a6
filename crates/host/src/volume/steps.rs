//! Carrying out the steps of [`super::plan`].

use std::path::Path;

use tokio::sync::watch;
use unkai_driver_qemu::{self as qemu, Vm};
use unkai_driver_volume::{self as driver, Content, New, Repository, Spot};
use unkai_link::item::ImageRef;
use unkai_link::volume::{BackupWish, RestoreFrom, Source, Upload, VolumeItem};
use unkai_model::Error;
use unkai_model::volume::Backend;
use uuid::Uuid;

use super::act::Volumes;
use super::plan::{Local, Step, temporary};
use super::{blocking, failed, luks, pool};
use crate::server::storage;

const GIB: u64 = 1 << 30;

impl Volumes {
    pub(super) async fn step(&self, item: &VolumeItem, local: &Local, step: &Step) -> Result<(), Error> {
        let id = item.id.clone();
        let pool = pool(&item.backend)?.at(item.fence);
        match step {
            Step::Remove => self.run(item, local, step, move |_| pool.remove(&id)).await,
            Step::Create => self.create(item, local, step).await,
            Step::Lost => Err(Error::internal(format!("volume {id} is not in its pool any more"))),
            Step::Grow => self.grow(item, local, step).await,
            Step::Forget(snapshot) => {
                let snapshot = snapshot.clone();
                self.run(item, local, step, move |_| pool.delete_snapshot(&id, &snapshot)).await
            }
            Step::Snapshot(snapshot) => self.snapshot(item, local, step, snapshot).await,
            Step::Restore => self.restore(item, local, step).await,
            Step::Backup(wish) => self.backup(item, local, step, wish).await,
            Step::Upload => match &item.upload {
                Some(upload) => self.upload(item, local, step, upload).await,
                None => Ok(()),
            },
        }
    }

    async fn create(&self, item: &VolumeItem, local: &Local, step: &Step) -> Result<(), Error> {
        let new = |content| new(item, content);
        let content = match &item.source {
            Source::Blank => Content::Blank,
            Source::Image(image) => self.of_image(item, image).await?,
            Source::Snapshot { volume, snapshot, encryption } => {
                Content::Copy { from: Spot::snapshot(volume, snapshot), luks: encryption.as_ref().map(luks) }
            }
            Source::Volume { volume, encryption } => {
                let from_luks = encryption.as_ref().map(luks);
                let new = new(Content::Copy { from: Spot::data(volume), luks: from_luks.clone() });
                if let Some(vm) = self.user_of(volume).await
                    && from_luks == new.luks
                    && !pool(&item.backend)?.snapshots_live()
                {
                    return self.clone_live(item, local, step, &vm, volume, new).await;
                }
                new.content
            }
            Source::Backup { repository, backup } => Content::Backup { repository: repository_of(repository)?, backup: backup.clone() },
        };
        let (pool, id, new) = (pool(&item.backend)?.at(item.fence), item.id.clone(), new(content));
        self.run(item, local, step, move |job| pool.create(&id, &new, job)).await
    }

    /// An image as what a volume begins with. It is on this host then.
    async fn of_image(&self, item: &VolumeItem, image: &ImageRef) -> Result<Content, Error> {
        let base = self.servers.images.base(&self.servers.link()?, image).await?;
        if base.virtual_size > item.size_gib * GIB {
            let needed = base.virtual_size.div_ceil(GIB);
            return Err(Error::invalid(format!("image {} needs {needed} GiB, and the volume has {}", image.id, item.size_gib)));
        }
        Ok(Content::Image { path: base.path, format: format_of(base.format) })
    }

    /// A copy of a volume that a server here writes: through its QEMU, into the draft of the new one.
    async fn clone_live(&self, item: &VolumeItem, local: &Local, step: &Step, vm: &Vm, from: &str, new: New) -> Result<(), Error> {
        let pool = pool(&item.backend)?.at(item.fence);
        let what = format!("copying volume {from} to {}", item.id);
        let (begun, id, source, shared) = (pool.clone(), item.id.clone(), from.to_owned(), item.shared);
        let (target, lock) = blocking(&what, move || begun.begin_clone(&id, &source, shared)).await?;
        self.copy_live(item, local, step, vm, from, target).await?;
        let id = item.id.clone();
        blocking(what, move || pool.finish_clone(&id, &new, lock)).await
    }

    async fn grow(&self, item: &VolumeItem, local: &Local, step: &Step) -> Result<(), Error> {
        let bytes = item.size_gib * GIB;
        if let Some(vm) = self.user(item).await {
            let grown = vm.resize_disk(&item.id, bytes).await;
            return grown.map_err(|e| Error::caused(format!("extending volume {}", item.id), e));
        }
        let (pool, id, encrypted) = (pool(&item.backend)?.at(item.fence), item.id.clone(), item.encryption.is_some());
        self.run(item, local, step, move |_| pool.grow(&id, bytes, encrypted)).await
    }

    async fn snapshot(&self, item: &VolumeItem, local: &Local, step: &Step, snapshot: &str) -> Result<(), Error> {
        let pool = pool(&item.backend)?.at(item.fence);
        let (id, name) = (item.id.clone(), snapshot.to_owned());
        let vm = self.user(item).await.filter(|_| !pool.snapshots_live());
        let Some(vm) = vm else { return self.run(item, local, step, move |job| pool.snapshot(&id, &name, job)).await };
        let what = format!("taking snapshot {snapshot} of volume {id}");
        let begun = pool.clone();
        let (target, lock) = blocking(&what, move || begun.begin_copy(&id, &name)).await?;
        self.copy_live(item, local, step, &vm, &item.id, target).await?;
        let (id, name) = (item.id.clone(), snapshot.to_owned());
        blocking(what, move || pool.finish_copy(&id, &name, lock)).await
    }

    async fn copy_live(
        &self,
        item: &VolumeItem,
        local: &Local,
        step: &Step,
        vm: &Vm,
        disk: &str,
        target: driver::Image,
    ) -> Result<(), Error> {
        let (tell, progress) = watch::channel(qemu::Progress::default());
        let format = qemu_format(target.format);
        let copy = vm.copy_disk(disk, storage(target.storage), format, Some(tell));
        let percent = || {
            let now = *progress.borrow();
            (now.done * 100).checked_div(now.total).unwrap_or(0).min(100) as u8
        };
        let copied = self.watch(item, local, step, copy, percent).await;
        copied.map(drop).map_err(|e| Error::caused(format!("copying disk {disk} of a running server"), e))
    }

    async fn restore(&self, item: &VolumeItem, local: &Local, step: &Step) -> Result<(), Error> {
        let Some(restore) = item.restore.clone() else { return Ok(()) };
        let (pool, id) = (pool(&item.backend)?.at(item.fence), item.id.clone());
        match restore.from {
            RestoreFrom::Snapshot(snapshot) => {
                self.run(item, local, step, move |job| pool.revert(&id, &snapshot, restore.number, job)).await
            }
            RestoreFrom::Backup { repository, backup } => {
                let repository = repository_of(&repository)?;
                self.run(item, local, step, move |job| pool.restore(&id, &repository, &backup, restore.number, job)).await
            }
            RestoreFrom::Image(image) => {
                let new = new(item, self.of_image(item, &image).await?);
                self.run(item, local, step, move |job| pool.rewrite(&id, &new, restore.number, job)).await
            }
        }
    }

    async fn backup(&self, item: &VolumeItem, local: &Local, step: &Step, wish: &BackupWish) -> Result<(), Error> {
        let repository = repository_of(&wish.repository)?;
        let from = match &wish.snapshot {
            Some(snapshot) => Spot::snapshot(&item.id, snapshot),
            None => self.quiet(item, local, step, &wish.backup).await?,
        };
        let (pool, wish_of) = (pool(&item.backend)?.at(item.fence), wish.clone());
        let work = move |job: &driver::Job| pool.backup(&from, &repository, &wish_of.backup, wish_of.parent.as_deref(), job);
        let made = self.run(item, local, step, work).await?;
        self.done(item, &wish.backup, Some(unkai_link::volume::BackupFacts { stored: made.stored, objects: made.objects }));
        Ok(())
    }

    async fn upload(&self, item: &VolumeItem, local: &Local, step: &Step, upload: &Upload) -> Result<(), Error> {
        let link = self.servers.link()?;
        let from = self.quiet(item, local, step, upload.image.as_str()).await?;
        let path = self.exports.join(format!("volume-{}", upload.image));
        let result = async {
            let (pool, luks, to) = (pool(&item.backend)?, item.encryption.as_ref().map(luks), path.clone());
            let format = upload.format.clone();
            self.run(item, local, step, move |job| export(&pool, &from, luks.as_ref(), &to, &format, job)).await?;
            let file = tokio::fs::File::open(&path).await.map_err(|e| Error::caused(format!("opening `{}`", path.display()), e))?;
            link.put_image(&upload.image, file).await
        };
        let result = result.await;
        let _ = tokio::fs::remove_file(&path).await;
        result?;
        self.done(item, upload.image.as_str(), None);
        Ok(())
    }

    /// What can be read for as long as it takes: the volume, or a snapshot for this wish when a server writes it.
    async fn quiet(&self, item: &VolumeItem, local: &Local, step: &Step, wish: &str) -> Result<Spot, Error> {
        let name = temporary(wish);
        let taken = local.found.as_ref().is_some_and(|found| found.snapshots.contains_key(&name));
        if !taken {
            if self.user(item).await.is_none() {
                return Ok(Spot::data(&item.id));
            }
            self.snapshot(item, local, step, &name).await?;
        }
        Ok(Spot::snapshot(&item.id, &name))
    }

    /// The server here whose QEMU has the volume.
    async fn user(&self, item: &VolumeItem) -> Option<Vm> {
        let server = Uuid::parse_str(item.in_use_by.as_ref()?.as_str()).ok()?;
        let vm = self.servers.qemu.vm(server).await?;
        vm.spec().disks.iter().any(|disk| disk.id == item.id).then_some(vm)
    }

    /// The same for a volume that this host may not carry.
    async fn user_of(&self, volume: &str) -> Option<Vm> {
        for server in self.servers.users_of(volume) {
            if let Some(vm) = self.servers.qemu.vm(server).await
                && vm.spec().disks.iter().any(|disk| disk.id == volume)
            {
                return Some(vm);
            }
        }
        None
    }
}

/// The volume as it is to be, with this content.
fn new(item: &VolumeItem, content: Content) -> New {
    New { bytes: item.size_gib * GIB, shared: item.shared, content, luks: item.encryption.as_ref().map(luks) }
}

fn export(pool: &driver::Pool, from: &Spot, luks: Option<&driver::Luks>, to: &Path, format: &str, job: &driver::Job) -> driver::Result<()> {
    let file = driver::create_file(to)?;
    pool.export(from, luks, &file, format, job)
}

/// Only directories keep backups.
pub(super) fn repository_of(backend: &Backend) -> Result<Repository, Error> {
    Repository::of(backend).map_err(failed("opening a repository of backups"))
}

fn format_of(format: qemu::Format) -> driver::Format {
    match format {
        qemu::Format::Raw => driver::Format::Raw,
        qemu::Format::Qcow2 => driver::Format::Qcow2,
    }
}

pub(crate) fn qemu_format(format: driver::Format) -> qemu::Format {
    match format {
        driver::Format::Raw => qemu::Format::Raw,
        driver::Format::Qcow2 => qemu::Format::Qcow2,
    }
}
