//! Routers, their interfaces and static routes.

use std::sync::Arc;

use unkai_model::identity::Project;
use unkai_model::network::{FloatingIp, Network, Port, Route, Router, RouterStatus, Standard, Subnet, address, owner};
use unkai_model::{Id, Meta};
use unkai_store::{Tx, View};

use super::port::{self, AddressWish, PortRequest};
use super::router_gateway::{GatewayWish, set_gateway};
use super::{limits, port_update};
use crate::Refusal;

/// More static routes than this are refused.
const MOST_ROUTES: usize = 30;

#[derive(Debug, Clone)]
pub struct RouterRequest {
    pub project: Option<Id<Project>>,
    pub name: String,
    pub standard: Standard,
    pub admin_up: bool,
    pub gateway: Option<GatewayWish>,
    pub availability_zone_hints: Vec<String>,
}

/// Which interface is meant: by its port, or by the subnet it is to be in.
#[derive(Debug, Clone, PartialEq)]
pub enum InterfaceWish {
    Subnet(Id<Subnet>),
    /// As a member of the subnet with an address of its pools, not as its gateway: for those who do not own the network.
    Member(Id<Subnet>),
    Port(Id<Port>),
    /// Both, which must fit; only for removal.
    Both(Id<Port>, Id<Subnet>),
}

/// What was added or removed.
#[derive(Debug, Clone, PartialEq)]
pub struct Interface {
    pub port: Id<Port>,
    pub network: Id<Network>,
    pub subnets: Vec<Id<Subnet>>,
    pub project: Option<Id<Project>>,
}

pub(super) fn bad(text: impl std::fmt::Display) -> Refusal {
    Refusal::bad("BadRequest", format!("Bad router request: {text}."))
}

pub fn create_router(tx: &mut Tx, request: &RouterRequest) -> Result<Arc<Router>, Refusal> {
    limits::hold(tx, "router", request.project.as_ref());
    let mut meta = Meta::new(tx.new_id()).named(&request.name);
    meta.project = request.project.clone();
    let router = tx.insert(Router {
        meta,
        standard: request.standard.clone(),
        admin_up: request.admin_up,
        gateway: None,
        routes: Vec::new(),
        availability_zone_hints: request.availability_zone_hints.clone(),
        status: RouterStatus::default(),
    })?;
    match &request.gateway {
        Some(gateway) => set_gateway(tx, &router.meta.id, Some(gateway)),
        None => Ok(router),
    }
}

/// Deletes a router that has no interfaces, with its gateway.
pub fn delete_router(tx: &mut Tx, id: &Id<Router>) -> Result<(), Refusal> {
    tx.require(id)?;
    if !interfaces(&tx.view(), id).is_empty() {
        return Err(Refusal::conflict("RouterInUse", format!("Router {id} still has ports")));
    }
    set_gateway(tx, id, None)?;
    tx.delete(id)?;
    Ok(())
}

/// The interface ports of a router, without its gateway.
pub fn interfaces(view: &View, router: &Id<Router>) -> Vec<Arc<Port>> {
    view.by_index::<Port>("device", router.as_str()).filter(|p| p.device_owner == owner::ROUTER_INTERFACE).collect()
}

/// All subnets a router touches, those of its gateway included.
pub(super) fn subnets_of(tx: &Tx, router: &Id<Router>) -> Vec<Arc<Subnet>> {
    let ports = tx.by_index::<Port>("device", router.as_str());
    let ids: Vec<_> = ports.flat_map(|port| port.fixed_ips.iter().map(|ip| ip.subnet.clone()).collect::<Vec<_>>()).collect();
    ids.iter().filter_map(|id| tx.get(id)).collect()
}

/// A router cannot tell apart two subnets with common addresses.
pub(super) fn check_overlap(present: &[Arc<Subnet>], new: &Subnet) -> Result<(), Refusal> {
    for other in present {
        if other.meta.id == new.meta.id {
            return Err(bad(format!("Router already has a port on subnet {}", new.meta.id)));
        }
        if address::overlap(&other.cidr, &new.cidr) {
            let text = format!("Cidr {} of subnet {} overlaps with cidr {} of subnet {}", new.cidr, new.meta.id, other.cidr, other.meta.id);
            return Err(bad(text));
        }
    }
    Ok(())
}

