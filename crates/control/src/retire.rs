//! The end of servers: when the host has nothing left of one, its ports go (or are set free), and the document claims nothing more.

use std::time::Duration;

use unkai_model::compute::{Host, Outcome, Phase, Run, Server, ServerAction};
use unkai_model::network::{FloatingIp, Port};
use unkai_model::{Error, Id};
use unkai_store::{Tx, View};

use crate::availability::failover;
use crate::placement::bind_port;
use crate::volume::attachments;
use crate::{actions, migration};

/// How long a deleted server can still be listed by administrators.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// What follows from a server having reached what was asked.
pub fn after_report(tx: &mut Tx, server: &Server) -> Result<(), Error> {
    if server.status.observed.phase != Phase::Gone || server.status.observed.generation != server.meta.generation {
        return Ok(());
    }
    match server.spec.run {
        // Its other host may still have it.
        Run::Deleted if server.status.migration.is_some() => Ok(()),
        Run::Deleted => finish(tx, &server.meta.id),
        Run::Offloaded => leave_host(tx, server),
        _ => Ok(()),
    }
}

fn leave_host(tx: &mut Tx, server: &Server) -> Result<(), Error> {
    for port in &server.spec.ports {
        bind_port(tx, port, None)?;
    }
    tx.update(&server.meta.id, |server: &mut Server| {
        (server.status.host, server.status.spare, server.status.preempted) = (None, None, None);
        Ok::<_, Error>(())
    })?;
    Ok(())
}

/// Ends a server that is on no host (any more).
pub fn finish(tx: &mut Tx, id: &Id<Server>) -> Result<(), Error> {
    let server = tx.require(id)?;
    release_ports(tx, &server)?;
    attachments::release(tx, id)?;
    let now = tx.now();
    tx.update(id, |server: &mut Server| {
        server.status.deleted = Some(now);
        (server.status.host, server.status.spare, server.status.preempted) = (None, None, None);
        Ok::<_, Error>(())
    })?;
    failover::forget_open(tx, id)?;
    actions::settle(tx, id, None, &Outcome::Success)
}

/// Ports that were made for the server go with it; ports that were brought stay, without a device.
fn release_ports(tx: &mut Tx, server: &Server) -> Result<(), Error> {
    let ports: Vec<_> = tx.by_index::<Port>("device", server.meta.id.as_str()).collect();
    for port in ports {
        if server.spec.brought_ports.contains(&port.meta.id) {
            tx.update(&port.meta.id, |port: &mut Port| {
                port.device_id.clear();
                port.device_owner.clear();
                port.binding_host = None;
                port.status = Default::default();
                Ok::<_, Error>(())
            })?;
            continue;
        }
        let floating: Vec<_> = tx.by_index::<FloatingIp>("port", port.meta.id.as_str()).collect();
        for floating in floating {
            tx.update(&floating.meta.id, |floating: &mut FloatingIp| {
                floating.target = None;
                Ok::<_, Error>(())
            })?;
        }
        tx.delete(&port.meta.id)?;
    }
    Ok(())
}

/// Deletions that no host needs to confirm: it has none, or is fenced and will drop what it still has when it comes back.
pub fn unconfirmed(view: &View) -> Vec<Id<Server>> {
    let unplaced = view.by_index::<Server>("unplaced", "yes");
    let fenced = view.by_index::<Host>("fenced", "yes").filter(|host| host.is_fenced());
    let on_fenced = fenced.flat_map(|host| view.by_index::<Server>("host", host.meta.id.as_str()).collect::<Vec<_>>());
    let deleted = |server: &Server| server.spec.run == Run::Deleted && server.status.migration.is_none();
    unplaced.chain(on_fenced).filter(|server| deleted(server)).map(|server| server.meta.id.clone()).collect()
}

/// Deleted servers whose time is over. Looks at every server: not for every change.
pub fn over(view: &View, now: jiff::Timestamp) -> Vec<Id<Server>> {
    let over = view.all::<Server>().filter(|server| server.status.deleted.is_some_and(|at| now.duration_since(at).unsigned_abs() > KEPT));
    over.map(|server| server.meta.id.clone()).collect()
}

pub fn finish_all(tx: &mut Tx, servers: &[Id<Server>]) -> Result<(), Error> {
    for id in servers {
        let Some(server) =
            tx.get(id).filter(|server| server.is_live() && server.spec.run == Run::Deleted && server.status.migration.is_none())
        else {
            continue;
        };
        let host = server.status.host.as_ref().and_then(|host| tx.get(host));
        if host.is_none_or(|host| host.is_fenced()) {
            finish(tx, id)?;
        }
    }
    Ok(())
}

/// Forgets servers that are gone, and what was asked of them.
pub fn purge(tx: &mut Tx, servers: &[Id<Server>]) -> Result<(), Error> {
    for id in servers {
        if tx.get(id).is_none_or(|server| server.is_live()) {
            continue;
        }
        let actions: Vec<_> = tx.by_index::<ServerAction>("server", id.as_str()).collect();
        for action in actions {
            tx.delete(&action.meta.id)?;
        }
        failover::forget(tx, id)?;
        migration::forget(tx, id)?;
        tx.delete(id)?;
    }
    Ok(())
}
