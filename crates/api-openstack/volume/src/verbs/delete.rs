//! The end of volumes.

use unkai_model::volume::{Attachment, Snapshot, Volume};
use unkai_model::{Error, Id};
use unkai_store::Tx;

use super::snapshot::is_backed_up;
use super::state::{State, state};

/// How a volume is to go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Going {
    /// With its snapshots.
    pub cascade: bool,
    /// Whatever state it is in. Not while a server has it.
    pub force: bool,
}

/// Asks for the end of a volume; its document goes when nothing is left of it in its pool.
pub fn delete(tx: &mut Tx, id: &Id<Volume>, going: Going) -> Result<(), Error> {
    let volume = tx.require(id)?;
    let view = tx.view();
    let state = state(&view, &volume);
    if volume.spec.deleted && state == State::Deleting {
        return Ok(());
    }
    let idle = matches!(
        state,
        State::Available | State::Error | State::ErrorRestoring | State::ErrorExtending | State::ErrorBackingUp | State::ErrorDeleting
    );
    let used = view.by_index::<Attachment>("volume", id.as_str()).next().is_some();
    let snapshots: Vec<_> = view.by_index::<Snapshot>("volume", id.as_str()).collect();
    let idle = idle && !snapshots.iter().any(|snapshot| is_backed_up(&view, snapshot));
    if used || !snapshots.is_empty() && !going.cascade || !idle && !going.force {
        return Err(Error::invalid(
            "Invalid volume: Volume status must be available or error or error_restoring or error_extending or error_managing and must not be \
             migrating, attached, belong to a group, have snapshots, awaiting a transfer, or be disassociated from snapshots after volume \
             transfer.",
        ));
    }
    for snapshot in snapshots {
        tx.update(&snapshot.meta.id, |snapshot: &mut Snapshot| {
            snapshot.deleted = true;
            Ok::<_, Error>(())
        })?;
    }
    tx.update(id, |volume: &mut Volume| {
        volume.meta.generation += 1;
        volume.spec.deleted = true;
        Ok::<_, Error>(())
    })
    .map(drop)
}
