//! Floating IPs: an address of an external network, and the router that leads it to a port.

use std::net::IpAddr;
use std::sync::Arc;

use unkai_model::identity::Project;
use unkai_model::network::{FloatingIp, FloatingTarget, Network, Port, Router, Standard, Subnet, owner};
use unkai_model::{Id, Meta};
use unkai_store::Tx;

use super::port::{self, AddressWish, PortRequest};
use super::{allocate, limits, network};
use crate::Refusal;

#[derive(Debug, Clone)]
pub struct FloatingRequest {
    pub project: Option<Id<Project>>,
    pub standard: Standard,
    /// The external network.
    pub network: Id<Network>,
    pub subnet: Option<Id<Subnet>>,
    pub address: Option<IpAddr>,
    pub target: Option<TargetWish>,
    pub dns_name: String,
    pub dns_domain: String,
}

/// Where it is to lead.
#[derive(Debug, Clone)]
pub struct TargetWish {
    pub port: Id<Port>,
    /// None: the port's only IPv4 address.
    pub address: Option<IpAddr>,
}

pub fn create_floating_ip(tx: &mut Tx, request: &FloatingRequest) -> Result<Arc<FloatingIp>, Refusal> {
    limits::hold(tx, "floatingip", request.project.as_ref());
    let network = network::usable(tx, &request.network, request.project.as_ref())?;
    if !network.external {
        return Err(bad(format!("Network {} is not a valid external network", request.network)));
    }
    let id = tx.new_id::<FloatingIp>();
    let wish = choose_address(tx, request)?;
    let holder = port::insert_port(
        tx,
        &PortRequest {
            fixed_ips: Some(vec![wish]),
            device_id: id.to_string(),
            device_owner: owner::FLOATING_IP.into(),
            port_security: Some(false),
            ..PortRequest::on(request.network.clone(), None)
        },
    )?;
    let address = holder.addresses().find(IpAddr::is_ipv4).ok_or_else(|| no_ipv4(&request.network))?;
    let mut meta = Meta::new(id.clone());
    meta.project = request.project.clone();
    let floating = tx.insert(FloatingIp {
        meta,
        standard: request.standard.clone(),
        network: request.network.clone(),
        address,
        holder: holder.meta.id.clone(),
        target: None,
        dns_name: request.dns_name.clone(),
        dns_domain: request.dns_domain.clone(),
    })?;
    match &request.target {
        Some(target) => associate(tx, &id, target),
        None => Ok(floating),
    }
}

fn bad(text: String) -> Refusal {
    Refusal::bad("BadRequest", format!("Bad floatingip request: {text}."))
}

fn no_ipv4(network: &Id<Network>) -> Refusal {
    bad(format!("Network {network} does not contain any IPv4 subnet"))
}

fn choose_address(tx: &Tx, request: &FloatingRequest) -> Result<AddressWish, Refusal> {
    if let Some(address) = request.address {
        return Ok(AddressWish { subnet: request.subnet.clone(), address: Some(address) });
    }
    if let Some(subnet) = &request.subnet {
        return Ok(AddressWish::of_subnet(subnet.clone()));
    }
    let subnets: Vec<_> = tx.by_index::<Subnet>("network", request.network.as_str()).filter(|s| s.cidr.addr().is_ipv4()).collect();
    if subnets.is_empty() {
        return Err(no_ipv4(&request.network));
    }
    let usable = subnets.iter().filter(|s| s.may_serve(owner::FLOATING_IP));
    let free = usable.filter_map(|s| Some((s, allocate::free_address(tx, s, allocate::From::Random, &[])?))).next();
    let (subnet, address) = free.ok_or_else(|| port::exhausted(&request.network))?;
    Ok(AddressWish::exactly(subnet.meta.id.clone(), address))
}

