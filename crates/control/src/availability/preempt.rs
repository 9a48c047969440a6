//! Preemptible servers give their processors and memory to servers of a lost host, and go on when there is room again.

use std::cmp::Reverse;

use unkai_link::item::HostId;
use unkai_model::compute::{Host, Preempted, Run, Server, ServerAction, Verb, VmState};
use unkai_model::{Error, Id, Meta};
use unkai_store::{Tx, View};

use crate::placement;

/// Whom to stop so that a server finds room: the least important first, and of those the newest.
pub fn victims(view: &View, host: &Host, needs: &[(&'static str, i64)]) -> Vec<Id<Server>> {
    let mut servers: Vec<_> = view.by_index::<Server>("displaceable", host.meta.id.as_str()).collect();
    servers.sort_by_key(|server| (server.spec.priority, Reverse(server.meta.created), server.meta.id.clone()));
    let short = |class: &'static str, need: i64| need - placement::free(view, host, class);
    let mut missing: Vec<(&'static str, i64)> = needs.iter().map(|(class, need)| (*class, short(class, *need))).collect();
    let mut out = Vec::new();
    for server in servers {
        let gives = server.spec.launch.resources();
        let helps = |(class, missing): &(&'static str, i64)| *missing > 0 && gives.iter().any(|(given, n)| given == class && *n > 0);
        if !missing.iter().any(|one| one.0 != "DISK_GB" && helps(one)) {
            continue;
        }
        for (class, missing) in &mut missing {
            *missing -= gives.iter().filter(|(given, _)| given == class && *given != "DISK_GB").map(|(_, n)| n).sum::<i64>();
        }
        out.push(server.meta.id.clone());
    }
    out
}

/// Takes processors and memory from a server, which is off at once.
pub fn act(tx: &mut Tx, id: &Id<Server>) -> Result<(), Error> {
    let now = tx.now();
    let server = tx.require(id)?;
    let was = server.spec.run;
    tracing::warn!(server = %id, "preempted");
    let server = tx.update(id, |server: &mut Server| {
        server.status.preempted = Some(Preempted { since: now, was });
        if matches!(was, Run::Running | Run::Paused) {
            server.spec.run = Run::Stopped;
            server.ask(Verb::Stop, if was == Run::Paused { VmState::Paused } else { VmState::Active });
        }
        Ok::<_, Error>(())
    })?;
    note(tx, &server, "preempt", "compute_stop_instance", server.spec.run != was)
}

/// Preempted servers that there is room for again.
pub fn due(view: &View) -> Vec<Id<Server>> {
    view.by_index::<Server>("preempted", "yes").filter(|server| has_room(view, server)).map(|server| server.meta.id.clone()).collect()
}

fn has_room(view: &View, server: &Server) -> bool {
    let host = server.status.host.as_ref().and_then(|host| view.get(host)).filter(|host| host.takes_servers());
    let idle = server.status.migration.is_none() && server.spec.run != Run::Deleted;
    let needs = server.spec.launch.resources();
    let fits =
        |host: &Host| needs.iter().filter(|(class, _)| *class != "DISK_GB").all(|(class, n)| placement::free(view, host, class) >= *n);
    idle && host.is_some_and(|host| fits(&host))
}

/// They go on, as far as there is room for all of them.
pub fn give_back(tx: &mut Tx, servers: &[Id<Server>]) -> Result<(), Error> {
    for id in servers {
        let view = tx.view();
        let Some(server) = view.get(id).filter(|server| server.status.preempted.is_some() && has_room(&view, server)) else { continue };
        go_on(tx, &server)?;
    }
    Ok(())
}

fn go_on(tx: &mut Tx, server: &Server) -> Result<(), Error> {
    tracing::info!(server = %server.meta.id, "no longer preempted");
    let before = server.spec.run;
    let server = tx.update(&server.meta.id, |server: &mut Server| {
        let was = server.status.preempted.take().map_or(before, |preempted| preempted.was);
        // Whatever was asked of it meanwhile goes before what it was.
        if before == Run::Stopped && was != before {
            server.spec.run = was;
            server.ask(Verb::Start, VmState::Stopped);
        }
        Ok::<_, Error>(())
    })?;
    note(tx, &server, "start", "compute_start_instance", server.spec.run != before)
}

/// It has come to a host that has room for it.
pub fn after_arrival(tx: &mut Tx, id: &Id<Server>) -> Result<(), Error> {
    match tx.get(id).filter(|server| server.status.preempted.is_some()) {
        Some(server) => go_on(tx, &server),
        None => Ok(()),
    }
}

/// The cloud's own action, for its owner to see.
fn note(tx: &mut Tx, server: &Server, name: &str, event: &str, acts: bool) -> Result<(), Error> {
    if !acts {
        return Ok(());
    }
    let (now, number) = (tx.now(), tx.new_id::<ServerAction>());
    let request = format!("req-{number}");
    let mut action = ServerAction {
        meta: Meta::new(ServerAction::id(&server.meta.id, &request)).named(name),
        server: server.meta.id.clone(),
        request,
        user: String::new(),
        project: None,
        started: now,
        generation: Some(server.meta.generation),
        message: None,
        events: Vec::new(),
    };
    let host: Option<HostId> = server.status.host.clone();
    action.start(event, host, now);
    tx.insert(action).map(drop)
}
