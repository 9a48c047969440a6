//! Volumes, backups and uses of volumes as hosts are told of them. Pure.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use unkai_link::item::HostId;
use unkai_link::volume::{BackupItem, BackupWish, Encryption, PoolItem, Restore, RestoreFrom, Source, Upload, VolumeItem, VolumeUse};
use unkai_model::Id;
use unkai_model::compute::Server;
use unkai_model::volume::{self, AttachState, Attachment, Backup, Mode, Pool, Snapshot, SnapshotPhase, Volume};
use unkai_store::View;

use super::sources::{self, is_read};
use crate::assign::image_ref;

/// The pools that a host looks after.
pub fn pools(view: &View, host: &HostId) -> Vec<PoolItem> {
    let reached = view.all::<Pool>().filter(|pool| pool.is_reached_by(host));
    reached.map(|pool| PoolItem { id: pool.meta.id.to_string(), backend: pool.backend.clone(), mark: pool.status.mark.clone() }).collect()
}

/// A volume as its carrier needs it. None while what it begins with is missing.
pub fn volume(view: &View, volume: &Volume) -> Option<VolumeItem> {
    let (spec, status, id) = (&volume.spec, &volume.status, volume.meta.id.as_str());
    let pool = view.get(status.pool.as_ref()?)?;
    let present = !spec.deleted || is_read(view, id);
    // A host that does not reach a repository might find another place under its name.
    let backups = view.by_index::<Backup>("volume", id).filter(|backup| backup.is_wished());
    let backups = backups.filter(|backup| reaches(view, volume, &backup.repository));
    let source = if status.made || !present { Source::Blank } else { sources::source(view, volume).ok()? };
    Some(VolumeItem {
        id: id.to_owned(),
        generation: volume.meta.generation,
        backend: pool.backend.clone(),
        present,
        made: status.made,
        fence: spec.fence,
        size_gib: spec.size_gib,
        shared: spec.multi_attach,
        source,
        encryption: encryption(view, volume),
        in_use_by: user(view, volume),
        snapshots: snapshots(view, id),
        upload: spec.upload.as_ref().map(|upload| Upload { image: upload.image.clone(), format: upload.format.clone() }),
        backups: backups.filter_map(|backup| wish(view, &backup)).collect(),
        restore: restore(view, volume),
    })
}

/// Does the carrier reach this repository?
pub fn reaches(view: &View, volume: &Volume, repository: &Id<Pool>) -> bool {
    let carrier = volume.status.carrier.as_ref();
    carrier.is_some_and(|carrier| view.get(repository).is_some_and(|pool| pool.is_reached_by(carrier)))
}

fn wish(view: &View, backup: &Backup) -> Option<BackupWish> {
    Some(BackupWish {
        backup: backup.meta.id.to_string(),
        repository: view.get(&backup.repository)?.backend.clone(),
        snapshot: backup.snapshot.as_ref().map(Id::to_string),
        parent: backup.parent.as_ref().map(Id::to_string),
    })
}

/// Those that are wanted, and those that are to go but are being read. One that could not be taken is not asked for again.
fn snapshots(view: &View, volume: &str) -> Vec<String> {
    let wanted = |snapshot: &Arc<Snapshot>| match snapshot.deleted {
        true => is_read(view, snapshot.meta.id.as_str()),
        false => !matches!(snapshot.phase, SnapshotPhase::Failed(_)),
    };
    view.by_index::<Snapshot>("volume", volume).filter(wanted).map(|snapshot| snapshot.meta.id.to_string()).collect()
}

fn restore(view: &View, volume: &Volume) -> Option<Restore> {
    let wanted = volume.pending_restore()?;
    let from = match &wanted.from {
        volume::RestoreFrom::Snapshot(id) => RestoreFrom::Snapshot(id.to_string()),
        volume::RestoreFrom::Image(id) => RestoreFrom::Image(image_ref(view, id)?),
        volume::RestoreFrom::Backup(id) => {
            let backup = view.get(id).filter(|backup| reaches(view, volume, &backup.repository))?;
            RestoreFrom::Backup { repository: view.get(&backup.repository)?.backend.clone(), backup: id.to_string() }
        }
    };
    Some(Restore { number: wanted.number, from })
}