pub fn add_interface(tx: &mut Tx, id: &Id<Router>, wish: &InterfaceWish) -> Result<Interface, Refusal> {
    let router = tx.require(id)?;
    match wish {
        InterfaceWish::Subnet(subnet) => add_by_subnet(tx, &router, subnet, true),
        InterfaceWish::Member(subnet) => add_by_subnet(tx, &router, subnet, false),
        InterfaceWish::Port(port) => add_by_port(tx, &router, port),
        InterfaceWish::Both(..) => Err(bad("Cannot specify both subnet-id and port-id")),
    }
}

fn add_by_subnet(tx: &mut Tx, router: &Router, id: &Id<Subnet>, as_gateway: bool) -> Result<Interface, Refusal> {
    let subnet = tx.require(id)?;
    let Some(gateway) = subnet.gateway else { return Err(bad("Subnet for router interface must have a gateway IP")) };
    if subnet.ipv6_ra_mode.is_none() && subnet.ipv6_address_mode.is_some() {
        let text = format!("IPv6 subnet {id} configured to receive RAs from an external router cannot be added to Neutron Router");
        return Err(bad(text));
    }
    check_overlap(&subnets_of(tx, &router.meta.id), &subnet)?;
    let wish = AddressWish { subnet: Some(id.clone()), address: as_gateway.then_some(gateway) };
    let port = match ipv6_interface(tx, router, &subnet) {
        Some(port) => {
            let mut wishes: Vec<_> = port.fixed_ips.iter().map(|ip| AddressWish::exactly(ip.subnet.clone(), ip.address)).collect();
            wishes.push(wish);
            let change = port_update::PortChange { fixed_ips: Some(wishes), ..Default::default() };
            port_update::update_port(tx, &port.meta.id, &change)?
        }
        None => port::insert_port(
            tx,
            &PortRequest {
                fixed_ips: Some(vec![wish]),
                device_id: router.meta.id.to_string(),
                device_owner: owner::ROUTER_INTERFACE.into(),
                port_security: Some(false),
                ..PortRequest::on(subnet.network.clone(), router.meta.project.clone())
            },
        )?,
    };
    Ok(Interface {
        port: port.meta.id.clone(),
        network: subnet.network.clone(),
        subnets: vec![id.clone()],
        project: router.meta.project.clone(),
    })
}

/// All IPv6 subnets of one network share one interface.
fn ipv6_interface(tx: &Tx, router: &Router, subnet: &Subnet) -> Option<Arc<Port>> {
    if subnet.cidr.addr().is_ipv4() {
        return None;
    }
    let ports = interfaces(&tx.view(), &router.meta.id);
    ports.into_iter().find(|p| p.network == subnet.network && p.addresses().all(|a| a.is_ipv6()))
}

fn add_by_port(tx: &mut Tx, router: &Router, id: &Id<Port>) -> Result<Interface, Refusal> {
    let port = tx.require(id)?;
    if !port.device_id.is_empty() {
        let text = format!(
            "Unable to complete operation on port {id} for network {}. Port already has an attached device {}.",
            port.network, port.device_id
        );
        return Err(Refusal::conflict("PortInUse", text));
    }
    if port.fixed_ips.is_empty() {
        return Err(bad("Router port must have at least one fixed IP"));
    }
    if port.addresses().filter(|a| a.is_ipv4()).count() > 1 {
        return Err(bad("Cannot have multiple IPv4 subnets on router port"));
    }
    let mut present = subnets_of(tx, &router.meta.id);
    for ip in &port.fixed_ips {
        let subnet = tx.require(&ip.subnet)?;
        check_overlap(&present, &subnet)?;
        present.push(subnet);
    }
    tx.update(id, |port: &mut Port| {
        port.device_id = router.meta.id.to_string();
        port.device_owner = owner::ROUTER_INTERFACE.into();
        port.security_groups.clear();
        port.allowed_address_pairs.clear();
        port.port_security = false;
        port.meta.generation += 1;
        Ok::<_, Refusal>(())
    })?;
    let subnets = port.fixed_ips.iter().map(|ip| ip.subnet.clone()).collect();
    Ok(Interface { port: id.clone(), network: port.network.clone(), subnets, project: router.meta.project.clone() })
}

pub fn remove_interface(tx: &mut Tx, id: &Id<Router>, wish: &InterfaceWish) -> Result<Interface, Refusal> {
    let router = tx.require(id)?;
    let (port, subnets) = find_interface(tx, &router, wish)?;
    for subnet in &subnets {
        check_unused(tx, &router, subnet)?;
    }
    if subnets.len() == port.fixed_ips.len() {
        port::delete_port(tx, &port.meta.id)?;
    } else {
        tx.update(&port.meta.id, |port: &mut Port| {
            port.fixed_ips.retain(|ip| !subnets.contains(&ip.subnet));
            port.meta.generation += 1;
            Ok::<_, Refusal>(())
        })?;
    }
    Ok(Interface { port: port.meta.id.clone(), network: port.network.clone(), subnets, project: router.meta.project.clone() })
}

