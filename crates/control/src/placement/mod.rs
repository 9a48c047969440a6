//! Which host a server goes to.
//!
//! [`gather`] reads hosts and wishes from a view, [`choose`] decides, [`place`] does both inside a transaction, so that the accounts it
//! looks at are exact and the placement is charged in the same moment. A [`Ranking`] says whom to ask first.

mod choose;
mod gather;
mod ranking;

use std::sync::{Mutex, MutexGuard};

use unkai_model::compute::{Fault, Host, Outcome, Run, Server};
use unkai_model::{Error, Id};
use unkai_store::{Tx, View};

use crate::availability::{preempt, reserve};
use crate::volume::attachments::{self, Readiness};
use crate::{actions, availability};

pub use choose::{Candidate, Claim, GroupPolicy, NoValidHost, Want, choose, fits};
pub use gather::{Sight, free, room, want, zone_of};
pub use ranking::Ranking;

/// Why this server has no host, or which it would get, on this state. The same code that places.
pub fn explain(view: &View, server: &Server) -> Result<String, NoValidHost> {
    choose(&want(view, server), &Sight::of(view, server).all()).map(|host| host.name.clone())
}

/// The host for a server, on this state.
pub fn find(view: &View, ranking: &Ranking, server: &Server) -> Result<Id<Host>, NoValidHost> {
    find_by(view, ranking, server, &want(view, server), None)
}

/// What a server that has to leave its host needs of another. A host that was named for its creation says nothing about that.
pub fn want_elsewhere(view: &View, server: &Server) -> Want {
    let mut want = Want { forced_host: None, host: None, ..want(view, server) };
    // Where an older state of its disks is kept it would begin with that.
    let left = server.status.host.as_ref().into_iter().chain(server.kept_at());
    want.avoid.extend(left.filter_map(|host| view.get(host)).map(|host| host.meta.name.clone()));
    want
}

/// The host for what a server wants, or the one that is named when it fits.
pub fn find_by(view: &View, ranking: &Ranking, server: &Server, want: &Want, only: Option<&Id<Host>>) -> Result<Id<Host>, NoValidHost> {
    let sight = Sight::of(view, server);
    if let Some(host) = only.and_then(|id| view.get(id)) {
        return choose(want, &[sight.candidate(&host)]).map(|_| host.meta.id.clone());
    }
    if !want.compares_company() {
        let hosts = ranking.hosts().filter_map(|id| view.get(id));
        if let Some(host) = hosts.into_iter().find(|host| choose::fits(want, &sight.candidate(host))) {
            return Ok(host.meta.id.clone());
        }
    }
    let all = sight.all();
    let best = choose(want, &all)?;
    Ok(best.id.clone().expect("a candidate from the view has its id"))
}

/// A ranking that transactions, which may run again, share.
#[derive(Default)]
pub struct Order(Mutex<Ranking>);

impl Order {
    pub fn lock(&self) -> MutexGuard<'_, Ranking> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Servers that wait for a host.
pub fn waiting(view: &View) -> Vec<Id<Server>> {
    let servers = view.by_index::<Server>("unplaced", "yes").filter(|server| needs_host(server));
    servers
        .filter(|server| attachments::readiness(view, &server.meta.id) != Readiness::Waits)
        .map(|server| server.meta.id.clone())
        .collect()
}

fn needs_host(server: &Server) -> bool {
    let wants = !matches!(server.spec.run, Run::Deleted | Run::Offloaded);
    wants && server.status.host.is_none() && server.status.fault.is_none()
}

/// Places each of these servers that still waits, or writes down why it cannot be.
pub fn place(tx: &mut Tx, order: &Order, servers: &[Id<Server>]) -> Result<(), Error> {
    let mut ranking = order.lock();
    ranking.refresh(&tx.view(), false);
    for id in servers {
        let view = tx.view();
        let Some(server) = view.get(id).filter(|server| needs_host(server)) else { continue };
        let found = match attachments::readiness(&view, id) {
            Readiness::Waits => continue,
            Readiness::Broken(why) => Err(why),
            Readiness::Ready => find(&view, &ranking, &server).map_err(|none| none.to_string()),
        };
        let found = found.and_then(|host| Ok((spare(&view, &ranking, &server, &host)?, host)));
        match found {
            Ok((spare, host)) => {
                tracing::info!(server = %id, %host, "placed");
                assign(tx, id, &host)?;
                reserve::keep(tx, id, spare.clone())?;
                [host].iter().chain(&spare).for_each(|host| ranking.update(&tx.view(), host));
            }
            Err(message) => {
                tracing::info!(server = %id, reason = message, "not placed");
                let (now, outcome) = (tx.now(), Outcome::Error(message.clone()));
                tx.update(id, |server: &mut Server| {
                    server.status.fault = Some(Fault { code: 500, message, details: String::new(), at: now });
                    Ok::<_, Error>(())
                })?;
                actions::settle(tx, id, Some(server.meta.generation), &outcome)?;
            }
        }
    }
    Ok(())
}

/// Where room is kept for a server of this host; refused when it must be and cannot.
fn spare(view: &View, ranking: &Ranking, server: &Server, host: &Id<Host>) -> Result<Option<Id<Host>>, String> {
    let settings = availability::settings(view);
    if settings.reserve.is_none() || !server.is_leased() {
        return Ok(None);
    }
    match reserve::find(view, ranking, server, host) {
        Err(none) if settings.strict => Err(format!("No room can be kept for the loss of its host. {none}")),
        found => Ok(found.ok()),
    }
}

/// Gives a server to a host, which has not seen it yet.
pub fn assign(tx: &mut Tx, id: &Id<Server>, host: &Id<Host>) -> Result<(), Error> {
    let now = tx.now();
    attachments::bind(tx, id)?;
    let server = tx.update(id, |server: &mut Server| {
        server.status.host = Some(host.clone());
        server.status.assigned = server.meta.generation;
        server.status.timeline.placed = Some(now);
        server.status.observed = Default::default();
        Ok::<_, Error>(())
    })?;
    for port in &server.spec.ports {
        bind_port(tx, port, Some(host))?;
    }
    attachments::take(tx, id)?;
    arrived(tx, id)
}

/// A server has come to a host.
pub fn arrived(tx: &mut Tx, id: &Id<Server>) -> Result<(), Error> {
    preempt::after_arrival(tx, id)?;
    reserve::after_arrival(tx, id)
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
