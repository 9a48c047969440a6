//! Networks, ports, groups and routers as the host's network driver wants them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;
use unkai_link::item::{HostId, net};
use unkai_model::Id;
use unkai_model::compute::{Host, Server};
use unkai_model::network::{
    Direction, EtherType, FixedIp, FloatingIp, Ipv6Mode, MacAddr, Network, Port, Route, Router, SecurityGroup, SecurityGroupRule, Segment,
    Subnet, owner,
};
use unkai_store::View;

/// The domain of names on networks that have none of their own, as the field has it.
const DEFAULT_DOMAIN: &str = "openstacklocal";

fn mac(mac: &MacAddr) -> Option<unkai_link::item::Mac> {
    unkai_link::item::Mac::from_str(&mac.to_string()).ok()
}

/// `address` with the prefix length of its subnet.
fn with_prefix(view: &View, ip: &FixedIp) -> Option<IpNet> {
    let length = view.get(&ip.subnet)?.cidr.prefix_len();
    IpNet::new(ip.address, length).ok()
}

fn addresses(view: &View, port: &Port) -> Vec<IpNet> {
    port.fixed_ips.iter().filter_map(|ip| with_prefix(view, ip)).collect()
}

fn route(route: &Route) -> net::Route {
    net::Route { destination: route.destination, nexthop: route.nexthop }
}

pub fn network(view: &View, host: &HostId, network: &Network) -> Option<net::NetworkSpec> {
    let id = network.meta.id.as_str();
    let ports: Vec<Arc<Port>> = view.by_index::<Port>("network", id).collect();
    let (vni, external) = match &network.segment {
        Segment::Vxlan { vni } => (Some(*vni), None),
        Segment::Flat { physical } => (None, Some(physical.clone())),
    };
    let service = view.by_index::<Port>("dhcp", id).next();
    let domain = network.dns_domain.trim_end_matches('.');
    Some(net::NetworkSpec {
        id: id.to_owned(),
        mtu: network.mtu,
        vni,
        external,
        service: service.and_then(|port| Some(net::ServiceSpec { mac: mac(&port.mac)?, addresses: addresses(view, &port) })),
        subnets: view.by_index::<Subnet>("network", id).map(|subnet| self::subnet(&subnet)).collect(),
        dns: net::DnsSpec {
            domain: if domain.is_empty() { DEFAULT_DOMAIN.to_owned() } else { domain.to_owned() },
            hosts: names(view, &ports),
        },
        peers: if vni.is_some() { ports.iter().filter_map(|port| peer(view, host, port)).collect() } else { Vec::new() },
        broadcasts: ports.iter().any(|port| uses_other_addresses(port)),
    })
}

/// May the device of a port use addresses that the port does not name?
fn uses_other_addresses(port: &Port) -> bool {
    !port.is_service() && (!port.port_security || !port.allowed_address_pairs.is_empty())
}

fn subnet(subnet: &Subnet) -> net::SubnetSpec {
    let mode = |mode: Option<Ipv6Mode>| {
        mode.map(|mode| match mode {
            Ipv6Mode::Slaac => net::Ipv6Mode::Slaac,
            Ipv6Mode::Stateless => net::Ipv6Mode::Dhcpv6Stateless,
            Ipv6Mode::Stateful => net::Ipv6Mode::Dhcpv6Stateful,
        })
    };
    net::SubnetSpec {
        id: subnet.meta.id.to_string(),
        cidr: subnet.cidr,
        gateway: subnet.gateway,
        dns_servers: subnet.dns_nameservers.clone(),
        host_routes: subnet.host_routes.iter().map(route).collect(),
        enable_dhcp: subnet.enable_dhcp,
        ipv6_ra_mode: mode(subnet.ipv6_ra_mode),
        ipv6_address_mode: mode(subnet.ipv6_address_mode),
    }
}

fn names(view: &View, ports: &[Arc<Port>]) -> BTreeMap<String, Vec<IpAddr>> {
    let mut names: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    for port in ports {
        if let Some(name) = host_name(view, port) {
            names.entry(name).or_default().extend(port.addresses());
        }
    }
    names
}

/// The name a port answers to: its own, else its server's.
fn host_name(view: &View, port: &Port) -> Option<String> {
    if !port.dns_name.is_empty() {
        return Some(port.dns_name.clone());
    }
    let server = view.get(&Id::<Server>::new(port.device_id.as_str()))?;
    Some(server.spec.launch.hostname.clone())
}

/// A port on another host, as the forwarding tables of this one need it.
fn peer(view: &View, host: &HostId, port: &Port) -> Option<net::Peer> {
    let there = carrier(view, port).filter(|there| there != host)?;
    let vtep = view.get(&there)?.status.underlay?;
    Some(net::Peer { mac: mac(&port.mac)?, addresses: port.addresses().collect(), vtep })
}

/// The host that a port's device is on.
fn carrier(view: &View, port: &Port) -> Option<Id<Host>> {
    match port.device_owner.as_str() {
        owner::ROUTER_INTERFACE | owner::ROUTER_GATEWAY => view.get(&Id::<Router>::new(port.device_id.as_str()))?.status.host.clone(),
        _ => port.binding_host.clone(),
    }
}

