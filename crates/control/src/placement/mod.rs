//! Which host a server goes to.
//!
//! [`gather`] reads hosts and wishes from a view, [`choose`] decides, [`place`] does both inside a transaction, so that the accounts it
//! looks at are exact and the placement is charged in the same moment.

mod choose;
mod gather;

use unkai_model::compute::{Fault, Outcome, Run, Server};
use unkai_model::{Error, Id};
use unkai_store::{Tx, View};

use crate::actions;

pub use choose::{Candidate, GroupPolicy, NoValidHost, Want, choose};
pub use gather::{candidates, want, zone_of};

/// Why this server has no host, or which it would get, on this state. The same code that places.
pub fn explain(view: &View, server: &Server) -> Result<String, NoValidHost> {
    choose(&want(view, server), &candidates(view, server)).map(|host| host.name.clone())
}

/// Servers that wait for a host.
pub fn waiting(view: &View) -> Vec<Id<Server>> {
    let servers = view.by_index::<Server>("unplaced", "yes");
    servers.filter(|server| needs_host(server)).map(|server| server.meta.id.clone()).collect()
}

fn needs_host(server: &Server) -> bool {
    let wants = !matches!(server.spec.run, Run::Deleted | Run::Offloaded);
    wants && server.status.host.is_none() && server.status.fault.is_none()
}

/// Places each of these servers that still waits, or writes down why it cannot be.
pub fn place(tx: &mut Tx, servers: &[Id<Server>]) -> Result<(), Error> {
    for id in servers {
        let view = tx.view();
        let Some(server) = view.get(id).filter(|server| needs_host(server)) else { continue };
        let chosen = choose(&want(&view, &server), &candidates(&view, &server)).map(|host| host.id.clone());
        let now = tx.now();
        match chosen {
            Ok(Some(host)) => {
                tracing::info!(server = %id, %host, "placed");
                for port in &server.spec.ports {
                    bind_port(tx, port, Some(&host))?;
                }
                tx.update(id, |server: &mut Server| {
                    server.status.host = Some(host.clone());
                    server.status.timeline.placed = Some(now);
                    server.status.observed = Default::default();
                    Ok::<_, Error>(())
                })?;
            }
            Ok(None) => return Err(Error::internal("a candidate without an id was chosen")),
            Err(none) => {
                tracing::info!(server = %id, reason = %none, "not placed");
                tx.update(id, |server: &mut Server| {
                    let message = none.to_string();
                    server.status.fault = Some(Fault { code: 500, message, details: String::new(), at: now });
                    Ok::<_, Error>(())
                })?;
                actions::settle(tx, id, Some(server.meta.generation), &Outcome::Error(none.to_string()))?;
            }
        }
    }
    Ok(())
}

/// Says on a port where its device is.
pub fn bind_port(tx: &mut Tx, port: &Id<unkai_model::network::Port>, host: Option<&Id<unkai_model::compute::Host>>) -> Result<(), Error> {
    match tx.get(port) {
        Some(present) if present.binding_host.as_ref() != host => tx
            .update(port, |port: &mut unkai_model::network::Port| {
                port.binding_host = host.cloned();
                port.status.up &= host.is_some();
                Ok::<_, Error>(())
            })
            .map(drop),
        _ => Ok(()),
    }
}
