//! Backups of volumes, and volumes of backups.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use unkai_model::compute::Host;
use unkai_model::volume::{AttachState, Attachment, Backend, Backup, BackupPhase, Pool, RestoreFrom, Snapshot, Volume};
use unkai_model::{Error, Id, Meta};
use unkai_store::{Tx, View};

use super::snapshot::{snapshot_state, touch};
use super::state::{State, state};
use super::{New, create, limits, put_back};
use crate::zones;

/// A backup that is wanted.
#[derive(Debug, Clone, Default)]
pub struct NewBackup {
    pub user: String,
    pub name: String,
    pub description: Option<String>,
    pub container: Option<String>,
    pub zone: Option<String>,
    pub metadata: BTreeMap<String, String>,
    pub snapshot: Option<Id<Snapshot>>,
    /// What the newest backup of the volume has is not stored again.
    pub incremental: bool,
    /// Even of a volume that a server uses: then it is as after a power failure.
    pub force: bool,
}

/// Asks for a backup of a volume; it belongs to the volume's project, which is charged.
pub fn backup(tx: &mut Tx, id: &Id<Volume>, new: NewBackup) -> Result<Arc<Backup>, Error> {
    let volume = tx.require(id)?;
    let view = tx.view();
    let snapshot = new.snapshot.as_ref().map(|id| the_snapshot(&view, &volume, id)).transpose()?;
    match state(&view, &volume) {
        // It is the snapshot that is read.
        _ if snapshot.is_some() => {}
        State::Available => {}
        State::InUse if new.force => {}
        State::InUse => return Err(Error::invalid("Invalid volume: Backing up an in-use volume must use the force flag.")),
        other => {
            let now = other.as_str();
            let text = format!("Invalid volume: Volume to be backed up must be available or in-use, but the current status is \"{now}\".");
            return Err(Error::invalid(text));
        }
    }
    let parent = if new.incremental { Some(newest(&view, &volume, snapshot.as_deref())?) } else { None };
    let usable = |pool: &Pool| works(&view, &volume, pool, new.zone.as_deref());
    let repository = match &parent {
        // Its pieces are where the others are.
        Some(parent) => view.get(&parent.repository).filter(|pool| usable(pool)),
        None => repository(&view, &volume, usable),
    };
    let repository = repository.ok_or_else(no_service)?.meta.id.clone();
    if let Some(project) = &volume.meta.project {
        limits::check(tx, project, &["backups", "backup_gigabytes"]);
    }
    let mut meta = Meta::new(tx.new_id()).named(new.name);
    meta.project = volume.meta.project.clone();
    let moment = snapshot.as_ref().map_or(tx.now(), |snapshot| snapshot.meta.created);
    let made = tx.insert(Backup {
        snapshot: new.snapshot,
        parent: parent.map(|parent| parent.meta.id.clone()),
        description: new.description,
        container: new.container,
        zone: new.zone,
        metadata: new.metadata,
        size_gib: snapshot.map_or(volume.spec.size_gib, |snapshot| snapshot.size_gib),
        ..Backup::new(meta, new.user, &volume, repository, moment)
    })?;
    touch(tx, id)?;
    Ok(made)
}

fn no_service() -> Error {
    let why = "no storage pool that keeps backups works and is reached by the volume's host, or it is not where the earlier ones are";
    Error::unavailable(format!("Service cinder-backup could not be found: {why}."))
}

fn the_snapshot(view: &View, volume: &Volume, id: &Id<Snapshot>) -> Result<Arc<Snapshot>, Error> {
    let of_it = |snapshot: &Arc<Snapshot>| snapshot.volume == volume.meta.id;
    let snapshot = view.get(id).filter(of_it).ok_or_else(|| Error::not_found::<Snapshot>(id))?;
    match snapshot_state(view, &snapshot) {
        "available" => Ok(snapshot),
        now => Err(Error::invalid(format!(
            "Invalid snapshot: Snapshot to be backed up must be available, but the current status is \"{now}\"."
        ))),
    }
}

/// The newest whole backup of a volume that an incremental one can build on; of a snapshot, one of an earlier content.
fn newest(view: &View, volume: &Volume, snapshot: Option<&Snapshot>) -> Result<Arc<Backup>, Error> {
    let earlier = |backup: &Backup| snapshot.is_none_or(|snapshot| backup.data_timestamp < snapshot.meta.created);
    let fits = |backup: &Arc<Backup>| {
        let whole = backup.phase == BackupPhase::Available && backup.reset.is_none() && !backup.deleted;
        whole && backup.key == volume.spec.key && earlier(backup)
    };
    let all = view.by_index::<Backup>("volume", volume.meta.id.as_str()).filter(fits);
    let newest = all.max_by_key(|backup| (backup.data_timestamp, backup.meta.created));
    newest.ok_or_else(|| Error::invalid("Invalid backup: No backups available to do an incremental backup."))
}

/// Where a backup goes: a place that who works on the volume reaches, another than the volume's own if there is one, the emptiest.
fn repository(view: &View, volume: &Volume, usable: impl Fn(&Pool) -> bool) -> Option<Arc<Pool>> {
    let rank = |pool: &Arc<Pool>| {
        let reached = volume.status.carrier.as_ref().is_none_or(|carrier| pool.is_reached_by(carrier));
        (reached, Some(&pool.meta.id) != volume.status.pool.as_ref(), pool.space().1, Reverse(pool.meta.name.clone()))
    };
    view.all::<Pool>().filter(|pool| usable(pool)).max_by_key(rank)
}

