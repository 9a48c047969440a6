//! A subnet: a prefix of addresses on a network, and what its members are told by DHCP or router advertisement.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{MacAddr, Network, Standard, SubnetPool, address};
use crate::{Derived, Id, Kind, Meta};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Subnet {
    pub meta: Meta<Subnet>,
    #[serde(default)]
    pub standard: Standard,
    pub network: Id<Network>,
    pub cidr: IpNet,
    pub gateway: Option<IpAddr>,
    /// Where addresses are given out that nobody asked for by value.
    pub pools: Vec<Pool>,
    pub enable_dhcp: bool,
    #[serde(default)]
    pub dns_nameservers: Vec<IpAddr>,
    #[serde(default)]
    pub host_routes: Vec<Route>,
    /// Who sends router advertisements, and which flags they carry; none: somebody outside, or nobody.
    #[serde(default)]
    pub ipv6_ra_mode: Option<Ipv6Mode>,
    /// How members get their address.
    #[serde(default)]
    pub ipv6_address_mode: Option<Ipv6Mode>,
    #[serde(default)]
    pub subnet_pool: Option<Id<SubnetPool>>,
    /// Only ports of these device owners get an address here without asking; empty: all.
    #[serde(default)]
    pub service_types: Vec<String>,
}

/// Both ends belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    pub start: IpAddr,
    pub end: IpAddr,
}

impl Pool {
    pub fn contains(&self, a: IpAddr) -> bool {
        a.is_ipv4() == self.start.is_ipv4() && self.start <= a && a <= self.end
    }
    pub fn size(&self) -> u128 {
        (address::number(self.end) - address::number(self.start)).saturating_add(1)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    pub destination: IpNet,
    pub nexthop: IpAddr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ipv6Mode {
    Slaac,
    #[serde(rename = "dhcpv6-stateless")]
    Stateless,
    #[serde(rename = "dhcpv6-stateful")]
    Stateful,
}

impl Ipv6Mode {
    pub fn text(self) -> &'static str {
        match self {
            Ipv6Mode::Slaac => "slaac",
            Ipv6Mode::Stateless => "dhcpv6-stateless",
            Ipv6Mode::Stateful => "dhcpv6-stateful",
        }
    }
    pub fn parse(text: &str) -> Option<Self> {
        [Ipv6Mode::Slaac, Ipv6Mode::Stateless, Ipv6Mode::Stateful].into_iter().find(|m| m.text() == text)
    }
}

impl Subnet {
    /// Members make their own address from the prefix and their MAC, so nobody else may choose one.
    pub fn is_auto_addressed(&self) -> bool {
        let stateless = |mode| matches!(mode, Some(Ipv6Mode::Slaac | Ipv6Mode::Stateless));
        stateless(self.ipv6_address_mode) || (self.ipv6_address_mode.is_none() && stateless(self.ipv6_ra_mode))
    }

    /// The address that a member with this MAC makes for itself.
    pub fn auto_address(&self, mac: MacAddr) -> IpAddr {
        address::from_number(address::number(self.cidr.network()) | u128::from(mac.eui64()), self.cidr.addr())
    }

    pub fn may_serve(&self, device_owner: &str) -> bool {
        self.service_types.is_empty() || self.service_types.iter().any(|t| device_owner.starts_with(t.as_str()))
    }
}

/// The pools of a prefix when the caller gives none: all addresses but the reserved ones and the gateway.
pub fn default_pools(cidr: &IpNet, gateway: Option<IpAddr>) -> Vec<Pool> {
    let (mut first, mut last) = address::span(cidr);
    let at = |n| address::from_number(n, cidr.addr());
    if address::is_reserved(cidr, at(first)) {
        first += 1;
    }
    if address::is_reserved(cidr, at(last)) {
        last -= 1;
    }
    let pool = |start: u128, end: u128| (start <= end).then(|| Pool { start: at(start), end: at(end) });
    match gateway.map(address::number).filter(|g| (first..=last).contains(g)) {
        None => pool(first, last).into_iter().collect(),
        Some(g) => {
            let below = g.checked_sub(1).and_then(|end| pool(first, end));
            let above = g.checked_add(1).and_then(|start| pool(start, last));
            below.into_iter().chain(above).collect()
        }
    }
}

impl Kind for Subnet {
    const NAME: &'static str = "subnet";
    crate::meta_accessors!();

    /// Indexes: `project`, `network`, `subnet-pool`. Tally: `subnet` by project; `subnet-pool` (addresses taken from a pool).
    fn derive(&self, d: &mut Derived) {
        super::port::owned(d, Self::NAME, self.meta.project.as_ref());
        d.index("network", &self.network);
        d.refers(&self.network);
        if let Some(pool) = &self.subnet_pool {
            d.index("subnet-pool", pool);
            d.refers(pool);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pools(cidr: &str, gateway: Option<&str>) -> Vec<String> {
        let pools = default_pools(&cidr.parse().unwrap(), gateway.map(|g| g.parse().unwrap()));
        pools.iter().map(|p| format!("{}-{}", p.start, p.end)).collect()
    }

    #[test]
    fn default_pools_leave_out_reserved_addresses_and_the_gateway() {
        assert_eq!(pools("10.0.0.0/24", Some("10.0.0.1")), ["10.0.0.2-10.0.0.254"]);
        assert_eq!(pools("10.0.0.0/24", Some("10.0.0.9")), ["10.0.0.1-10.0.0.8", "10.0.0.10-10.0.0.254"]);
        assert_eq!(pools("10.0.0.0/24", None), ["10.0.0.1-10.0.0.254"]);
        assert_eq!(pools("10.0.0.0/30", Some("10.0.0.1")), ["10.0.0.2-10.0.0.2"]);
        assert_eq!(pools("10.0.0.0/31", Some("10.0.0.0")), ["10.0.0.1-10.0.0.1"]);
        assert_eq!(pools("10.0.0.0/32", None), ["10.0.0.0-10.0.0.0"]);
        assert_eq!(pools("fd00::/64", Some("fd00::1")), ["fd00::2-fd00::ffff:ffff:ffff:ffff"]);
        assert_eq!(pools("0.0.0.0/1", Some("192.0.2.1")), ["0.0.0.1-127.255.255.254"]);
    }
}
