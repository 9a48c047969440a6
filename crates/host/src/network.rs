//! Workers of networks, groups, ports and routers: the specs go to the network driver as they are.

use unkai_driver_network::Driver;
use unkai_link::item::{Item, ItemKey, ItemKind, net};
use unkai_link::report::RouterReport;
use unkai_model::Error;

use crate::desired::Desired;
use crate::worker::Progress;

pub fn failed(what: impl std::fmt::Display) -> impl FnOnce(unkai_driver_network::Error) -> Error {
    let what = what.to_string();
    move |e| Error::caused(what, e)
}

/// Converges one item that is the network driver's.
pub async fn converge(driver: &Driver, desired: &Desired, key: &ItemKey) -> Result<Progress, Error> {
    let id = &key.id;
    match (desired.get(key).as_deref(), key.kind) {
        (Some(Item::Network(spec)), _) => driver.apply_network(spec).await.map_err(failed(key))?,
        (Some(Item::Group(spec)), _) => driver.apply_group(spec).await.map_err(failed(key))?,
        (Some(Item::Port(spec)), _) => match driver.apply_port(spec).await {
            // Its server's worker will open it, as the specification then is.
            Err(unkai_driver_network::Error::NoPort(_) | unkai_driver_network::Error::NoNetwork(_)) => {}
            result => result.map_err(failed(key))?,
        },
        (Some(Item::Router(spec)), _) => router(driver, desired, spec).await?,
        (None, ItemKind::Network) => driver.remove_network(id).await.map_err(failed(key))?,
        (None, ItemKind::Group) => driver.remove_group(id).await.map_err(failed(key))?,
        (None, ItemKind::Router) => driver.remove_router(id).await.map_err(failed(key))?,
        // A port's device goes with its server's worker, which knows when QEMU has let go of it.
        (None, ItemKind::Port) => {}
        _ => return Err(Error::internal(format!("{key} is not an item of the network"))),
    }
    Ok(if desired.get(key).is_some() { Progress::Settled } else { Progress::Over })
}

/// A router needs its networks first.
async fn router(driver: &Driver, desired: &Desired, spec: &net::RouterSpec) -> Result<(), Error> {
    for interface in &spec.interfaces {
        if let Some(network) = desired.network(&interface.network_id) {
            driver.apply_network(&network).await.map_err(failed(format!("network {}", network.id)))?;
        }
    }
    driver.apply_router(spec).await.map_err(failed(format!("router {}", spec.id)))
}

/// What a server's port needs before the port itself: its network and its groups.
pub async fn before_port(driver: &Driver, desired: &Desired, port: &net::PortSpec) -> Result<(), Error> {
    let network =
        desired.network(&port.network_id).ok_or_else(|| Error::unavailable(format!("network {} is not known yet", port.network_id)))?;
    driver.apply_network(&network).await.map_err(failed(format!("network {}", network.id)))?;
    let groups: Vec<_> = port.security_groups.iter().filter_map(|id| desired.group(id)).collect();
    for group in groups {
        driver.apply_group(&group).await.map_err(failed(format!("group {}", group.id)))?;
    }
    Ok(())
}

pub fn router_report(id: &str, result: &Result<Progress, Error>) -> RouterReport {
    RouterReport { router: id.to_owned(), fault: result.as_ref().err().map(|error| error.to_string()) }
}

/// Removes namespaces of ours that nothing asks for.
pub async fn clear_strangers(driver: &Driver, desired: &Desired) -> Result<(), Error> {
    let found = driver.inventory().await.map_err(failed("listing the data plane"))?;
    let wanted: Vec<ItemKey> = desired.keys();
    let known = |kind: ItemKind, id: &str| wanted.iter().any(|key| key.kind == kind && key.id == id);
    let networks: Vec<String> =
        found.networks.iter().map(|network| network.id.clone()).filter(|id| !known(ItemKind::Network, id)).collect();
    for network in networks {
        tracing::info!(network, "removing a network that nobody wants");
        driver.remove_network(&network).await.map_err(failed(format!("removing network {network}")))?;
    }
    let routers: Vec<String> = found.routers.iter().filter(|router| !known(ItemKind::Router, router)).cloned().collect();
    for router in routers {
        tracing::info!(router, "removing a router that nobody wants");
        driver.remove_router(&router).await.map_err(failed(format!("removing router {router}")))?;
    }
    Ok(())
}
