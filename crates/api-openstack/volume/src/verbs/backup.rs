//! Backups of volumes, and volumes of backups.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use unkai_model::volume::{Backup, BackupPhase, Pool, RestoreFrom, Snapshot, SnapshotPhase, Volume};
use unkai_model::{Error, Id, Meta};
use unkai_store::{Tx, View};

use super::state::{State, state};
use super::{New, create, limits, put_back};

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
    match state(&view, &volume) {
        State::Available => {}
        State::InUse if new.force || new.snapshot.is_some() => {}
        State::InUse => return Err(Error::invalid("Invalid volume: Backing up an in-use volume must use the force flag.")),
        other => {
            let now = other.as_str();
            let text = format!("Invalid volume: Volume to be backed up must be available or in-use, but the current status is \"{now}\".");
            return Err(Error::invalid(text));
        }
    }
    let snapshot = new.snapshot.as_ref().map(|id| the_snapshot(&view, &volume, id)).transpose()?;
    let parent = if new.incremental { Some(newest(&view, &volume)?) } else { None };
    let repository = match &parent {
        // Its pieces are where the others are.
        Some(parent) => view.get(&parent.repository).filter(|pool| works(&volume, pool)),
        None => repository(&view, &volume),
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
    match !snapshot.deleted && snapshot.phase == SnapshotPhase::Available {
        true => Ok(snapshot),
        false => Err(Error::invalid("Invalid snapshot: Snapshot to be backed up must be available.")),
    }
}

/// The newest whole backup of a volume that an incremental one can build on.
fn newest(view: &View, volume: &Volume) -> Result<Arc<Backup>, Error> {
    let whole = view.by_index::<Backup>("volume", volume.meta.id.as_str());
    let whole = whole.filter(|backup| backup.phase == BackupPhase::Available && !backup.deleted && backup.key == volume.spec.key);
    let newest = whole.max_by_key(|backup| (backup.data_timestamp, backup.meta.id.clone()));
    newest.ok_or_else(|| Error::invalid("Invalid backup: No backups available to do an incremental backup."))
}

/// Where a backup goes: a place that works for who works on the volume, another than the volume's own if there is one, the emptiest.
fn repository(view: &View, volume: &Volume) -> Option<Arc<Pool>> {
    let pools = view.all::<Pool>().filter(|pool| works(volume, pool));
    pools.max_by_key(|pool| (Some(&pool.meta.id) != volume.status.pool.as_ref(), pool.space().1, Reverse(pool.meta.name.clone())))
}

/// Who works on the volume can put backups there.
fn works(volume: &Volume, pool: &Pool) -> bool {
    let carrier = volume.status.carrier.as_ref();
    let reached = carrier.is_none_or(|carrier| pool.is_reached_by(carrier));
    let fault = carrier.and_then(|carrier| pool.status.hosts.get(carrier)).is_some_and(|reached| reached.fault.is_some());
    pool.keeps_backups && pool.disabled.is_none() && reached && !fault
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
    tx.require(&volume.meta.id)
}

fn touch(tx: &mut Tx, volume: &Id<Volume>) -> Result<(), Error> {
    tx.update(volume, |volume: &mut Volume| {
        volume.meta.generation += 1;
        Ok::<_, Error>(())
    })
    .map(drop)
}
