//! What a volume begins with, as far as it is still there.

use std::sync::Arc;

use unkai_link::volume as link;
use unkai_model::compute::Fault;
use unkai_model::volume::{Backup, Pool, RestoreFrom, Source, Volume, VolumePhase};
use unkai_model::{Error, Id, Kind};
use unkai_store::{Tx, View};

use super::items::{encryption, reaches};
use super::reports;
use crate::assign::image_ref;

/// The source as a host is told of it, or why it cannot be used.
pub fn source(view: &View, volume: &Volume) -> Result<link::Source, String> {
    Ok(match &volume.spec.source {
        Source::Blank => link::Source::Blank,
        Source::Image(id) => link::Source::Image(image_ref(view, id).ok_or_else(|| format!("Image {id} has no content to start from"))?),
        Source::Snapshot(id) => {
            let snapshot = found(view, id)?;
            let of = found(view, &snapshot.volume)?;
            let encryption = encryption(view, &of);
            link::Source::Snapshot { volume: of.meta.id.to_string(), snapshot: id.to_string(), encryption }
        }
        Source::Volume(id) => {
            let of = found(view, id)?;
            link::Source::Volume { volume: id.to_string(), encryption: encryption(view, &of) }
        }
        Source::Backup(id) => {
            let backup = found(view, id)?;
            // It has a carrier that was chosen among all hosts.
            if volume.status.carrier.is_some() && !reaches(view, volume, &backup.repository) {
                return Err(unreached(view, volume, &backup.repository));
            }
            link::Source::Backup { repository: found(view, &backup.repository)?.backend.clone(), backup: id.to_string() }
        }
    })
}

fn found<K: Kind>(view: &View, id: &Id<K>) -> Result<Arc<K>, String> {
    view.get(id).ok_or_else(|| Error::not_found::<K>(id).to_string())
}

/// The volume that this one is made from in the pool itself.
pub fn origin(view: &View, volume: &Volume) -> Option<Arc<Volume>> {
    match &volume.spec.source {
        Source::Volume(id) => view.get(id),
        Source::Snapshot(id) => view.get(&view.get(id)?.volume),
        Source::Blank | Source::Image(_) | Source::Backup(_) => None,
    }
}

/// Is this snapshot, volume or backup being read for a volume, or this snapshot for a backup?
pub fn is_read(view: &View, id: &str) -> bool {
    view.by_index::<Volume>("source", id).next().is_some() || view.by_index::<Backup>("reads", id).next().is_some()
}

fn unreached(view: &View, volume: &Volume, repository: &Id<Pool>) -> String {
    let host = volume.status.carrier.as_ref().and_then(|id| view.get(id)).map_or_else(String::new, |host| host.meta.name.clone());
    let pool = view.get(repository).map_or_else(|| repository.to_string(), |pool| pool.meta.name.clone());
    format!("host {host}, which works on volume {}, does not reach the repository {pool}", volume.meta.id)
}

/// Volumes that are being made and whose source is gone.
fn lost(view: &View) -> Vec<Id<Volume>> {
    let making = view.by_index::<Volume>("making", "yes").filter(|volume| volume.status.fault.is_none() && !volume.spec.deleted);
    making.filter(|volume| source(view, volume).is_err()).map(|volume| volume.meta.id.clone()).collect()
}

/// Backups that the carrier of their volume cannot make.
fn stranded_backups(view: &View) -> Vec<(Id<Backup>, String)> {
    let stranded = |backup: Arc<Backup>| {
        let volume = view.get(&backup.volume).filter(|volume| volume.status.carrier.is_some())?;
        (!reaches(view, &volume, &backup.repository)).then(|| (backup.meta.id.clone(), unreached(view, &volume, &backup.repository)))
    };
    view.by_index::<Backup>("wished", "yes").filter_map(stranded).collect()
}

/// Volumes that cannot be put back to what they are to be.
fn stranded_restores(view: &View) -> Vec<(Id<Volume>, String)> {
    let stranded = |volume: Arc<Volume>| {
        let over = volume.is_settled() && matches!(volume.status.phase, VolumePhase::Failed(_));
        if over || volume.status.carrier.is_none() {
            return None;
        }
        let reason = match &volume.pending_restore()?.from {
            RestoreFrom::Snapshot(_) => return None,
            RestoreFrom::Image(id) if image_ref(view, id).is_some() => return None,
            RestoreFrom::Image(id) => format!("Image {id} has no content to start from"),
            RestoreFrom::Backup(id) => match view.get(id) {
                Some(backup) if reaches(view, &volume, &backup.repository) => return None,
                Some(backup) => unreached(view, &volume, &backup.repository),
                None => Error::not_found::<Backup>(id).to_string(),
            },
        };
        Some((volume.meta.id.clone(), reason))
    };
    view.by_index::<Volume>("restoring", "yes").filter_map(stranded).collect()
}

pub fn is_due(view: &View) -> bool {
    !lost(view).is_empty() || !stranded_backups(view).is_empty() || !stranded_restores(view).is_empty()
}

/// Ends what cannot come about any more, and says why. After carriers were chosen as well as can be.
pub fn give_up(tx: &mut Tx) -> Result<(), Error> {
    for (id, reason) in stranded_backups(&tx.view()) {
        reports::end_backup(tx, &id, Err(reason))?;
    }
    for (id, reason) in stranded_restores(&tx.view()) {
        tx.update(&id, |volume: &mut Volume| {
            (volume.status.phase, volume.status.generation) = (VolumePhase::Failed(reason), volume.meta.generation);
            Ok::<_, Error>(())
        })?;
    }
    for id in lost(&tx.view()) {
        if let Some(Err(reason)) = tx.get(&id).map(|volume| source(&tx.view(), &volume)) {
            fail(tx, &id, reason)?;
        }
    }
    Ok(())
}

/// It will not be made, and says why.
pub fn fail(tx: &mut Tx, id: &Id<Volume>, message: String) -> Result<(), Error> {
    tracing::info!(volume = %id, reason = message, "not made");
    let at = tx.now();
    tx.update(id, |volume: &mut Volume| {
        volume.status.fault = Some(Fault { code: 500, message, details: String::new(), at });
        Ok::<_, Error>(())
    })
    .map(drop)
}
