//! How a migration ends.

use unkai_model::compute::{
    Migration, MigrationKind, MigrationState, Outcome, Phase, Resize, ResizeState, Run, Server, ServerAction, Verb, VmState,
};
use unkai_model::{Error, Id, Timestamp};
use unkai_store::{Tx, View};

use super::change;
use crate::placement::{arrived, bind_port};
use crate::{actions, retire};

/// The server runs at its destination.
pub fn with_success(tx: &mut Tx, migration: &Migration) -> Result<(), Error> {
    let (now, destination) = (tx.now(), migration.destination.clone());
    let server = tx.update(&migration.server, |server: &mut Server| {
        (server.status.host, server.status.migration) = (destination.clone(), None);
        if migration.kind == MigrationKind::Live {
            server.status.observed.since = Some(now);
        } else {
            begin_there(server, migration, now);
        }
        server.status.assigned = server.meta.generation;
        Ok::<_, Error>(())
    })?;
    for port in &server.spec.ports {
        bind_port(tx, port, destination.as_ref())?;
    }
    arrived(tx, &server.meta.id)?;
    let server = tx.require(&server.meta.id)?;
    tracing::info!(server = %server.meta.id, to = ?destination, "has moved");
    close(tx, migration, MigrationState::Completed, None)?;
    match migration.kind {
        MigrationKind::Live => settle_action(tx, migration, &Outcome::Success),
        // Over when its new host has done what is wanted.
        _ => await_generation(tx, migration, server.meta.generation),
    }
}

/// Its new host, which has its disks, has to do what is wanted of it.
fn begin_there(server: &mut Server, migration: &Migration, now: Timestamp) {
    let was = server.spec.asked.as_ref().map_or(VmState::Active, |asked| asked.was);
    let verb = if migration.kind == MigrationKind::Evacuate { Verb::Evacuate } else { Verb::Resize };
    if !migration.settles {
        server.spec.resize = Some(Resize {
            from: server.spec.launch.flavor.clone(),
            from_host: Some(migration.source.clone()),
            was: server.spec.run,
            state: ResizeState::Changing,
            since: now,
        });
    }
    if let Some(flavor) = &migration.flavor {
        server.spec.launch.flavor = flavor.clone();
    }
    server.ask(verb, was);
    server.status.observed = Default::default();
    server.status.fault = None;
}

fn await_generation(tx: &mut Tx, migration: &Migration, generation: u64) -> Result<(), Error> {
    let action = ServerAction::id(&migration.server, &migration.request);
    if tx.get(&action).is_none() {
        return Ok(());
    }
    tx.update(&action, |action: &mut ServerAction| {
        action.generation = Some(generation);
        Ok::<_, Error>(())
    })
    .map(drop)
}

/// Servers that go back to where they came from, and may start there now.
pub fn may_go_back(view: &View) -> Vec<Id<Server>> {
    view.by_index::<Server>("goes_back", "yes").filter(|server| has_ended(view, server)).map(|server| server.meta.id.clone()).collect()
}

fn has_ended(view: &View, server: &Server) -> bool {
    let off = server.is_settled() && matches!(server.status.observed.phase, Phase::Stopped(_));
    let fenced = server.status.host.as_ref().and_then(|host| view.get(host)).is_none_or(|host| host.is_fenced());
    off || fenced
}

pub fn go_back(tx: &mut Tx, servers: &[Id<Server>]) -> Result<(), Error> {
    for id in servers {
        let view = tx.view();
        let Some(server) = view.get(id).filter(|server| server.goes_back() && server.spec.run != Run::Deleted && has_ended(&view, server))
        else {
            continue;
        };
        let back = server.kept_at().cloned();
        let before = server.meta.generation;
        let server = tx.update(id, |server: &mut Server| {
            server.ask(Verb::RevertResize, VmState::Resized);
            server.status.host = back.clone();
            server.status.assigned = server.meta.generation;
            server.status.observed = Default::default();
            Ok::<_, Error>(())
        })?;
        for port in &server.spec.ports {
            bind_port(tx, port, back.as_ref())?;
        }
        arrived(tx, id)?;
        let open: Vec<_> = tx.by_index::<ServerAction>("open", id.as_str()).filter(|action| action.generation == Some(before)).collect();
        for action in open {
            tx.update(&action.meta.id, |action: &mut ServerAction| {
                action.generation = Some(server.meta.generation);
                Ok::<_, Error>(())
            })?;
        }
        tracing::info!(server = %id, to = ?back, "goes back");
    }
    Ok(())
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
