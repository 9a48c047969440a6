//! Subnets: checked against themselves and their network, and served by the network's DHCP port from the start.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use unkai_model::identity::Project;
use unkai_model::network::{FixedIp, Ipv6Mode, Network, Pool, Port, Route, Standard, Subnet, SubnetPool, address, default_pools, owner};
use unkai_model::{Id, Meta};
use unkai_store::Tx;

use super::{dhcp, limits, subnet_pool};
use crate::Refusal;
use crate::refusal::subnet_in_use;

const MOST_NAMESERVERS: usize = 5;
const MOST_HOST_ROUTES: usize = 20;

#[derive(Debug, Clone)]
pub struct SubnetRequest {
    pub project: Option<Id<Project>>,
    pub name: String,
    pub standard: Standard,
    pub network: Id<Network>,
    pub ip_version: u8,
    pub cidr: Option<IpNet>,
    pub pool: Option<Id<SubnetPool>>,
    pub prefix_len: Option<u8>,
    /// None: the first address. Some(None): no gateway.
    pub gateway: Option<Option<IpAddr>>,
    pub pools: Option<Vec<Pool>>,
    pub enable_dhcp: bool,
    pub dns_nameservers: Vec<IpAddr>,
    pub host_routes: Vec<Route>,
    pub ipv6_ra_mode: Option<Ipv6Mode>,
    pub ipv6_address_mode: Option<Ipv6Mode>,
    pub service_types: Vec<String>,
}

impl SubnetRequest {
    pub fn on(network: Id<Network>, project: Option<Id<Project>>, ip_version: u8) -> Self {
        SubnetRequest {
            project,
            name: String::new(),
            standard: Standard::default(),
            network,
            ip_version,
            cidr: None,
            pool: None,
            prefix_len: None,
            gateway: None,
            pools: None,
            enable_dhcp: true,
            dns_nameservers: Vec::new(),
            host_routes: Vec::new(),
            ipv6_ra_mode: None,
            ipv6_address_mode: None,
            service_types: Vec::new(),
        }
    }
}

/// What is to change; none: stays.
#[derive(Debug, Clone, Default)]
pub struct SubnetChange {
    pub name: Option<String>,
    pub description: Option<String>,
    pub gateway: Option<Option<IpAddr>>,
    pub pools: Option<Vec<Pool>>,
    pub enable_dhcp: Option<bool>,
    pub dns_nameservers: Option<Vec<IpAddr>>,
    pub host_routes: Option<Vec<Route>>,
    pub service_types: Option<Vec<String>>,
}

pub fn create_subnet(tx: &mut Tx, request: &SubnetRequest) -> Result<Arc<Subnet>, Refusal> {
    limits::hold(tx, "subnet", request.project.as_ref());
    let network = tx.require(&request.network)?;
    let cidr = choose_cidr(tx, request)?;
    check_cidr(request, &cidr)?;
    check_no_overlap(tx, &network, &cidr)?;
    let gateway = request.gateway.unwrap_or_else(|| Some(first_address(&cidr)));
    let mut meta = Meta::new(tx.new_id()).named(&request.name);
    meta.project = request.project.clone();
    let subnet = Subnet {
        meta,
        standard: request.standard.clone(),
        network: request.network.clone(),
        cidr,
        gateway,
        pools: request.pools.clone().unwrap_or_else(|| default_pools(&cidr, gateway)),
        enable_dhcp: request.enable_dhcp,
        dns_nameservers: request.dns_nameservers.clone(),
        host_routes: request.host_routes.clone(),
        ipv6_ra_mode: request.ipv6_ra_mode,
        ipv6_address_mode: request.ipv6_address_mode,
        subnet_pool: request.pool.clone(),
        service_types: request.service_types.clone(),
    };
    check(&subnet)?;
    let subnet = tx.insert(subnet)?;
    give_self_made_addresses(tx, &subnet)?;
    dhcp::refresh(tx, &request.network)?;
    Ok(subnet)
}

fn choose_cidr(tx: &Tx, request: &SubnetRequest) -> Result<IpNet, Refusal> {
    if let Some(id) = &request.pool {
        let pool = tx.require(id)?;
        if pool.ip_version() != request.ip_version {
            let text = format!("subnetpool {id} is not of IP version {}", request.ip_version);
            return Err(Refusal::bad("BadRequest", format!("Bad subnets request: {text}.")));
        }
        return subnet_pool::allocate_prefix(tx, &pool, request.project.as_ref(), request.cidr, request.prefix_len);
    }
    let text = "Bad subnets request: a subnetpool must be specified in the absence of a cidr.";
    request.cidr.ok_or_else(|| Refusal::bad("BadRequest", text))
}

fn version(address: IpAddr) -> u8 {
    if address.is_ipv4() { 4 } else { 6 }
}

fn same_version(ip_version: u8, address: IpAddr, name: &str) -> Result<(), Refusal> {
    if version(address) == ip_version {
        return Ok(());
    }
    Err(Refusal::input(format!("{name} '{address}' does not match the ip_version '{ip_version}'")))
}

