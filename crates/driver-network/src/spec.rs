//! What the caller wants on this host: plain values, as they arrive from the controller.
//!
//! A spec says everything about its object; applying one replaces what was applied before. Addresses of tenants
//! are data here and nothing else: no string of a spec reaches a command or a file name without passing [`crate::names`].

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize};

use crate::Mac;

/// A network with at least one port on this host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkSpec {
    pub id: String,
    #[serde(default = "default_mtu")]
    pub mtu: u32,
    /// Overlay identifier; none for a network that never leaves this host.
    #[serde(default)]
    pub vni: Option<u32>,
    /// Physical name, when the network *is* an external one: its ports are then bridged to that external bridge.
    #[serde(default)]
    pub external: Option<String>,
    /// The network's service port (DHCP, DNS, metadata); every host carries the same one and answers its own guests.
    #[serde(default)]
    pub service: Option<ServiceSpec>,
    #[serde(default)]
    pub subnets: Vec<SubnetSpec>,
    #[serde(default)]
    pub dns: DnsSpec,
    /// Ports of the network on other hosts.
    #[serde(default)]
    pub peers: Vec<Peer>,
    /// Does what is meant for everybody reach other hosts? Needed where guests may use addresses that `peers` does not tell.
    #[serde(default)]
    pub broadcasts: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceSpec {
    pub mac: Mac,
    pub addresses: Vec<IpNet>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubnetSpec {
    pub id: String,
    pub cidr: IpNet,
    #[serde(default)]
    pub gateway: Option<IpAddr>,
    /// Given to guests as they are; when empty, guests are told to ask the network's own DNS service.
    #[serde(default)]
    pub dns_servers: Vec<IpAddr>,
    #[serde(default)]
    pub host_routes: Vec<Route>,
    #[serde(default = "yes")]
    pub enable_dhcp: bool,
    #[serde(default)]
    pub ipv6_ra_mode: Option<Ipv6Mode>,
    #[serde(default)]
    pub ipv6_address_mode: Option<Ipv6Mode>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ipv6Mode {
    #[serde(rename = "slaac")]
    Slaac,
    #[serde(rename = "dhcpv6-stateless")]
    Dhcpv6Stateless,
    #[serde(rename = "dhcpv6-stateful")]
    Dhcpv6Stateful,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    pub destination: IpNet,
    pub nexthop: IpAddr,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DnsSpec {
    #[serde(default)]
    pub domain: String,
    /// Names of all ports of the network, on whatever host.
    #[serde(default)]
    pub hosts: BTreeMap<String, Vec<IpAddr>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Peer {
    pub mac: Mac,
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// Underlay address of the host the port is on.
    pub vtep: IpAddr,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PortSpec {
    pub id: String,
    pub network_id: String,
    pub mac: Mac,
    #[serde(default)]
    pub fixed_ips: Vec<FixedIp>,
    #[serde(default)]
    pub allowed_address_pairs: Vec<AddressPair>,
    #[serde(default = "yes")]
    pub port_security: bool,
    #[serde(default)]
    pub security_groups: Vec<String>,
    #[serde(default = "yes")]
    pub admin_state_up: bool,
    #[serde(default)]
    pub hostname: Option<String>,
    #[serde(default)]
    pub extra_dhcp_opts: Vec<DhcpOpt>,
    #[serde(default)]
    pub attach: Attach,
}

/// What is plugged into the port.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attach {
    /// A tap device whose descriptor goes to a virtual machine.
    #[default]
    Tap,
    /// One end of a veth pair in a named network namespace: a container.
    Veth { netns: String, device: String },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixedIp {
    pub subnet_id: String,
    pub address: IpAddr,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressPair {
    /// The port's own when absent.
    #[serde(default)]
    pub mac: Option<Mac>,
    #[serde(deserialize_with = "net_or_address")]
    pub address: IpNet,
}

/// `name` is an option number or one of the names in `service::dhcp::options`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhcpOpt {
    pub name: String,
    pub value: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupSpec {
    pub id: String,
    #[serde(default = "yes")]
    pub stateful: bool,
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// Addresses of the ports in this group, cloud-wide: what a rule naming it as remote group matches.
    #[serde(default, deserialize_with = "nets_or_addresses")]
    pub members: Vec<IpNet>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Ingress,
    Egress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Ethertype {
    #[serde(rename = "IPv4")]
    Ipv4,
    #[serde(rename = "IPv6")]
    Ipv6,
}

/// What is allowed. For ICMP, `port_min` is the type and `port_max` the code, as in Neutron.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rule {
    pub direction: Direction,
    pub ethertype: Ethertype,
    /// IP protocol number.
    #[serde(default)]
    pub protocol: Option<u8>,
    #[serde(default)]
    pub port_min: Option<u16>,
    #[serde(default)]
    pub port_max: Option<u16>,
    #[serde(default)]
    pub remote_prefix: Option<IpNet>,
    #[serde(default)]
    pub remote_group: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouterSpec {
    pub id: String,
    #[serde(default = "yes")]
    pub admin_state_up: bool,
    #[serde(default)]
    pub interfaces: Vec<RouterInterface>,
    #[serde(default)]
    pub gateway: Option<RouterGateway>,
    #[serde(default)]
    pub routes: Vec<Route>,
    #[serde(default)]
    pub floating_ips: Vec<FloatingIp>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouterInterface {
    pub port_id: String,
    pub network_id: String,
    pub mac: Mac,
    pub addresses: Vec<IpNet>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouterGateway {
    pub port_id: String,
    pub network_id: String,
    /// Name of the external bridge, see [`ExternalSpec`].
    pub physical: String,
    pub mac: Mac,
    pub addresses: Vec<IpNet>,
    #[serde(default)]
    pub next_hops: Vec<IpAddr>,
    #[serde(default = "yes")]
    pub enable_snat: bool,
    #[serde(default = "default_mtu")]
    pub mtu: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FloatingIp {
    pub floating: Ipv4Addr,
    pub fixed: Ipv4Addr,
}

/// A way out of the cloud: one bridge in the data-plane namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExternalSpec {
    pub physical: String,
    /// Device to enslave; none in a trial.
    #[serde(default)]
    pub device: Option<String>,
    /// Addresses for the host itself on that bridge.
    #[serde(default)]
    pub host_addresses: Vec<IpNet>,
    #[serde(default = "default_mtu")]
    pub mtu: u32,
}

fn yes() -> bool {
    true
}

fn default_mtu() -> u32 {
    1500
}

fn parse_net<E: serde::de::Error>(text: &str) -> Result<IpNet, E> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    text.parse().map_err(|_| E::custom(format!("`{text}` is neither an address nor a network")))
}

fn net_or_address<'de, D: Deserializer<'de>>(d: D) -> Result<IpNet, D::Error> {
    parse_net(&String::deserialize(d)?)
}

fn nets_or_addresses<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<IpNet>, D::Error> {
    Vec::<String>::deserialize(d)?.iter().map(|text| parse_net(text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_needs_little() {
        let port: PortSpec = serde_json::from_str(
            r#"{"id":"p","network_id":"n","mac":"fa:16:3e:00:00:01",
                "allowed_address_pairs":[{"address":"10.0.0.9"},{"address":"10.1.0.0/16"}]}"#,
        )
        .unwrap();
        assert!(port.port_security && port.admin_state_up);
        assert_eq!(port.attach, Attach::Tap);
        assert_eq!(port.allowed_address_pairs[0].address.prefix_len(), 32);
        assert_eq!(port.allowed_address_pairs[1].address.prefix_len(), 16);
    }

    #[test]
    fn rules_use_the_field_names_of_the_trade() {
        let rule: Rule =
            serde_json::from_str(r#"{"direction":"ingress","ethertype":"IPv6","protocol":6,"port_min":22,"port_max":22}"#).unwrap();
        assert_eq!(rule.ethertype, Ethertype::Ipv6);
        assert_eq!(rule.direction, Direction::Ingress);
    }
}
