//! A port: one interface of a device on a network.
//!
//! ```text
//! created ──(binding_host, by control when its server is placed)──> bound ──(agent's report: status.up)──> ACTIVE
//! ```

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{MacAddr, Network, SecurityGroup, Standard, Subnet, address};
use crate::compute::Host;
use crate::identity::Project;
use crate::{Derived, Id, Kind, Meta};

/// Values of `device_owner` that mean something here.
pub mod owner {
    pub const DHCP: &str = "network:dhcp";
    pub const ROUTER_INTERFACE: &str = "network:router_interface";
    pub const ROUTER_GATEWAY: &str = "network:router_gateway";
    pub const FLOATING_IP: &str = "network:floatingip";
    /// What servers' ports have.
    pub const COMPUTE: &str = "compute:nova";
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Port {
    pub meta: Meta<Port>,
    #[serde(default)]
    pub standard: Standard,
    pub network: Id<Network>,
    pub mac: MacAddr,
    pub admin_up: bool,
    #[serde(default)]
    pub fixed_ips: Vec<FixedIp>,
    #[serde(default)]
    pub device_id: String,
    #[serde(default)]
    pub device_owner: String,
    /// When false, no rules and no anti-spoofing apply.
    pub port_security: bool,
    #[serde(default)]
    pub security_groups: Vec<Id<SecurityGroup>>,
    #[serde(default)]
    pub allowed_address_pairs: Vec<AddressPair>,
    #[serde(default)]
    pub extra_dhcp_options: Vec<DhcpOption>,
    #[serde(default)]
    pub dns_name: String,
    pub vnic_type: String,
    /// Where it is to be; written by control when its server is placed. An administrator may name a host that does not exist.
    #[serde(default)]
    pub binding_host: Option<Id<Host>>,
    #[serde(default)]
    pub binding_profile: BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    pub status: PortStatus,
}

/// Written from the report of the agent that carries the port.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PortStatus {
    pub up: bool,
    pub host: Option<Id<Host>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixedIp {
    pub subnet: Id<Subnet>,
    pub address: IpAddr,
}

/// A further address, or prefix, that the device may use as its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressPair {
    pub address: IpNet,
    /// None: the port's own.
    #[serde(default)]
    pub mac: Option<MacAddr>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhcpOption {
    pub name: String,
    pub value: String,
    /// 4 or 6.
    pub ip_version: u8,
}

impl Port {
    /// Made by the service for itself: not shown as the tenant's wish, and removed with what it serves.
    pub fn is_service(&self) -> bool {
        self.device_owner.starts_with("network:")
    }

    pub fn is_owned_by(&self, device_owner: &str, device_id: &str) -> bool {
        self.device_owner == device_owner && self.device_id == device_id
    }

    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.fixed_ips.iter().map(|ip| ip.address)
    }

    pub fn has_address(&self, address: IpAddr) -> bool {
        self.addresses().any(|a| a == address)
    }
}

/// The index and the quota tally that all tenants' network resources have.
pub(super) fn owned(d: &mut Derived, resource: &'static str, project: Option<&Id<Project>>) {
    let project = project.map_or("", |p| p.as_str());
    d.index("project", project);
    d.tally(resource, project, 1);
}

impl Kind for Port {
    const NAME: &'static str = "port";
    crate::meta_accessors!();

    /// Indexes: `project`, `network`, `subnet`, `device`, `security-group`, `host` (wanted), `dhcp` (the DHCP port of a network).
    /// Claims: each address and the MAC in its network. Tallies: `port` by project, `subnet-addresses` by subnet.
    fn derive(&self, d: &mut Derived) {
        owned(d, Self::NAME, self.meta.project.as_ref());
        d.index("network", &self.network);
        d.refers(&self.network);
        d.claim(address::MAC, format!("{}/{}", self.network, self.mac));
        if !self.device_id.is_empty() {
            d.index("device", &self.device_id);
        }
        if self.device_owner == owner::DHCP {
            d.index("dhcp", &self.network);
        }
        for ip in &self.fixed_ips {
            d.index("subnet", &ip.subnet);
            d.refers(&ip.subnet);
            d.tally("subnet-addresses", &ip.subnet, 1);
            d.claim(address::ADDRESS, address::key(&self.network, ip.address));
        }
        for group in &self.security_groups {
            d.index("security-group", group);
            d.refers(group);
        }
        if let Some(host) = &self.binding_host {
            d.index("host", host);
        }
    }
}