/// Somebody who works on the volume, or can, is able to put backups there.
fn works(view: &View, volume: &Volume, pool: &Pool, zone: Option<&str>) -> bool {
    let able = |host: &Arc<Host>| {
        let fault = pool.status.hosts.get(&host.meta.id).is_some_and(|reached| reached.fault.is_some());
        host.is_up() && pool.is_reached_by(&host.meta.id) && !fault
    };
    let in_zone = |zone: &str| view.all::<Host>().any(|host| able(&host) && zones::of_host(view, &host) == zone);
    let mut workers = workers(view, volume);
    // Who works on it goes on where it reaches the place, whatever others could do.
    let stays = |host: &Arc<Host>| volume.status.carrier.as_ref() == Some(&host.meta.id) && pool.is_reached_by(&host.meta.id);
    if let Some(carrier) = workers.iter().find(|host| host.is_up() && stays(host)).cloned() {
        workers = vec![carrier];
    }
    pool.keeps_backups && pool.disabled.is_none() && workers.iter().any(able) && zone.is_none_or(in_zone)
}

/// The hosts of which one will do the work: who has the volume, else any that reach its pool.
fn workers(view: &View, volume: &Volume) -> Vec<Arc<Host>> {
    let Some(pool) = volume.status.pool.as_ref().and_then(|id| view.get(id)) else { return Vec::new() };
    let mut uses = view.by_index::<Attachment>("volume", volume.meta.id.as_str());
    let used = uses.any(|attachment| attachment.state != AttachState::Reserved && attachment.server.is_some());
    let only = match (&pool.backend, &volume.status.carrier) {
        (_, Some(carrier)) if used => Some(carrier.clone()),
        (Backend::Iscsi { target, .. }, _) => Some(Id::new(target.as_str())),
        _ => None,
    };
    match only {
        Some(host) => view.get(&host).into_iter().collect(),
        None => view.all::<Host>().filter(|host| pool.is_reached_by(&host.meta.id)).collect(),
    }
}

/// The state of a backup in the field's words.
pub fn backup_state<'a>(view: &View, backup: &'a Backup) -> &'a str {
    match (&backup.reset, backup.deleted, &backup.phase) {
        (Some(word), ..) => word,
        (None, true, BackupPhase::Failed(_)) => "error_deleting",
        (None, true, _) => "deleting",
        (None, false, BackupPhase::Creating) => "creating",
        (None, false, BackupPhase::Failed(_)) => "error",
        (None, false, BackupPhase::Available) => {
            let read = view.by_index::<Volume>("source", backup.meta.id.as_str()).next().is_some();
            if read { "restoring" } else { "available" }
        }
    }
}

/// Asks for the end of a backup; its document goes when its bytes have. `force`: whatever state it is in.
pub fn delete_backup(tx: &mut Tx, id: &Id<Backup>, force: bool) -> Result<(), Error> {
    let backup = tx.require(id)?;
    let now = backup_state(&tx.view(), &backup);
    if !force && !["available", "error", "error_deleting", "deleting"].contains(&now) {
        return Err(Error::invalid("Invalid backup: Backup status must be available or error"));
    }
    if tx.by_index::<Backup>("parent", id.as_str()).next().is_some() {
        return Err(Error::invalid("Invalid backup: Incremental backups exist for this backup."));
    }
    if now == "deleting" && backup.deleted {
        return Ok(());
    }
    tx.update(id, |backup: &mut Backup| {
        backup.meta.generation += 1;
        backup.deleted = true;
        backup.reset = None;
        if matches!(backup.phase, BackupPhase::Failed(_)) {
            backup.phase = BackupPhase::Available;
        }
        Ok::<_, Error>(())
    })?;
    // Whoever still makes it hears that it is not wanted.
    match tx.get(&backup.volume) {
        Some(_) if backup.phase == BackupPhase::Creating => touch(tx, &backup.volume),
        _ => Ok(()),
    }
}

/// Puts the content of a backup into a volume, or into a new one.
pub fn restore_backup(tx: &mut Tx, id: &Id<Backup>, into: Option<&Id<Volume>>, new: New) -> Result<Arc<Volume>, Error> {
    let backup = tx.require(id)?;
    if backup_state(&tx.view(), &backup) != "available" {
        return Err(Error::invalid("Invalid backup: Backup status must be available"));
    }
    let Some(volume) = into else { return create(tx, new) };
    let volume = tx.require(volume)?;
    let (size, needed) = (volume.spec.size_gib, backup.size_gib);
    let now = state(&tx.view(), &volume);
    if now != State::Available {
        return Err(Error::invalid("Invalid volume: Volume to be restored to must be available"));
    }
    if size < needed {
        return Err(Error::invalid(format!("Invalid volume: volume size {size} is too small to restore backup of size {needed}.")));
    }
    if volume.spec.key != backup.key {
        let text = "Invalid volume: a backup of an encrypted volume goes into that volume or into a new one, and another into none that is \
                    encrypted.";
        return Err(Error::invalid(text));
    }
    put_back(tx, &volume.meta.id, RestoreFrom::Backup(id.clone()))?;
    tx.update(&volume.meta.id, |volume: &mut Volume| {
        let was = backup.was.clone();
        volume.spec.metadata.extend(was.metadata);
        (volume.spec.bootable, volume.spec.image_metadata) = (was.bootable, was.image_metadata);
        Ok::<_, Error>(())
    })
}
