//! The gateway of a router: a port without a project on an external network.

use std::sync::Arc;

use unkai_model::Id;
use unkai_model::network::{FloatingIp, Network, Port, Router, RouterGateway, owner};
use unkai_store::Tx;

use super::network;
use super::port::{self, AddressWish, PortRequest};
use super::port_update::{self, PortChange};
use super::router::{bad, check_overlap, interfaces};
use crate::Refusal;

#[derive(Debug, Clone, PartialEq)]
pub struct GatewayWish {
    pub network: Id<Network>,
    /// None: as it is, or on.
    pub snat: Option<bool>,
    /// None: as they are, or chosen.
    pub fixed_ips: Option<Vec<AddressWish>>,
}

/// Gives a router a gateway, changes it, or takes it away.
pub fn set_gateway(tx: &mut Tx, id: &Id<Router>, wish: Option<&GatewayWish>) -> Result<Arc<Router>, Refusal> {
    let router = tx.require(id)?;
    let present = router.gateway.clone();
    match (present, wish) {
        (None, None) => Ok(router),
        (Some(gateway), Some(wish)) if gateway.network == wish.network => change(tx, &router, gateway, wish),
        (Some(gateway), None) => {
            check_unused(tx, &router, &gateway)?;
            remove(tx, &router, &gateway)
        }
        (None, Some(wish)) => add(tx, &router, wish),
        (Some(gateway), Some(wish)) => {
            check_unused(tx, &router, &gateway)?;
            remove(tx, &router, &gateway)?;
            add(tx, &router, wish)
        }
    }
}

fn store(tx: &mut Tx, id: &Id<Router>, gateway: Option<RouterGateway>) -> Result<Arc<Router>, Refusal> {
    tx.update(id, |router: &mut Router| {
        router.gateway = gateway;
        router.meta.generation += 1;
        Ok(())
    })
}

fn add(tx: &mut Tx, router: &Router, wish: &GatewayWish) -> Result<Arc<Router>, Refusal> {
    let network = network::usable(tx, &wish.network, router.meta.project.as_ref())?;
    if !network.external {
        return Err(bad(format!("Network {} is not an external network", wish.network)));
    }
    let port = port::insert_port(
        tx,
        &PortRequest {
            fixed_ips: wish.fixed_ips.clone().filter(|ips| !ips.is_empty()),
            device_id: router.meta.id.to_string(),
            device_owner: owner::ROUTER_GATEWAY.into(),
            port_security: Some(false),
            ..PortRequest::on(wish.network.clone(), None)
        },
    )?;
    check_gateway_overlap(tx, router, &port)?;
    let gateway = RouterGateway { network: wish.network.clone(), port: port.meta.id.clone(), snat: wish.snat.unwrap_or(true) };
    store(tx, &router.meta.id, Some(gateway))
}

fn check_gateway_overlap(tx: &Tx, router: &Router, gateway: &Port) -> Result<(), Refusal> {
    let ports = interfaces(&tx.view(), &router.meta.id);
    let present: Vec<_> = ports.iter().flat_map(|p| &p.fixed_ips).filter_map(|ip| tx.get(&ip.subnet)).collect();
    for ip in &gateway.fixed_ips {
        check_overlap(&present, &*tx.require(&ip.subnet)?)?;
    }
    Ok(())
}

fn change(tx: &mut Tx, router: &Router, gateway: RouterGateway, wish: &GatewayWish) -> Result<Arc<Router>, Refusal> {
    if let Some(wishes) = &wish.fixed_ips {
        let change = PortChange { fixed_ips: Some(wishes.clone()), ..PortChange::default() };
        let port = port_update::update_port(tx, &gateway.port, &change)?;
        check_gateway_overlap(tx, router, &port)?;
    }
    // As in the original, a gateway that is set again without saying is translated again.
    let snat = wish.snat.unwrap_or(true);
    store(tx, &router.meta.id, Some(RouterGateway { snat, ..gateway }))
}

fn remove(tx: &mut Tx, router: &Router, gateway: &RouterGateway) -> Result<Arc<Router>, Refusal> {
    let changed = store(tx, &router.meta.id, None)?;
    port::delete_port(tx, &gateway.port)?;
    Ok(changed)
}

fn check_unused(tx: &Tx, router: &Router, gateway: &RouterGateway) -> Result<(), Refusal> {
    if tx.by_index::<FloatingIp>("router", router.meta.id.as_str()).any(|f| f.network == gateway.network) {
        let text = format!(
            "Gateway cannot be updated for router {}, since a gateway to external network {} is required by one or more floating IPs.",
            router.meta.id, gateway.network
        );
        return Err(Refusal::conflict("RouterExternalGatewayInUseByFloatingIp", text));
    }
    Ok(())
}
