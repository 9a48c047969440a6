//! What hosts say of the moves they take part in. What is said twice, or of a move that is over, changes nothing.

use unkai_link::item::HostId;
use unkai_link::migration::{MigrationReport, Stage};
use unkai_model::compute::{Endpoint, Migration, MigrationState};
use unkai_model::{Error, Id};
use unkai_store::Tx;

use super::{change, end};

pub fn take(tx: &mut Tx, host: &HostId, report: &MigrationReport) -> Result<(), Error> {
    let id = Id::<Migration>::new(report.migration.as_str());
    let Some(migration) = tx.get(&id) else { return Ok(()) };
    if !migration.is_open() {
        return late(tx, &migration, host, &report.stage);
    }
    if migration.destination.as_ref() == Some(host) {
        return of_destination(tx, &migration, &report.stage);
    }
    if migration.source == *host { of_source(tx, &migration, &report.stage) } else { Ok(()) }
}

fn of_destination(tx: &mut Tx, migration: &Migration, stage: &Stage) -> Result<(), Error> {
    match stage {
        Stage::Listening { port, token } if migration.state == MigrationState::Preparing => {
            let endpoint = Endpoint { port: *port, token: token.clone() };
            change(tx, &migration.meta.id, |migration| {
                (migration.state, migration.endpoint) = (MigrationState::Running, Some(endpoint));
            })
        }
        Stage::GaveUp(reason) => unsuccessful(tx, migration, reason),
        Stage::Arrived => end::with_success(tx, migration),
        Stage::Listening { .. } | Stage::Moving(_) | Stage::HandedOver(_) | Stage::Failed(_) => Ok(()),
    }
}

fn of_source(tx: &mut Tx, migration: &Migration, stage: &Stage) -> Result<(), Error> {
    match stage {
        Stage::Moving(progress) if migration.progress != *progress && !migration.handed_over => {
            change(tx, &migration.meta.id, |migration| migration.progress = *progress)
        }
        Stage::HandedOver(progress) if !migration.handed_over => change(tx, &migration.meta.id, |migration| {
            (migration.progress, migration.handed_over) = (*progress, true);
        }),
        Stage::Failed(reason) => unsuccessful(tx, migration, reason),
        Stage::Moving(_) | Stage::HandedOver(_) | Stage::Listening { .. } | Stage::GaveUp(_) | Stage::Arrived => Ok(()),
    }
}

/// For how long the guest stood still is known when all is over.
fn late(tx: &mut Tx, migration: &Migration, host: &HostId, stage: &Stage) -> Result<(), Error> {
    match stage {
        Stage::HandedOver(progress) if migration.state == MigrationState::Completed && migration.source == *host => {
            if progress.downtime_millis.is_some() && migration.progress != *progress {
                return change(tx, &migration.meta.id, |migration| migration.progress = *progress);
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// When it was asked to be given up, that is the reason.
fn unsuccessful(tx: &mut Tx, migration: &Migration, reason: &str) -> Result<(), Error> {
    match &migration.abort {
        Some(asked) => end::without_success(tx, migration, MigrationState::Cancelled, asked),
        None => end::without_success(tx, migration, MigrationState::Failed, reason),
    }
}