pub fn port(view: &View, port: &Port) -> Option<net::PortSpec> {
    Some(net::PortSpec {
        id: port.meta.id.to_string(),
        network_id: port.network.to_string(),
        mac: mac(&port.mac)?,
        fixed_ips: port.fixed_ips.iter().map(|ip| net::FixedIp { subnet_id: ip.subnet.to_string(), address: ip.address }).collect(),
        allowed_address_pairs: port
            .allowed_address_pairs
            .iter()
            .map(|pair| net::AddressPair { mac: pair.mac.as_ref().and_then(mac), address: pair.address })
            .collect(),
        port_security: port.port_security,
        security_groups: port.security_groups.iter().map(|group| group.to_string()).collect(),
        admin_state_up: port.admin_up,
        hostname: host_name(view, port),
        extra_dhcp_opts: port
            .extra_dhcp_options
            .iter()
            .filter(|option| option.ip_version == 4)
            .map(|option| net::DhcpOpt { name: option.name.clone(), value: option.value.clone() })
            .collect(),
        attach: net::Attach::Tap,
    })
}

/// Groups that rules of this one name.
pub fn remote_groups<'a>(view: &'a View, group: &'a Id<SecurityGroup>) -> impl Iterator<Item = Id<SecurityGroup>> + 'a {
    view.by_index::<SecurityGroupRule>("group", group.as_str()).filter_map(|rule| rule.remote_group.clone())
}

pub fn group(view: &View, group: &SecurityGroup) -> net::GroupSpec {
    let id = group.meta.id.as_str();
    let mut members: Vec<IpNet> = view
        .by_index::<Port>("security-group", id)
        .flat_map(|port| {
            let pairs: Vec<IpNet> = port.allowed_address_pairs.iter().map(|pair| pair.address).collect();
            port.addresses().map(IpNet::from).chain(pairs).collect::<Vec<_>>()
        })
        .collect();
    members.sort();
    members.dedup();
    net::GroupSpec {
        id: id.to_owned(),
        stateful: group.stateful,
        rules: view.by_index::<SecurityGroupRule>("group", id).map(|rule| self::rule(&rule)).collect(),
        members,
    }
}

fn rule(rule: &SecurityGroupRule) -> net::Rule {
    net::Rule {
        direction: match rule.direction {
            Direction::Ingress => net::Direction::Ingress,
            Direction::Egress => net::Direction::Egress,
        },
        ethertype: match rule.ethertype {
            EtherType::Ipv4 => net::Ethertype::Ipv4,
            EtherType::Ipv6 => net::Ethertype::Ipv6,
        },
        // Protocol 0 is "any" in the field's rules.
        protocol: rule.protocol.as_ref().map(|protocol| protocol.number(rule.ethertype)).filter(|number| *number != 0),
        port_min: rule.port_min,
        port_max: rule.port_max,
        remote_prefix: rule.remote_prefix,
        remote_group: rule.remote_group.as_ref().map(|group| group.to_string()),
    }
}

/// The interface ports of a router.
pub fn interfaces<'a>(view: &'a View, router: &'a Id<Router>) -> impl Iterator<Item = Arc<Port>> + 'a {
    view.by_index::<Port>("device", router.as_str()).filter(|port| port.device_owner == owner::ROUTER_INTERFACE)
}

pub fn router(view: &View, router: &Router) -> Option<net::RouterSpec> {
    let id = &router.meta.id;
    let floating = view.by_index::<FloatingIp>("router", id.as_str()).filter_map(|floating| {
        match (floating.address, floating.target.as_ref()?.address) {
            (IpAddr::V4(floating), IpAddr::V4(fixed)) => Some(net::FloatingIp { floating, fixed }),
            _ => None,
        }
    });
    Some(net::RouterSpec {
        id: id.to_string(),
        admin_state_up: router.admin_up,
        interfaces: interfaces(view, id).filter_map(|port| interface(view, &port)).collect(),
        gateway: router.gateway.as_ref().and_then(|gateway| {
            let port = view.get(&gateway.port)?;
            let network = view.get(&gateway.network)?;
            let Segment::Flat { physical } = &network.segment else { return None };
            Some(net::RouterGateway {
                port_id: port.meta.id.to_string(),
                network_id: network.meta.id.to_string(),
                physical: physical.clone(),
                mac: mac(&port.mac)?,
                addresses: addresses(view, &port),
                next_hops: port.fixed_ips.iter().filter_map(|ip| view.get(&ip.subnet)?.gateway).collect(),
                enable_snat: gateway.snat,
                mtu: network.mtu,
            })
        }),
        routes: router.routes.iter().map(route).collect(),
        floating_ips: floating.collect(),
    })
}

fn interface(view: &View, port: &Port) -> Option<net::RouterInterface> {
    Some(net::RouterInterface {
        port_id: port.meta.id.to_string(),
        network_id: port.network.to_string(),
        mac: mac(&port.mac)?,
        addresses: addresses(view, port),
    })
}