/// Leads a floating IP to a port, away from wherever it led before.
pub fn associate(tx: &mut Tx, id: &Id<FloatingIp>, wish: &TargetWish) -> Result<Arc<FloatingIp>, Refusal> {
    let floating = tx.require(id)?;
    let port = tx.require(&wish.port)?;
    if floating.meta.project.is_some() && port.meta.project != floating.meta.project {
        let text =
            format!("Cannot process floating IP association with Port {}, since that port is owned by a different project", wish.port);
        return Err(bad(text));
    }
    let fixed = choose_fixed(&port, wish.address)?;
    let subnet = port.fixed_ips.iter().find(|ip| ip.address == fixed).map(|ip| ip.subnet.clone());
    let subnet = subnet.ok_or_else(|| bad(format!("Port {} does not have fixed ip {fixed}", wish.port)))?;
    let router = router_between(tx, &subnet, &floating.network).ok_or_else(|| {
        let text = format!(
            "External network {} is not reachable from subnet {subnet}.  Therefore, cannot associate Port {} with a Floating IP.",
            floating.network, wish.port
        );
        Refusal::missing("ExternalGatewayForFloatingIPNotFound", text)
    })?;
    let target = FloatingTarget { port: wish.port.clone(), address: fixed, router };
    let mut others = tx.by_index::<FloatingIp>("port", wish.port.as_str());
    let occupied =
        others.any(|o| o.meta.id != *id && o.network == floating.network && o.target.as_ref().is_some_and(|t| t.address == fixed));
    drop(others);
    if occupied {
        let text = format!(
            "Cannot associate floating IP {} ({id}) with port {} using fixed IP {fixed}, as that fixed IP already has a floating IP on external network {}.",
            floating.address, wish.port, floating.network
        );
        return Err(Refusal::conflict("FloatingIPPortAlreadyAssociated", text));
    }
    set_target(tx, id, Some(target))
}

fn choose_fixed(port: &Port, wished: Option<IpAddr>) -> Result<IpAddr, Refusal> {
    let id = &port.meta.id;
    if let Some(address) = wished {
        return match port.has_address(address) && address.is_ipv4() {
            true => Ok(address),
            false => Err(bad(format!("Port {id} does not have fixed ip {address}"))),
        };
    }
    let mut all = port.addresses().filter(IpAddr::is_ipv4);
    match (all.next(), all.next()) {
        (Some(address), None) => Ok(address),
        (None, _) => Err(bad(format!("Cannot add floating IP to port {id} that has no fixed IPv4 addresses"))),
        (Some(_), Some(_)) => Err(bad(format!(
            "Port {id} has multiple fixed IPv4 addresses.  Must provide a specific IPv4 address when assigning a floating IP"
        ))),
    }
}

/// A router with an interface in the subnet and its gateway on the external network; first the one that is the subnet's gateway.
fn router_between(tx: &Tx, subnet: &Id<Subnet>, external: &Id<Network>) -> Option<Id<Router>> {
    let gateway = tx.get(subnet)?.gateway;
    let mut found: Vec<(bool, Id<Router>)> = Vec::new();
    for port in tx.by_index::<Port>("subnet", subnet.as_str()).filter(|p| p.device_owner == owner::ROUTER_INTERFACE) {
        let Some(router) = tx.get(&Id::<Router>::new(port.device_id.as_str())) else { continue };
        if router.gateway.as_ref().is_some_and(|g| g.network == *external) {
            let is_gateway = gateway.is_some_and(|g| port.has_address(g));
            found.push((!is_gateway, router.meta.id.clone()));
        }
    }
    found.into_iter().min().map(|(_, router)| router)
}

/// Leads it nowhere.
pub fn dissociate(tx: &mut Tx, id: &Id<FloatingIp>) -> Result<Arc<FloatingIp>, Refusal> {
    set_target(tx, id, None)
}

fn set_target(tx: &mut Tx, id: &Id<FloatingIp>, target: Option<FloatingTarget>) -> Result<Arc<FloatingIp>, Refusal> {
    tx.update(id, |floating| {
        floating.target = target;
        floating.meta.generation += 1;
        Ok(())
    })
}

/// Gives the address back.
pub fn delete_floating_ip(tx: &mut Tx, id: &Id<FloatingIp>) -> Result<(), Refusal> {
    let floating = tx.delete(id)?;
    tx.delete(&floating.holder)?;
    Ok(())
}
