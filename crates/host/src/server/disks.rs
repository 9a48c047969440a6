//! Volumes as disks of servers: opened under their fencing generation each time they are given to QEMU.

use unkai_driver_qemu::{Bus, Disk, Given, Passphrase, Source, Storage};
use unkai_driver_volume as driver;
use unkai_link::item::ServerItem;
use unkai_link::volume::VolumeUse;
use unkai_model::Error;

use super::act::Servers;
use crate::volume::{blocking, luks, pool, qemu_format};

/// The volume that the server starts from; it has no local root disk then.
pub fn root(item: &ServerItem) -> Option<&VolumeUse> {
    item.volumes.iter().find(|volume| volume.boot_index == Some(0))
}

/// A volume as the server's definition names it.
pub fn disk(volume: &VolumeUse, format: unkai_driver_qemu::Format, rescuing: bool) -> Disk {
    Disk {
        id: volume.volume.clone(),
        source: Source::Given { format, luks: volume.encryption.is_some() },
        bus: match volume.bus.as_deref() {
            Some("ide") => Bus::Ide,
            _ => Bus::Virtio,
        },
        read_only: volume.read_only,
        shared: volume.shared,
        serial: Some(volume.volume.clone()),
        boot_index: volume.boot_index.map(|index| index + u32::from(rescuing)),
        slot: None,
    }
}

/// How QEMU reaches it.
pub fn storage(storage: driver::Storage) -> Storage {
    match storage {
        driver::Storage::File(path) => Storage::File(path),
        driver::Storage::Node { node, secrets } => {
            Storage::Node { node, secrets: secrets.into_iter().map(|secret| (secret.id, Passphrase(secret.value))).collect() }
        }
    }
}

impl Servers {
    /// The volumes of a server as its definition names them.
    pub(super) async fn volumes_of(&self, item: &ServerItem) -> Result<Vec<Disk>, Error> {
        let mut disks = Vec::new();
        for volume in &item.volumes {
            let image = self.image_of(volume).await?;
            disks.push(disk(volume, qemu_format(image.format), item.rescue.is_some()));
        }
        Ok(disks)
    }

    async fn image_of(&self, volume: &VolumeUse) -> Result<driver::Image, Error> {
        let (pool, id) = (pool(&volume.backend)?, volume.volume.clone());
        blocking(format!("looking for volume {id}"), move || pool.peek(&id)).await
    }

    /// All of a server's volumes, for a machine that is about to be started.
    pub(super) async fn give_all(&self, item: &ServerItem) -> Result<Vec<Given>, Error> {
        let mut given = Vec::new();
        for volume in &item.volumes {
            given.push(self.give(volume).await?.0);
        }
        Ok(given)
    }

    /// From here on nobody with an older generation is given it.
    async fn give(&self, volume: &VolumeUse) -> Result<(Given, unkai_driver_qemu::Format), Error> {
        let (pool, id, shared) = (pool(&volume.backend)?.at(volume.generation), volume.volume.clone(), volume.shared);
        let image = blocking(format!("opening volume {id}"), move || pool.open(&id, shared)).await?;
        let format = qemu_format(image.format);
        let passphrase = volume.encryption.as_ref().map(|encryption| Passphrase::from(luks(encryption).passphrase));
        Ok((Given { disk: volume.volume.clone(), storage: storage(image.storage), passphrase }, format))
    }

    pub(super) async fn plug_volume(&self, uuid: uuid::Uuid, item: &ServerItem, volume: &str) -> Result<(), Error> {
        let Some(wanted) = item.volumes.iter().find(|wanted| wanted.volume == volume) else { return Ok(()) };
        let (given, format) = self.give(wanted).await?;
        let disk = Disk { bus: Bus::Virtio, ..disk(wanted, format, false) };
        let plugged = self.vm(uuid).await?.plug_disk(disk, Some(given)).await;
        plugged.map_err(|e| Error::caused(format!("attaching volume {volume}"), e))
    }

    /// Servers here that are to have this volume.
    pub(crate) fn users_of(&self, volume: &str) -> Vec<uuid::Uuid> {
        let servers = self.desired.servers().into_iter();
        let users = servers.filter(|item| item.volumes.iter().any(|wanted| wanted.volume == volume));
        users.filter_map(|item| super::define::uuid(&item).ok()).collect()
    }
}