fn check_cidr(request: &SubnetRequest, cidr: &IpNet) -> Result<(), Refusal> {
    if version(cidr.addr()) != request.ip_version {
        return Err(Refusal::input(format!("cidr '{cidr}' does not match the ip_version '{}'", request.ip_version)));
    }
    if cidr.prefix_len() == 0 {
        return Err(Refusal::input("0 is not allowed as CIDR prefix length"));
    }
    if request.enable_dhcp && cidr.addr().is_multicast() {
        return Err(Refusal::input("Multicast IP subnet is not supported if enable_dhcp is True"));
    }
    if request.enable_dhcp && cidr.addr().is_loopback() {
        return Err(Refusal::input("Loopback IP subnet is not supported if enable_dhcp is True"));
    }
    Ok(())
}

fn check_no_overlap(tx: &Tx, network: &Network, cidr: &IpNet) -> Result<(), Refusal> {
    let id = &network.meta.id;
    if tx.by_index::<Subnet>("network", id.as_str()).any(|s| address::overlap(&s.cidr, cidr)) {
        return Err(Refusal::input(format!("Requested subnet with cidr: {cidr} for network: {id} overlaps with another subnet")));
    }
    Ok(())
}

/// The gateway of those who name none.
fn first_address(cidr: &IpNet) -> IpAddr {
    let network = cidr.network();
    let step = u128::from(address::is_reserved(cidr, network));
    address::from_number(address::number(network) + step, network)
}

/// What must hold within one subnet, new or changed.
fn check(subnet: &Subnet) -> Result<(), Refusal> {
    let ip_version = version(subnet.cidr.addr());
    check_ipv6_modes(subnet)?;
    if subnet.enable_dhcp && subnet.cidr.prefix_len() >= subnet.cidr.max_prefix_len() - 1 {
        return Err(Refusal::input("Subnet has a prefix length that is incompatible with DHCP service enabled"));
    }
    if let Some(gateway) = subnet.gateway {
        same_version(ip_version, gateway, "gateway_ip")?;
        if address::is_reserved(&subnet.cidr, gateway) {
            return Err(Refusal::input("Gateway is not valid on subnet"));
        }
    }
    check_pools(subnet)?;
    let id = &subnet.meta.id;
    if subnet.dns_nameservers.len() > MOST_NAMESERVERS {
        let text = format!("Unable to complete operation for {id}. The number of DNS nameservers exceeds the limit {MOST_NAMESERVERS}.");
        return Err(Refusal::bad("DNSNameServersExhausted", text));
    }
    if subnet.host_routes.len() > MOST_HOST_ROUTES {
        let text = format!("Unable to complete operation for {id}. The number of host routes exceeds the limit {MOST_HOST_ROUTES}.");
        return Err(Refusal::bad("HostRoutesExhausted", text));
    }
    for route in &subnet.host_routes {
        same_version(ip_version, route.nexthop, "nexthop")?;
        same_version(ip_version, route.destination.addr(), "destination")?;
    }
    subnet.dns_nameservers.iter().try_for_each(|a| same_version(ip_version, *a, "dns_nameserver"))
}

fn check_ipv6_modes(subnet: &Subnet) -> Result<(), Refusal> {
    let (ra, own) = (subnet.ipv6_ra_mode, subnet.ipv6_address_mode);
    if ra.is_none() && own.is_none() {
        return Ok(());
    }
    if subnet.cidr.addr().is_ipv4() {
        let name = if ra.is_some() { "ipv6_ra_mode" } else { "ipv6_address_mode" };
        return Err(Refusal::input(format!("{name} is not valid when ip_version is 4")));
    }
    if !subnet.enable_dhcp {
        return Err(Refusal::input("ipv6_ra_mode or ipv6_address_mode cannot be set when enable_dhcp is set to False"));
    }
    if let (Some(ra), Some(own)) = (ra, own)
        && ra != own
    {
        let text = format!(
            "ipv6_ra_mode set to '{}' with ipv6_address_mode set to '{}' is not valid. If both attributes are set, they must be the same value",
            ra.text(),
            own.text()
        );
        return Err(Refusal::input(text));
    }
    if subnet.is_auto_addressed() && subnet.cidr.prefix_len() != 64 {
        let text = format!(
            "Invalid CIDR {} for IPv6 address mode. OpenStack uses the EUI-64 address format, which requires the prefix to be /64",
            subnet.cidr
        );
        return Err(Refusal::input(text));
    }
    Ok(())
}

