//! What the two hosts of a migration are told of it. Pure.

use std::net::SocketAddr;
use std::sync::Arc;

use unkai_link::item::HostId;
use unkai_link::migration::{MigrationItem, Partner, Role};
use unkai_model::compute::{Method, Migration, Server};
use unkai_store::View;

/// Servers that come to this host.
pub fn arriving(view: &View, host: &HostId) -> Vec<(Arc<Server>, MigrationItem)> {
    let arrivals = view.by_index::<Migration>("arriving", host.as_str());
    let arrivals = arrivals.filter(|migration| migration.destination.as_ref() == Some(host) && migration.source != *host);
    arrivals.filter_map(|migration| Some((view.get(&migration.server)?, arrive(view, &migration)?))).collect()
}

fn arrive(view: &View, migration: &Migration) -> Option<MigrationItem> {
    let role =
        Role::Arrive { from: partner(view, &migration.source)?, released: migration.handed_over, cold: migration.method == Method::Cold };
    Some(item(migration, role))
}

/// The part of a server's item that tells its present host that it leaves; none before the destination listens.
pub fn leaving(view: &View, server: &Server) -> Option<MigrationItem> {
    let migration = super::of(view, server)?;
    let endpoint = migration.endpoint.as_ref()?;
    let host = view.get(migration.destination.as_ref()?)?;
    let role = Role::Leave {
        to: partner(view, &host.meta.id)?,
        address: SocketAddr::new(host.status.underlay.or(host.status.address)?, endpoint.port),
        token: endpoint.token.clone(),
        method: migration.method,
        finish: migration.finish,
    };
    Some(item(&migration, role))
}

/// Servers whose disks this host keeps until it is known that they do not come back.
pub fn kept(view: &View, host: &HostId) -> Vec<(Arc<Server>, MigrationItem)> {
    let item = || MigrationItem { id: "kept".into(), abort: false, role: Role::Keep };
    view.by_index::<Server>("kept", host.as_str()).map(|server| (server, item())).collect()
}

fn item(migration: &Migration, role: Role) -> MigrationItem {
    MigrationItem { id: migration.meta.id.to_string(), abort: migration.abort.is_some(), role }
}

fn partner(view: &View, host: &HostId) -> Option<Partner> {
    Some(Partner { host: host.clone(), enrolment: view.get(host)?.status.admission.enrolment })
}
