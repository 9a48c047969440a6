//! Ports: made with everything they hold, and removed with it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use unkai_model::compute::Host;
use unkai_model::identity::Project;
use unkai_model::network::{
    AddressPair, DhcpOption, FixedIp, FloatingIp, MacAddr, Network, Port, PortStatus, SecurityGroup, Standard, Subnet, address, owner,
};
use unkai_model::{Id, Kind, Meta};
use unkai_store::Tx;

use super::allocate::{self, From};
use super::{access, limits, security_group};
use crate::Refusal;
use crate::refusal::mac_in_use;

/// More would make one port eat a subnet.
const MOST_FIXED_IPS: usize = 5;

/// What a port is to be. [`PortRequest::on`] fills in what a caller who says nothing gets.
#[derive(Debug, Clone)]
pub struct PortRequest {
    pub project: Option<Id<Project>>,
    pub name: String,
    pub standard: Standard,
    pub network: Id<Network>,
    /// None: chosen.
    pub mac: Option<MacAddr>,
    pub admin_up: bool,
    /// None: one IPv4 and one IPv6 address, as the network has subnets.
    pub fixed_ips: Option<Vec<AddressWish>>,
    pub device_id: String,
    pub device_owner: String,
    /// None: the network's.
    pub port_security: Option<bool>,
    /// None: the project's default group.
    pub security_groups: Option<Vec<Id<SecurityGroup>>>,
    pub allowed_address_pairs: Vec<AddressPair>,
    pub extra_dhcp_options: Vec<DhcpOption>,
    pub dns_name: String,
    pub vnic_type: String,
    pub binding_host: Option<Id<Host>>,
    pub binding_profile: BTreeMap<String, serde_json::Value>,
}

/// One address asked for: any of a subnet, a certain one, or a certain one that must be of that subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressWish {
    pub subnet: Option<Id<Subnet>>,
    pub address: Option<IpAddr>,
}

impl AddressWish {
    pub fn of_subnet(subnet: Id<Subnet>) -> Self {
        AddressWish { subnet: Some(subnet), address: None }
    }
    pub fn exactly(subnet: Id<Subnet>, address: IpAddr) -> Self {
        AddressWish { subnet: Some(subnet), address: Some(address) }
    }
    pub fn address(address: IpAddr) -> Self {
        AddressWish { subnet: None, address: Some(address) }
    }
}

impl PortRequest {
    pub fn on(network: Id<Network>, project: Option<Id<Project>>) -> Self {
        PortRequest {
            project,
            name: String::new(),
            standard: Standard::default(),
            network,
            mac: None,
            admin_up: true,
            fixed_ips: None,
            device_id: String::new(),
            device_owner: String::new(),
            port_security: None,
            security_groups: None,
            allowed_address_pairs: Vec::new(),
            extra_dhcp_options: Vec::new(),
            dns_name: String::new(),
            vnic_type: "normal".into(),
            binding_host: None,
            binding_profile: BTreeMap::new(),
        }
    }

    /// A port of a server.
    pub fn for_server(network: Id<Network>, project: Id<Project>, server: &str) -> Self {
        PortRequest { device_id: server.into(), device_owner: owner::COMPUTE.into(), ..Self::on(network, Some(project)) }
    }
}

/// Makes a port with its addresses. Whether the caller may is decided before.
pub fn create_port(tx: &mut Tx, request: &PortRequest) -> Result<Arc<Port>, Refusal> {
    limits::hold(tx, "port", request.project.as_ref());
    insert_port(tx, request)
}

/// The same, without asking the quota: for ports that the service makes for itself.
pub(super) fn insert_port(tx: &mut Tx, request: &PortRequest) -> Result<Arc<Port>, Refusal> {
    let network = tx.require(&request.network)?;
    let mac = choose_mac(tx, &network.meta.id, request.mac)?;
    let fixed_ips = choose_addresses(tx, &network, &request.device_owner, mac, request.fixed_ips.as_deref(), &[])?;
    let trusted = request.device_owner.starts_with("network:");
    let port_security = request.port_security.unwrap_or(network.port_security && !trusted);
    let security_groups = choose_groups(tx, request, port_security, trusted, !fixed_ips.is_empty())?;
    check_pairs(port_security, &request.allowed_address_pairs)?;
    let mut meta = Meta::new(tx.new_id()).named(&request.name);
    meta.project = request.project.clone();
    Ok(tx.insert(Port {
        meta,
        standard: request.standard.clone(),
        network: network.meta.id.clone(),
        mac,
        admin_up: request.admin_up,
        fixed_ips,
        device_id: request.device_id.clone(),
        device_owner: request.device_owner.clone(),
        port_security,
        security_groups,
        allowed_address_pairs: request.allowed_address_pairs.clone(),
        extra_dhcp_options: request.extra_dhcp_options.clone(),
        dns_name: request.dns_name.clone(),
        vnic_type: request.vnic_type.clone(),
        binding_host: request.binding_host.clone(),
        binding_profile: request.binding_profile.clone(),
        status: PortStatus::default(),
    })?)
}

