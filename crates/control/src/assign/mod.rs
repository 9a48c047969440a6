//! What each host is assigned: items rendered from a view. Pure.

mod network;
mod server;

use std::collections::{BTreeMap, BTreeSet};

use unkai_link::item::{HostId, ImageItem, Item, SnapshotItem};
use unkai_model::Id;
use unkai_model::compute::{Aggregate, Run, Server};
use unkai_model::image::Image;
use unkai_model::network::{Network, Port, Router, SecurityGroup};
use unkai_model::volume::{Backup, Volume};
use unkai_store::View;

pub use server::image_ref;

use crate::{migration, volume};

/// Everything that `host` should have, in an order in which nothing comes before what it depends on.
pub fn assigned(view: &View, host: &HostId) -> Vec<Item> {
    let servers: Vec<_> = view.by_index::<Server>("host", host.as_str()).collect();
    let routers: Vec<_> = view.by_index::<Router>("host", host.as_str()).collect();
    let arriving = migration::items::arriving(view, host);
    let mut needs = Needs::default();
    let ports = servers
        .iter()
        .chain(arriving.iter().map(|(server, _)| server))
        .filter(|server| server.spec.run != Run::Deleted)
        .flat_map(|server| server.spec.ports.iter());
    for port in ports.filter_map(|port| view.get(port)) {
        needs.port(view, &port);
    }
    for router in &routers {
        needs.router(view, router);
    }
    let mut items = Vec::new();
    items.extend(needs.networks.iter().filter_map(|id| network::network(view, host, &*view.get(id)?)).map(Item::Network));
    items.extend(needs.groups.iter().filter_map(|id| Some(Item::Group(network::group(view, &*view.get(id)?)))));
    items.extend(needs.ports.values().filter_map(|port| network::port(view, port)).map(Item::Port));
    items.extend(routers.iter().filter_map(|router| network::router(view, router)).map(Item::Router));
    items.extend(volume::items::pools(view, host).into_iter().map(Item::Pool));
    items.extend(view.by_index::<Volume>("carrier", host.as_str()).filter_map(|one| volume::items::volume(view, &one)).map(Item::Volume));
    items.extend(view.by_index::<Backup>("carrier", host.as_str()).filter_map(|one| volume::items::backup(view, &one)).map(Item::Backup));
    items.extend(servers.iter().map(|server| Item::Server(server::server(view, server, migration::items::leaving(view, server)))));
    items.extend(
        migration::items::kept(view, host).into_iter().map(|(server, kept)| Item::Server(server::server(view, &server, Some(kept)))),
    );
    items.extend(arriving.into_iter().map(|(server, moves)| Item::Server(server::server(view, &server, Some(moves)))));
    items.extend(view.by_index::<Image>("snapshot_of", host.as_str()).filter_map(|image| snapshot(&image)).map(Item::Snapshot));
    items.extend(images(view, host).into_values().map(Item::Image));
    items
}

/// Images that the aggregates of a host want there; those that no server may be started from are no one's wish.
fn images(view: &View, host: &HostId) -> BTreeMap<Id<Image>, ImageItem> {
    let mut images = BTreeMap::new();
    for aggregate in view.by_index::<Aggregate>("host", host.as_str()) {
        for id in aggregate.images.iter().filter(|id| view.get(*id).is_some_and(|image| image.bootable().is_some())) {
            let Some(image) = server::image_ref(view, id) else { continue };
            images.entry(id.clone()).or_insert(ImageItem { image, request: 0 }).request += aggregate.image_requests;
        }
    }
    images
}

fn snapshot(image: &Image) -> Option<SnapshotItem> {
    let source = image.spec.source.as_ref()?;
    let format = image.spec.disk_format.map_or("qcow2", |format| format.as_str());
    Some(SnapshotItem { image: image.meta.id.clone(), server: source.server.clone(), format: format.to_owned() })
}

/// What the servers and routers of a host need there.
#[derive(Default)]
struct Needs {
    networks: BTreeSet<Id<Network>>,
    groups: BTreeSet<Id<SecurityGroup>>,
    ports: BTreeMap<Id<Port>, std::sync::Arc<Port>>,
}

impl Needs {
    fn port(&mut self, view: &View, port: &std::sync::Arc<Port>) {
        self.networks.insert(port.network.clone());
        for group in &port.security_groups {
            self.groups.insert(group.clone());
            self.groups.extend(network::remote_groups(view, group));
        }
        self.ports.insert(port.meta.id.clone(), port.clone());
    }

    fn router(&mut self, view: &View, router: &Router) {
        self.networks.extend(network::interfaces(view, &router.meta.id).map(|port| port.network.clone()));
    }
}