/// The server on the carrier that has the volume.
fn user(view: &View, volume: &Volume) -> Option<Id<Server>> {
    let carrier = volume.status.carrier.as_ref()?;
    let uses = view.by_index::<Attachment>("volume", volume.meta.id.as_str()).filter(|use_| use_.state != AttachState::Reserved);
    let mut servers = uses.filter_map(|use_| view.get(use_.server.as_ref()?));
    servers.find(|server| server.is_live() && server.status.host.as_ref() == Some(carrier)).map(|server| server.meta.id.clone())
}

pub fn encryption(view: &View, volume: &Volume) -> Option<Encryption> {
    let key = view.get(volume.spec.key.as_ref()?)?;
    Some(Encryption { cipher: key.cipher.clone(), mode: key.mode.clone(), passphrase: key.passphrase.clone() })
}

/// A backup that its carrier is to remove; none while another still needs it.
pub fn backup(view: &View, backup: &Backup) -> Option<BackupItem> {
    let id = backup.meta.id.as_str();
    let needed = is_read(view, id) || view.by_index::<Backup>("parent", id).next().is_some();
    let repository = view.get(&backup.repository)?.backend.clone();
    let item = BackupItem { id: id.to_owned(), generation: backup.meta.generation, repository, present: false };
    (backup.deleted && !needed).then_some(item)
}

/// The disks of a server, in the order of the guest's.
pub fn uses(view: &View, server: &Id<Server>) -> Vec<VolumeUse> {
    let mut wanted: Vec<_> = view.by_index::<Attachment>("server", server.as_str()).filter(|attachment| attachment.is_wanted()).collect();
    wanted.sort_by_key(|attachment| order(attachment));
    let taken: Vec<&str> = wanted.iter().filter_map(|attachment| device(attachment)).collect();
    let mut free = ('b'..='z').map(|letter| format!("vd{letter}")).filter(|name| !taken.contains(&name.as_str()));
    wanted.iter().filter_map(|attachment| one(view, attachment, &mut free)).collect()
}

/// The root disk, then by device: `vdz` before `vdaa`.
fn order(attachment: &Attachment) -> (Reverse<bool>, bool, usize, String, Option<u32>, Id<Attachment>) {
    let device = device(attachment).unwrap_or_default().to_owned();
    (Reverse(attachment.is_root()), device.is_empty(), device.len(), device, attachment.boot_index, attachment.meta.id.clone())
}

fn device(attachment: &Attachment) -> Option<&str> {
    attachment.device.as_deref().map(|device| device.trim_start_matches("/dev/")).filter(|device| !device.is_empty())
}

fn one(view: &View, attachment: &Attachment, free: &mut impl Iterator<Item = String>) -> Option<VolumeUse> {
    let volume = view.get(&attachment.volume)?;
    let device = match (device(attachment), attachment.is_root()) {
        (Some(device), _) => device.to_owned(),
        (None, true) => "vda".to_owned(),
        (None, false) => free.next()?,
    };
    Some(VolumeUse {
        volume: volume.meta.id.to_string(),
        generation: attachment.fence,
        backend: view.get(volume.status.pool.as_ref()?)?.backend.clone(),
        encryption: encryption(view, &volume),
        device,
        boot_index: attachment.boot_index,
        bus: attachment.bus.clone(),
        read_only: attachment.mode == Mode::ReadOnly || volume.spec.read_only,
        shared: volume.spec.multi_attach,
        tag: attachment.tag.clone(),
    })
}

/// What the image said that a server's root volume was made from. None: its root disk is not a volume.
pub fn root_metadata(view: &View, server: &Id<Server>) -> Option<BTreeMap<String, String>> {
    let mut attachments = view.by_index::<Attachment>("server", server.as_str());
    let root = attachments.find(|attachment| attachment.is_root() && attachment.is_wanted())?;
    Some(view.get(&root.volume).map(|volume| volume.spec.image_metadata.clone()).unwrap_or_default())
}