fn check_pools(subnet: &Subnet) -> Result<(), Refusal> {
    let shown = |pool: &Pool| format!("{}-{}", pool.start, pool.end);
    for pool in &subnet.pools {
        let same = pool.start.is_ipv4() == pool.end.is_ipv4() && pool.start.is_ipv4() == subnet.cidr.addr().is_ipv4();
        if !same || pool.start > pool.end {
            return Err(Refusal::bad("InvalidAllocationPool", format!("The allocation pool {} is not valid.", shown(pool))));
        }
        let inside = |a: IpAddr| subnet.cidr.contains(&a) && !address::is_reserved(&subnet.cidr, a);
        if !inside(pool.start) || !inside(pool.end) {
            let text = format!("The allocation pool {} spans beyond the subnet cidr {}.", shown(pool), subnet.cidr);
            return Err(Refusal::bad("OutOfBoundsAllocationPool", text));
        }
        if let Some(gateway) = subnet.gateway.filter(|g| pool.contains(*g)) {
            let text = format!("Gateway ip {gateway} conflicts with allocation pool {}.", shown(pool));
            return Err(Refusal::conflict("GatewayConflictWithAllocationPools", text));
        }
    }
    let mut sorted: Vec<&Pool> = subnet.pools.iter().collect();
    sorted.sort_by_key(|pool| pool.start);
    for pair in sorted.windows(2) {
        if pair[0].end >= pair[1].start {
            let text = format!("Found overlapping allocation pools: {} {} for subnet {}.", shown(pair[0]), shown(pair[1]), subnet.cidr);
            return Err(Refusal::conflict("OverlappingAllocationPools", text));
        }
    }
    Ok(())
}

/// Ports that were there before get the address that their devices will make themselves.
fn give_self_made_addresses(tx: &mut Tx, subnet: &Subnet) -> Result<(), Refusal> {
    if !subnet.is_auto_addressed() {
        return Ok(());
    }
    let ports: Vec<_> = tx.by_index::<Port>("network", subnet.network.as_str()).filter(|p| !p.is_service()).collect();
    for port in ports {
        let ip = FixedIp { subnet: subnet.meta.id.clone(), address: subnet.auto_address(port.mac) };
        tx.update(&port.meta.id, |port: &mut Port| {
            port.fixed_ips.push(ip);
            Ok::<_, Refusal>(())
        })?;
    }
    Ok(())
}

pub fn update_subnet(tx: &mut Tx, id: &Id<Subnet>, change: &SubnetChange) -> Result<Arc<Subnet>, Refusal> {
    let mut subnet = Subnet::clone(&*tx.require(id)?);
    let SubnetChange { name, description, gateway, pools, enable_dhcp, dns_nameservers, host_routes, service_types } = change.clone();
    if let Some(gateway) = gateway
        && gateway != subnet.gateway
    {
        check_gateway_free(tx, &subnet)?;
        subnet.gateway = gateway;
    }
    subnet.meta.name = name.unwrap_or(subnet.meta.name);
    subnet.standard.description = description.unwrap_or(subnet.standard.description);
    subnet.pools = pools.unwrap_or(subnet.pools);
    subnet.enable_dhcp = enable_dhcp.unwrap_or(subnet.enable_dhcp);
    subnet.dns_nameservers = dns_nameservers.unwrap_or(subnet.dns_nameservers);
    subnet.host_routes = host_routes.unwrap_or(subnet.host_routes);
    subnet.service_types = service_types.unwrap_or(subnet.service_types);
    check(&subnet)?;
    subnet.meta.generation += 1;
    let network = subnet.network.clone();
    tx.update(id, |stored| {
        *stored = subnet;
        Ok::<_, Refusal>(())
    })?;
    dhcp::refresh(tx, &network)?;
    Ok(tx.require(id)?)
}

/// A router that holds the gateway's address would stay behind.
fn check_gateway_free(tx: &Tx, subnet: &Subnet) -> Result<(), Refusal> {
    let Some(gateway) = subnet.gateway else { return Ok(()) };
    let holder = tx.holder::<Port>(address::ADDRESS, &address::key(&subnet.network, gateway)).and_then(|id| tx.get(&id));
    match holder.filter(|port| port.device_owner == owner::ROUTER_INTERFACE) {
        None => Ok(()),
        Some(port) => {
            let text = format!("Current gateway ip {gateway} already in use by port {}. Unable to update.", port.meta.id);
            Err(Refusal::conflict("GatewayIpInUse", text))
        }
    }
}

/// Deletes a subnet that no port needs. Addresses that devices made themselves go with it.
pub fn delete_subnet(tx: &mut Tx, id: &Id<Subnet>) -> Result<(), Refusal> {
    let subnet = tx.require(id)?;
    let ports: Vec<_> = tx.by_index::<Port>("subnet", id.as_str()).filter(|p| p.device_owner != owner::DHCP).collect();
    if ports.iter().any(|p| !subnet.is_auto_addressed() || p.is_service()) {
        return Err(subnet_in_use(id.as_str()));
    }
    for port in ports {
        tx.update(&port.meta.id, |port: &mut Port| {
            port.fixed_ips.retain(|ip| ip.subnet != *id);
            Ok::<_, Refusal>(())
        })?;
    }
    tx.delete(id)?;
    dhcp::refresh(tx, &subnet.network)
}
