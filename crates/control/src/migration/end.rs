//! How a migration ends.

use unkai_model::compute::{Migration, MigrationState, Outcome, Phase, Run, Server, ServerAction};
use unkai_model::{Error, Id};
use unkai_store::Tx;

use super::change;
use crate::placement::bind_port;
use crate::{actions, retire};

/// The server runs at its destination.
pub fn with_success(tx: &mut Tx, migration: &Migration) -> Result<(), Error> {
    let (now, destination) = (tx.now(), migration.destination.clone());
    let server = tx.update(&migration.server, |server: &mut Server| {
        let status = &mut server.status;
        (status.host, status.migration) = (destination.clone(), None);
        (status.assigned, status.observed.since) = (server.meta.generation, Some(now));
        Ok::<_, Error>(())
    })?;
    for port in &server.spec.ports {
        bind_port(tx, port, destination.as_ref())?;
    }
    tracing::info!(server = %server.meta.id, to = ?destination, "has moved");
    close(tx, migration, MigrationState::Completed, None)?;
    settle_action(tx, migration, &Outcome::Success)
}

/// It stays what and where it is.
pub fn without_success(tx: &mut Tx, migration: &Migration, state: MigrationState, reason: &str) -> Result<(), Error> {
    tracing::info!(server = %migration.server, reason, "does not move");
    close(tx, migration, state, Some(reason.to_owned()))?;
    settle_action(tx, migration, &Outcome::Error(reason.to_owned()))?;
    let Some(server) = tx.get(&migration.server).filter(|server| server.status.migration.as_ref() == Some(&migration.meta.id)) else {
        return Ok(());
    };
    tx.update(&server.meta.id, |server: &mut Server| {
        server.status.migration = None;
        Ok::<_, Error>(())
    })?;
    // Its deletion waited for this.
    let gone = server.status.observed.phase == Phase::Gone && server.status.observed.generation == server.meta.generation;
    if server.is_live() && server.spec.run == Run::Deleted && gone { retire::finish(tx, &server.meta.id) } else { Ok(()) }
}

fn close(tx: &mut Tx, migration: &Migration, state: MigrationState, failure: Option<String>) -> Result<(), Error> {
    let now = tx.now();
    change(tx, &migration.meta.id, |migration| {
        (migration.state, migration.failure, migration.ended, migration.endpoint) = (state, failure, Some(now), None);
    })
}

fn settle_action(tx: &mut Tx, migration: &Migration, outcome: &Outcome) -> Result<(), Error> {
    let action = ServerAction::id(&migration.server, &migration.request);
    actions::settle_one(tx, &action, outcome)
}

/// A server's document goes, and so do its migrations.
pub fn forget(tx: &mut Tx, server: &Id<Server>) -> Result<(), Error> {
    let migrations: Vec<_> = tx.by_index::<Migration>("server", server.as_str()).collect();
    migrations.iter().try_for_each(|migration| tx.delete(&migration.meta.id).map(drop))
}
