//! A host that is drained: it takes no servers any more, and those that it has leave it, a few at a time.
//!
//! What waits, and why, is derived from the documents, so that whoever asks is told the truth of the moment: [`remaining`]. Nothing is
//! remembered beside the failed migrations themselves.

use std::sync::Arc;
use std::time::Duration;

use unkai_link::item::HostId;
use unkai_model::compute::{Host, Migration, MigrationKind, MigrationState, Phase, ResizeState, Run, Server, ServerAction, Verb, VmState};
use unkai_model::{Error, Id, Meta, Timestamp};
use unkai_store::{Tx, View};

/// How many leave a host at a time.
const AT_ONCE: usize = 2;
/// A server that could not leave is tried again after this.
const AGAIN: Duration = Duration::from_secs(60);
/// In `Host::disabled` of a host that was enabled when it was drained.
const REASON: &str = "draining";

/// Why a server is still there.
#[derive(Debug, Clone, PartialEq)]
pub enum Remains {
    /// It is on its way.
    Moves(String),
    /// Its turn comes.
    Next(MigrationKind),
    /// It has to wait for something; what.
    Waits(String),
}

/// Begins, or ends, the draining of a host.
pub fn set(tx: &mut Tx, host: &HostId, drain: bool) -> Result<(), Error> {
    let now = tx.now();
    tx.update(host, |host: &mut Host| {
        match (drain, host.drain) {
            (true, None) => {
                host.drain = Some(now);
                host.disabled.get_or_insert_with(|| REASON.to_owned());
            }
            (false, Some(_)) => {
                host.drain = None;
                if host.disabled.as_deref() == Some(REASON) {
                    host.disabled = None;
                }
            }
            _ => {}
        }
        Ok::<_, Error>(())
    })
    .map(drop)
}

/// All that a host still has, the most important first, and why.
pub fn remaining(view: &View, host: &HostId, now: Timestamp) -> Vec<(Arc<Server>, Remains)> {
    let mut servers: Vec<Arc<Server>> = view.by_index::<Server>("host", host.as_str()).collect();
    servers.sort_by_key(|server| (std::cmp::Reverse(server.spec.priority), server.meta.created, server.meta.id.clone()));
    let kept = view
        .by_index::<Server>("kept", host.as_str())
        .map(|server| (server, waits("its disks are kept here until its resize is confirmed")));
    servers.into_iter().map(|server| (server.clone(), remains(view, host, &server, now))).chain(kept).collect()
}

fn waits(reason: &str) -> Remains {
    Remains::Waits(reason.to_owned())
}

fn remains(view: &View, host: &HostId, server: &Server, now: Timestamp) -> Remains {
    if let Some(migration) = super::of(view, server) {
        let to = migration
            .destination
            .as_ref()
            .and_then(|host| view.get(host))
            .map_or_else(|| "another host".into(), |host| host.meta.name.clone());
        return Remains::Moves(to);
    }
    let kind = match kind(server) {
        Ok(kind) => kind,
        Err(reason) => return waits(reason),
    };
    let failed = view.by_index::<Migration>("server", server.meta.id.as_str()).filter(|migration| migration.source == *host);
    let last = failed.filter(|migration| migration.state == MigrationState::Failed).max_by_key(|migration| migration.number);
    let recent = last.filter(|migration| migration.ended.is_some_and(|ended| now.duration_since(ended).unsigned_abs() < AGAIN));
    match recent {
        Some(migration) => Remains::Waits(format!("it is tried again soon: {}", migration.failure.clone().unwrap_or_default())),
        None => Remains::Next(kind),
    }
}

/// How it can leave now, or what is in the way.
fn kind(server: &Server) -> Result<MigrationKind, &'static str> {
    let spec = &server.spec;
    if spec.run == Run::Deleted {
        return Err("it is being deleted");
    }
    if let Some(resize) = &spec.resize {
        return Err(match resize.state {
            ResizeState::WaitsForConfirm => "its resize is to be confirmed or reverted",
            ResizeState::Changing | ResizeState::Reverting => "it is being resized",
        });
    }
    if spec.rescue.is_some() {
        return Err("it is in rescue");
    }
    if matches!(spec.run, Run::Shelved | Run::Offloaded) {
        return Err("it is being shelved");
    }
    if !server.is_settled() {
        return Err("its host is doing something to it");
    }
    match &server.status.observed.phase {
        Phase::Running | Phase::Paused => Ok(MigrationKind::Live),
        Phase::Stopped(_) => Ok(MigrationKind::Cold),
        Phase::Suspended => Err("it is suspended: it is to be resumed, or shelved"),
        Phase::Failed(_) | Phase::Gone | Phase::Unknown | Phase::Preparing(_) => Err("it is in error"),
    }
}

/// Drained hosts that a server could begin to leave.
pub fn due(view: &View, now: Timestamp) -> Vec<HostId> {
    let drained = view.by_index::<Host>("drain", "yes").filter(|host| host.is_up());
    drained.filter(|host| !chosen(view, &host.meta.id, now).is_empty()).map(|host| host.meta.id.clone()).collect()
}

/// Those whose turn it is.
fn chosen(view: &View, host: &HostId, now: Timestamp) -> Vec<(Arc<Server>, MigrationKind)> {
    let all = remaining(view, host, now);
    let moving = all.iter().filter(|(_, remains)| matches!(remains, Remains::Moves(_))).count();
    let next = all.into_iter().filter_map(|(server, remains)| match remains {
        Remains::Next(kind) => Some((server, kind)),
        Remains::Moves(_) | Remains::Waits(_) => None,
    });
    next.take(AT_ONCE.saturating_sub(moving)).collect()
}

pub fn act(tx: &mut Tx, hosts: &[HostId]) -> Result<(), Error> {
    let now = tx.now();
    for host in hosts {
        for (server, kind) in chosen(&tx.view(), host, now) {
            begin(tx, host, &server, kind)?;
        }
    }
    Ok(())
}

/// As if an administrator had asked.
fn begin(tx: &mut Tx, host: &HostId, server: &Server, kind: MigrationKind) -> Result<(), Error> {
    let number = tx.all::<Migration>().map(|migration| migration.number).max().unwrap_or(0) + 1;
    let id: Id<Migration> = tx.new_id();
    let mut migration = Migration::new(Meta::new(id.clone()), number, kind, server, host.clone());
    migration.settles = true;
    migration.request = format!("req-{id}");
    let (name, verb, was) = match kind {
        MigrationKind::Live if server.status.observed.phase == Phase::Paused => ("live-migration", Verb::LiveMigrate, VmState::Paused),
        MigrationKind::Live => ("live-migration", Verb::LiveMigrate, VmState::Active),
        _ => ("migrate", Verb::Migrate, VmState::Stopped),
    };
    let mut action = ServerAction {
        meta: Meta::new(ServerAction::id(&server.meta.id, &migration.request)).named(name),
        server: server.meta.id.clone(),
        request: migration.request.clone(),
        user: String::new(),
        project: None,
        started: tx.now(),
        generation: None,
        message: None,
        events: Vec::new(),
    };
    action.start("compute_live_migration", Some(host.clone()), tx.now());
    tx.insert(action)?;
    tx.insert(migration)?;
    tx.update(&server.meta.id, |server: &mut Server| {
        server.status.migration = Some(id.clone());
        server.ask_control(verb, was);
        Ok::<_, Error>(())
    })
    .map(drop)
}