pub(super) fn choose_mac(tx: &Tx, network: &Id<Network>, wished: Option<MacAddr>) -> Result<MacAddr, Refusal> {
    match wished {
        None => allocate::free_mac(tx, network),
        Some(mac) if tx.is_claimed(address::MAC, &format!("{network}/{mac}")) => Err(mac_in_use(network.as_str(), &mac.to_string())),
        Some(mac) => Ok(mac),
    }
}

/// Turns wishes into addresses. `kept`: what the port has already and may keep when it fits a wish.
pub(super) fn choose_addresses(
    tx: &Tx,
    network: &Network,
    device_owner: &str,
    mac: MacAddr,
    wishes: Option<&[AddressWish]>,
    kept: &[FixedIp],
) -> Result<Vec<FixedIp>, Refusal> {
    let subnets: Vec<Arc<Subnet>> = tx.by_index("network", network.meta.id.as_str()).collect();
    let mut choice = Choice {
        tx,
        network,
        mac,
        subnets: &subnets,
        is_infrastructure: device_owner.starts_with("network:router_") || device_owner == owner::DHCP,
        found: Vec::new(),
    };
    match wishes {
        Some(wishes) if wishes.len() > MOST_FIXED_IPS => {
            return Err(Refusal::input("Exceeded maximum amount of fixed ips per port"));
        }
        Some(wishes) => wishes.iter().try_for_each(|wish| choice.grant(wish, kept))?,
        None => choice.automatic(device_owner)?,
    }
    if !choice.is_infrastructure {
        choice.add_self_made();
    }
    Ok(choice.found)
}

struct Choice<'a, 'tx> {
    tx: &'a Tx<'tx>,
    network: &'a Network,
    mac: MacAddr,
    subnets: &'a [Arc<Subnet>],
    /// Routers and DHCP ports have the addresses they are given, and make none themselves.
    is_infrastructure: bool,
    found: Vec<FixedIp>,
}

impl Choice<'_, '_> {
    fn has(&self, address: IpAddr) -> bool {
        self.found.iter().any(|ip| ip.address == address)
    }

    fn take(&mut self, subnet: &Subnet, address: IpAddr) {
        self.found.push(FixedIp { subnet: subnet.meta.id.clone(), address });
    }

    /// Members of such subnets make their address themselves, whatever was asked for.
    fn add_self_made(&mut self) {
        for subnet in self.subnets.iter().filter(|s| s.is_auto_addressed()) {
            if !self.found.iter().any(|ip| ip.subnet == subnet.meta.id) {
                self.take(subnet, subnet.auto_address(self.mac));
            }
        }
    }

    /// One address of each family from the first subnet that has one left.
    fn automatic(&mut self, device_owner: &str) -> Result<(), Refusal> {
        let served = |s: &&Arc<Subnet>| s.may_serve(device_owner) && (self.is_infrastructure || !s.is_auto_addressed());
        let usable: Vec<_> = self.subnets.iter().filter(served).cloned().collect();
        if usable.is_empty() && self.subnets.iter().any(|s| !s.service_types.is_empty() && !s.is_auto_addressed()) {
            let text = format!(
                "No valid service subnet for the given device owner, network_id:{}, service_type:{device_owner}.",
                self.network.meta.id
            );
            return Err(Refusal::conflict("IpAddressGenerationFailureNoMatchingSubnet", text));
        }
        for family in [true, false] {
            let mut of_family = usable.iter().filter(|s| s.cidr.addr().is_ipv4() == family).peekable();
            if of_family.peek().is_none() {
                continue;
            }
            let found = of_family.find_map(|s| Some((s, allocate::free_address(self.tx, s, From::Random, &[])?)));
            let (subnet, address) = found.ok_or_else(|| exhausted(&self.network.meta.id))?;
            self.take(subnet, address);
        }
        Ok(())
    }

    fn grant(&mut self, wish: &AddressWish, kept: &[FixedIp]) -> Result<(), Refusal> {
        let fits = |ip: &&FixedIp| wish.subnet.as_ref().is_none_or(|s| *s == ip.subnet) && wish.address.is_none_or(|a| a == ip.address);
        if let Some(ip) = kept.iter().filter(fits).find(|ip| !self.has(ip.address)) {
            self.found.push(ip.clone());
            return Ok(());
        }
        let subnet = self.subnet_of(wish)?;
        match wish.address {
            Some(address) => self.exactly(&subnet, address),
            None if subnet.is_auto_addressed() && !self.is_infrastructure => {
                self.take(&subnet, subnet.auto_address(self.mac));
                Ok(())
            }
            None => {
                let besides: Vec<IpAddr> = self.found.iter().map(|ip| ip.address).collect();
                let found = allocate::free_address(self.tx, &subnet, From::Random, &besides);
                let address = found.ok_or_else(|| exhausted(&self.network.meta.id))?;
                self.take(&subnet, address);
                Ok(())
            }
        }
    }

