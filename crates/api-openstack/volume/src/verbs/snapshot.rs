//! Snapshots of volumes.

use std::collections::BTreeMap;
use std::sync::Arc;

use unkai_model::volume::{Backup, Snapshot, SnapshotPhase, Volume};
use unkai_model::{Error, Id, Meta};
use unkai_store::{Tx, View};

use super::limits;
use super::state::{State, state};

/// The state of a snapshot in the field's words.
pub fn snapshot_state<'a>(view: &View, snapshot: &'a Snapshot) -> &'a str {
    match (&snapshot.reset, snapshot.deleted, &snapshot.phase) {
        (Some(word), ..) => word,
        (None, true, SnapshotPhase::Failed(_)) => "error_deleting",
        (None, true, _) => "deleting",
        (None, false, SnapshotPhase::Creating) => "creating",
        (None, false, SnapshotPhase::Available) if is_backed_up(view, snapshot) => "backing-up",
        (None, false, SnapshotPhase::Available) => "available",
        (None, false, SnapshotPhase::Failed(_)) => "error",
    }
}

/// Is a backup of it still being made?
pub(super) fn is_backed_up(view: &View, snapshot: &Snapshot) -> bool {
    view.by_index::<Backup>("reads", snapshot.meta.id.as_str()).next().is_some()
}

/// A snapshot that is wanted.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    pub user: String,
    pub name: String,
    pub description: Option<String>,
    pub metadata: BTreeMap<String, String>,
    /// Even of a volume that a server uses: then it is as after a power failure.
    pub force: bool,
}

/// Asks for a snapshot of a volume; it belongs to the volume's project, which is charged.
pub fn snapshot(tx: &mut Tx, id: &Id<Volume>, wanted: Wanted) -> Result<Arc<Snapshot>, Error> {
    let volume = tx.require(id)?;
    match state(&tx.view(), &volume) {
        State::Available => {}
        State::InUse if wanted.force => {}
        other => {
            let states = if wanted.force { "available or in-use" } else { "available" };
            let now = other.as_str();
            let text = format!("Invalid volume: Volume {id} status must be {states}, but current status is: {now}.");
            return Err(Error::invalid(text));
        }
    }
    if let Some(project) = &volume.meta.project {
        limits::check(tx, project, &["snapshots", "gigabytes"]);
        if let Some(kind) = tx.get(&volume.spec.volume_type) {
            limits::check_type(tx, project, &kind, &["snapshots", "gigabytes"]);
        }
    }
    let mut meta = Meta::new(tx.new_id()).named(wanted.name);
    meta.project = volume.meta.project.clone();
    let new = Snapshot::new(meta, wanted.user, id.clone(), volume.spec.size_gib);
    let volume_type = Some(volume.spec.volume_type.clone());
    let snapshot = tx.insert(Snapshot { volume_type, description: wanted.description, metadata: wanted.metadata, ..new })?;
    touch(tx, id)?;
    Ok(snapshot)
}

/// Asks for the end of a snapshot; its document goes when it has. `force`: whatever state it is in.
pub fn delete_snapshot(tx: &mut Tx, id: &Id<Snapshot>, force: bool) -> Result<(), Error> {
    let snapshot = tx.require(id)?;
    let busy = snapshot.phase == SnapshotPhase::Creating || is_backed_up(&tx.view(), &snapshot);
    let idle = snapshot.deleted || snapshot.reset.is_some() || !busy;
    if !idle && !force {
        return Err(Error::invalid("Invalid snapshot: Snapshot status must be available or error, and must not be in a group."));
    }
    tx.update(id, |snapshot: &mut Snapshot| {
        snapshot.deleted = true;
        if matches!(snapshot.phase, SnapshotPhase::Failed(_)) {
            snapshot.phase = SnapshotPhase::Available;
        }
        Ok::<_, Error>(())
    })?;
    touch(tx, &snapshot.volume)
}

/// The carrier has something new to do.
pub(super) fn touch(tx: &mut Tx, volume: &Id<Volume>) -> Result<(), Error> {
    tx.update(volume, |volume: &mut Volume| {
        volume.meta.generation += 1;
        Ok::<_, Error>(())
    })
    .map(drop)
}
