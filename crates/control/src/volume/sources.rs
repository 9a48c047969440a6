//! What a volume begins with, as far as it is still there.

use std::sync::Arc;

use unkai_link::volume as link;
use unkai_model::compute::Fault;
use unkai_model::volume::{Source, Volume};
use unkai_model::{Error, Id, Kind};
use unkai_store::{Tx, View};

use super::items::encryption;
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

/// Is this snapshot, volume or backup being read for a volume?
pub fn is_read(view: &View, id: &str) -> bool {
    view.by_index::<Volume>("source", id).next().is_some()
}

/// Volumes that are being made and whose source is gone.
pub fn lost(view: &View) -> Vec<Id<Volume>> {
    let making = view.by_index::<Volume>("making", "yes").filter(|volume| volume.status.fault.is_none() && !volume.spec.deleted);
    making.filter(|volume| source(view, volume).is_err()).map(|volume| volume.meta.id.clone()).collect()
}

pub fn give_up(tx: &mut Tx) -> Result<(), Error> {
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
