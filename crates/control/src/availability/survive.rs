//! What would happen if hosts died now, tried on a copy of the state. Pure.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use unkai_link::item::HostId;
use unkai_model::Id;
use unkai_model::compute::{Failover, Host, Server};
use unkai_store::View;

use super::failover::{refuge, stranded};
use crate::placement::{Candidate, Sight, Want, choose};

/// A server that could not be started elsewhere, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Lost {
    pub server: Id<Server>,
    pub name: String,
    pub reason: String,
}

/// The highly available servers that would find no host if all of `dead` died now.
pub fn survive(view: &View, dead: &BTreeSet<HostId>) -> Vec<Lost> {
    let mut servers: Vec<Arc<Server>> = dead.iter().flat_map(|host| stranded(view, host)).collect();
    servers.sort_by_key(|server| (Reverse(server.spec.priority), server.meta.created, server.meta.id.clone()));
    let mut charged: Vec<(HostId, &'static str, i64)> = Vec::new();
    let mut lost = Vec::new();
    for server in servers {
        let hosts: Vec<Candidate> = Sight::of(view, &server).all().into_iter().map(|host| imagine(host, dead, &charged)).collect();
        let find = |want: &Want, only: Option<&HostId>| match only {
            Some(only) => {
                let one: Vec<Candidate> = hosts.iter().filter(|host| host.id.as_ref() == Some(only)).cloned().collect();
                choose(want, &one).map(|_| only.clone())
            }
            None => choose(want, &hosts).map(|host| host.id.clone().expect("a candidate from the view has its id")),
        };
        match refuge(view, &server, find) {
            Ok((host, _)) => {
                let resources = server.spec.launch.resources();
                charged.extend(resources.into_iter().map(|(class, amount)| (host.clone(), class, amount)));
            }
            Err(none) => {
                lost.push(Lost { server: server.meta.id.clone(), name: server.meta.name.clone(), reason: none.to_string() });
            }
        }
    }
    lost
}

/// The host as it would be after these deaths and these placements.
fn imagine(mut host: Candidate, dead: &BTreeSet<HostId>, charged: &[(HostId, &'static str, i64)]) -> Candidate {
    let Some(id) = &host.id else { return host };
    if dead.contains(id) {
        host.closed = Some("it would be dead".into());
    }
    for (_, class, amount) in charged.iter().filter(|(there, _, _)| there == id) {
        if let Some((_, used)) = host.resources.get_mut(*class) {
            *used += amount;
        }
    }
    host
}

/// How far the cloud is from surviving the death of any one host.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Redundancy {
    /// For each host whose death would cost servers: those servers.
    pub exposed: Vec<(HostId, Vec<Lost>)>,
    /// Servers that are being started elsewhere, or wait for room.
    pub failing_over: usize,
}

impl Redundancy {
    pub fn of(view: &View) -> Self {
        let exposed = view.all::<Host>().filter(|host| host.fence.is_none()).filter_map(|host| {
            let lost = survive(view, &[host.meta.id.clone()].into());
            (!lost.is_empty()).then(|| (host.meta.id.clone(), lost))
        });
        Redundancy { exposed: exposed.collect(), failing_over: view.all::<Failover>().filter(|receipt| receipt.is_open()).count() }
    }

    /// Zero when all is as redundant as it was asked for.
    pub fn missing(&self) -> usize {
        self.exposed.iter().map(|(_, lost)| lost.len()).sum::<usize>() + self.failing_over
    }
}