fn find_interface(tx: &Tx, router: &Router, wish: &InterfaceWish) -> Result<(Arc<Port>, Vec<Id<Subnet>>), Refusal> {
    let id = &router.meta.id;
    let ports = interfaces(&tx.view(), id);
    if let InterfaceWish::Subnet(subnet) | InterfaceWish::Member(subnet) = wish {
        tx.require(subnet)?;
        let found = ports.into_iter().find(|p| p.fixed_ips.iter().any(|ip| ip.subnet == *subnet));
        let text = || format!("Router {id} has no interface on subnet {subnet}");
        return found.map(|p| (p, vec![subnet.clone()])).ok_or_else(|| Refusal::missing("RouterInterfaceNotFoundForSubnet", text()));
    }
    let (InterfaceWish::Port(port) | InterfaceWish::Both(port, _)) = wish else { return Err(bad("no interface named")) };
    let found = ports.into_iter().find(|p| p.meta.id == *port);
    let text = || format!("Router {id} does not have an interface with id {port}");
    let found = found.ok_or_else(|| Refusal::missing("RouterInterfaceNotFound", text()))?;
    let subnets: Vec<_> = found.fixed_ips.iter().map(|ip| ip.subnet.clone()).collect();
    if let InterfaceWish::Both(_, subnet) = wish
        && !subnets.contains(subnet)
    {
        let text = format!("Subnet on port {port} does not match the requested subnet {subnet}.");
        return Err(Refusal::bad("SubnetMismatchForPort", text));
    }
    Ok((found, subnets))
}

/// Floating IPs and static routes need the interfaces they go through.
fn check_unused(tx: &Tx, router: &Router, id: &Id<Subnet>) -> Result<(), Refusal> {
    let subnet = tx.require(id)?;
    let inside = |f: &Arc<FloatingIp>| f.target.as_ref().is_some_and(|t| subnet.cidr.contains(&t.address));
    if tx.by_index::<FloatingIp>("router", router.meta.id.as_str()).any(|f| inside(&f)) {
        let text = format!(
            "Router interface for subnet {id} on router {} cannot be deleted, as it is required by one or more floating IPs.",
            router.meta.id
        );
        return Err(Refusal::conflict("RouterInterfaceInUseByFloatingIP", text));
    }
    let others: Vec<_> = subnets_of(tx, &router.meta.id).into_iter().filter(|s| s.meta.id != *id).collect();
    let needed = |r: &Route| subnet.cidr.contains(&r.nexthop) && !others.iter().any(|s| s.cidr.contains(&r.nexthop));
    if router.routes.iter().any(needed) {
        let text = format!(
            "Router interface for subnet {id} on router {} cannot be deleted, as it is required by one or more routes.",
            router.meta.id
        );
        return Err(Refusal::conflict("RouterInterfaceInUseByRoute", text));
    }
    Ok(())
}

/// Replaces the static routes; every next hop must be a neighbour.
pub fn set_routes(tx: &mut Tx, id: &Id<Router>, routes: &[Route]) -> Result<Arc<Router>, Refusal> {
    if routes.len() > MOST_ROUTES {
        let text = format!("Unable to complete operation for {id}. The number of routes exceeds the maximum {MOST_ROUTES}.");
        return Err(Refusal::bad("RoutesExhausted", text));
    }
    let subnets = subnets_of(tx, id);
    let own: Vec<_> = tx.by_index::<Port>("device", id.as_str()).flat_map(|p| p.addresses().collect::<Vec<_>>()).collect();
    for route in routes {
        let invalid = |reason: &str| {
            let shown = format!("{{'destination': '{}', 'nexthop': '{}'}}", route.destination, route.nexthop);
            Refusal::bad("InvalidRoutes", format!("Invalid format for routes: {shown}, {reason}"))
        };
        if !subnets.iter().any(|s| s.cidr.contains(&route.nexthop)) {
            return Err(invalid("the nexthop is not connected with router"));
        }
        if own.contains(&route.nexthop) {
            return Err(invalid("the nexthop is used by router"));
        }
    }
    tx.update(id, |router: &mut Router| {
        router.routes = routes.to_vec();
        router.meta.generation += 1;
        Ok(())
    })
}