    fn subnet_of(&self, wish: &AddressWish) -> Result<Arc<Subnet>, Refusal> {
        if let Some(id) = &wish.subnet {
            let subnet = self.tx.require(id)?;
            if subnet.network != self.network.meta.id {
                let text =
                    format!("Failed to create port on network {}, because fixed_ips included invalid subnet {id}", self.network.meta.id);
                return Err(Refusal::input(text));
            }
            return Ok(subnet);
        }
        let Some(address) = wish.address else { return Err(Refusal::input("IP allocation requires subnet_id or ip_address")) };
        let found = self.subnets.iter().find(|s| s.cidr.contains(&address)).cloned();
        found.ok_or_else(|| {
            let text = format!("IP address {address} is not a valid IP for any of the subnets on the specified network.");
            Refusal::bad("InvalidIpForNetwork", text)
        })
    }

    fn exactly(&mut self, subnet: &Subnet, address: IpAddr) -> Result<(), Refusal> {
        if !subnet.cidr.contains(&address) || address::is_reserved(&subnet.cidr, address) {
            let text = format!("IP address {address} is not a valid IP for the specified subnet.");
            return Err(Refusal::bad("InvalidIpForSubnet", text));
        }
        if subnet.is_auto_addressed() && !self.is_infrastructure && address != subnet.auto_address(self.mac) {
            let text = format!(
                "IPv6 address {address} cannot be directly assigned to a port on subnet {} as the subnet is configured for automatic addresses",
                subnet.meta.id
            );
            return Err(Refusal::bad("AllocationOnAutoAddressSubnet", text));
        }
        if self.has(address) {
            return Err(Refusal::input(format!("Duplicate IP address '{address}'")));
        }
        if self.tx.is_claimed(address::ADDRESS, &address::key(&self.network.meta.id, address)) {
            return Err(address_in_use(subnet, address));
        }
        self.take(subnet, address);
        Ok(())
    }
}

pub(super) fn exhausted(network: &Id<Network>) -> Refusal {
    Refusal::conflict("IpAddressGenerationFailure", format!("No more IP addresses available on network {network}."))
}

fn address_in_use(subnet: &Subnet, address: IpAddr) -> Refusal {
    let text = format!("IP address {address} already allocated in subnet {}", subnet.meta.id);
    Refusal::conflict("IpAddressAlreadyAllocated", text)
}

fn choose_groups(
    tx: &mut Tx,
    request: &PortRequest,
    port_security: bool,
    trusted: bool,
    has_address: bool,
) -> Result<Vec<Id<SecurityGroup>>, Refusal> {
    match &request.security_groups {
        Some(groups) => {
            if !groups.is_empty() && (!port_security || !has_address) {
                return Err(security_needed());
            }
            check_groups(tx, request.project.as_ref(), groups)
        }
        None if !port_security || trusted || !has_address => Ok(Vec::new()),
        None => match &request.project {
            Some(project) => Ok(vec![security_group::default_security_group(tx, project)?]),
            None => Ok(Vec::new()),
        },
    }
}

pub(super) fn security_needed() -> Refusal {
    let text = "Port security must be enabled and port must have an IP address in order to use security groups.";
    Refusal::bad("PortSecurityAndIPRequiredForSecurityGroups", text)
}

/// The groups must be there for the project; each is named once.
pub(super) fn check_groups(
    tx: &Tx,
    project: Option<&Id<Project>>,
    groups: &[Id<SecurityGroup>],
) -> Result<Vec<Id<SecurityGroup>>, Refusal> {
    let view = tx.view();
    let unique: BTreeSet<_> = groups.iter().collect();
    for id in &unique {
        let seen = view.get(id).filter(|group| project.is_none() || access::may_see_group(&view, project, group));
        seen.ok_or_else(|| Refusal::not_found(SecurityGroup::NOUN, id.as_str()))?;
    }
    Ok(unique.into_iter().cloned().collect())
}

pub(super) fn check_pairs(port_security: bool, pairs: &[AddressPair]) -> Result<(), Refusal> {
    if port_security || pairs.is_empty() {
        return Ok(());
    }
    let text = "Port Security must be enabled in order to have allowed address pairs on a port.";
    Err(Refusal::conflict("AddressPairAndPortSecurityRequired", text))
}

/// Removes a port; floating IPs that led to it lead nowhere then. Ports of routers are removed with [`super::remove_interface`].
pub fn delete_port(tx: &mut Tx, id: &Id<Port>) -> Result<(), Refusal> {
    tx.require(id)?;
    let floating: Vec<_> = tx.by_index::<FloatingIp>("port", id.as_str()).map(|f| f.meta.id.clone()).collect();
    for floating in floating {
        super::floating_ip::dissociate(tx, &floating)?;
    }
    tx.delete(id)?;
    Ok(())
}

/// Removes all ports of a device, such as those that were made for a server which is deleted now.
pub fn delete_ports_of(tx: &mut Tx, device_id: &str) -> Result<(), Refusal> {
    let ports: Vec<_> = tx.by_index::<Port>("device", device_id).map(|port| port.meta.id.clone()).collect();
    ports.iter().try_for_each(|port| delete_port(tx, port))
}
