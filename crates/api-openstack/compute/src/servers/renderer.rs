//! One request's eyes on the view: what servers share (hosts, zones, networks, groups) is looked up once per request.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use unkai_model::compute::{Host, Reachability, Server};
use unkai_model::image::{Image, ImageState};
use unkai_model::network::{Network, Port, SecurityGroup};
use unkai_model::{Id, Timestamp};
use unkai_store::View;

use super::cx::Cx;
use super::state::{Snapshot, State};
use crate::admin::zones::zone_of;

pub struct Renderer<'a> {
    pub cx: &'a Cx,
    pub view: &'a View,
    /// Scheme, host, port and the service's prefix.
    base: String,
    hosts: RefCell<HashMap<Id<Host>, Arc<HostFacts>>>,
    networks: RefCell<HashMap<Id<Network>, Arc<str>>>,
    groups: RefCell<HashMap<Id<SecurityGroup>, Arc<str>>>,
}

/// What answers say of a server's host.
pub struct HostFacts {
    pub name: String,
    pub zone: String,
    pub status: &'static str,
    snapshots: HashMap<Id<Server>, Snapshot>,
}

impl<'a> Renderer<'a> {
    pub fn new(cx: &'a Cx, view: &'a View) -> Self {
        let base = format!("{}/compute", cx.cloud.url);
        Renderer { cx, view, base, hosts: RefCell::default(), networks: RefCell::default(), groups: RefCell::default() }
    }

    pub fn host(&self, id: &Id<Host>) -> Arc<HostFacts> {
        self.hosts.borrow_mut().entry(id.clone()).or_insert_with(|| Arc::new(host_facts(self.view, id))).clone()
    }

    pub fn network_name(&self, id: &Id<Network>) -> Arc<str> {
        let name = || self.view.get(id).map_or_else(|| id.as_str().into(), |network| network.meta.name.as_str().into());
        self.networks.borrow_mut().entry(id.clone()).or_insert_with(name).clone()
    }

    pub fn group_name(&self, id: &Id<SecurityGroup>) -> Arc<str> {
        let name = || self.view.get(id).map_or_else(|| id.as_str().into(), |group| group.meta.name.as_str().into());
        self.groups.borrow_mut().entry(id.clone()).or_insert_with(name).clone()
    }

    pub fn state(&self, server: &Server) -> State {
        let snapshot = server.status.host.as_ref().and_then(|host| self.host(host).snapshots.get(&server.meta.id).copied());
        State::of(server, snapshot)
    }

    pub fn zone(&self, server: &Server) -> String {
        server.status.host.as_ref().map_or_else(|| server.spec.wish.zone.clone().unwrap_or_default(), |host| self.host(host).zone.clone())
    }

    pub fn self_link(&self, server: &Id<Server>) -> String {
        format!("{}/v2.1/servers/{server}", self.base)
    }

    /// The link to the page after this one.
    pub fn next_link(&self, collection: &str, query: &str) -> String {
        format!("{}/v2.1/{collection}?{query}", self.base)
    }

    pub fn bookmark(&self, collection: &str, id: &str) -> String {
        format!("{}/{collection}/{id}", self.base)
    }
}

fn host_facts(view: &View, id: &Id<Host>) -> HostFacts {
    let host = view.get(id);
    let status = match &host {
        None => "UNKNOWN",
        Some(host) if host.disabled.is_some() => "MAINTENANCE",
        Some(host) if host.forced_down || host.status.reachability == Reachability::Lost => "DOWN",
        Some(host) if host.is_up() => "UP",
        Some(_) => "UNKNOWN",
    };
    HostFacts {
        name: host.map_or_else(|| id.to_string(), |host| host.meta.name.clone()),
        zone: zone_of(view, id),
        status,
        snapshots: snapshots(view, id),
    }
}

/// The snapshots that a host is to take or takes; one that failed is over.
fn snapshots(view: &View, host: &Id<Host>) -> HashMap<Id<Server>, Snapshot> {
    let pending = view.by_index::<Image>("snapshot_of", host.as_str()).filter(|image| image.status.refusal.is_none());
    let step = |image: &Image| if image.status.state == ImageState::Queued { Snapshot::Waiting } else { Snapshot::Uploading };
    pending.filter_map(|image| Some((image.spec.source.as_ref()?.server.clone(), step(&image)))).collect()
}

/// The ports of a server that exist, in the order of its devices.
pub fn ports_of(view: &View, server: &Server) -> Vec<Arc<Port>> {
    server.spec.ports.iter().filter_map(|port| view.get(port)).collect()
}

/// The snapshot that is being taken of one server.
pub fn snapshot_of(view: &View, server: &Server) -> Option<Snapshot> {
    snapshots(view, server.status.host.as_ref()?).get(&server.meta.id).copied()
}

/// When something about the server changed last, for `changes-since`.
pub fn changed(server: &Server) -> Timestamp {
    server.status.deleted.unwrap_or(server.meta.updated).max(server.meta.updated)
}
