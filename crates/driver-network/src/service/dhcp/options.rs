//! Options of a lease, as number and bytes.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use super::message::Options;
use crate::{
    service::Snapshot,
    spec::{DhcpOpt, PortSpec, SubnetSpec},
};

pub const LEASE_SECONDS: u32 = 24 * 3600;

/// What a client may know without a lease (INFORM): everything but times.
pub fn configuration(snapshot: &Snapshot, port: &PortSpec, subnet: &SubnetSpec, cidr: Ipv4Net, server: Ipv4Addr) -> Options {
    let mut options = Options::new();
    let network = &snapshot.network;
    options.insert(1, cidr.netmask().octets().into());
    options.insert(28, cidr.broadcast().octets().into());
    let gateway = v4(subnet.gateway);
    if let Some(gateway) = gateway {
        options.insert(3, gateway.octets().into());
    }
    let mut dns: Vec<Ipv4Addr> = subnet.dns_servers.iter().filter_map(|a| v4(Some(*a))).collect();
    if subnet.dns_servers.is_empty() {
        dns.push(server);
    }
    if !dns.is_empty() {
        options.insert(6, dns.iter().flat_map(|a| a.octets()).collect());
    }
    if let Some(name) = port.hostname.as_deref().filter(|n| !n.is_empty() && n.len() <= 255) {
        options.insert(12, name.as_bytes().into());
    }
    let domain = network.dns.domain.trim_end_matches('.');
    if !domain.is_empty() && domain.len() <= 255 {
        options.insert(15, domain.as_bytes().into());
    }
    let mtu = network.mtu.clamp(68, u32::from(u16::MAX)) as u16;
    options.insert(26, mtu.to_be_bytes().into());
    options.insert(121, classless_routes(subnet, gateway, server));
    for extra in &port.extra_dhcp_opts {
        if let Some((number, bytes)) = extra_option(extra) {
            options.insert(number, bytes);
        }
    }
    options
}

pub fn lease_times(options: &mut Options) {
    for (number, seconds) in [(51, LEASE_SECONDS), (58, LEASE_SECONDS / 2), (59, LEASE_SECONDS / 8 * 7)] {
        options.insert(number, seconds.to_be_bytes().into());
    }
}

/// RFC 3442. A client that reads this ignores option 3, so the default route is here, too.
fn classless_routes(subnet: &SubnetSpec, gateway: Option<Ipv4Addr>, server: Ipv4Addr) -> Vec<u8> {
    let metadata = Ipv4Net::from(Ipv4Addr::new(169, 254, 169, 254));
    let mut routes = vec![(metadata, server)];
    for route in &subnet.host_routes {
        if let (IpNet::V4(to), Some(via)) = (route.destination, v4(Some(route.nexthop))) {
            routes.retain(|(old, _)| *old != to.trunc());
            routes.push((to.trunc(), via));
        }
    }
    let default = Ipv4Net::default();
    if let Some(gateway) = gateway
        && !routes.iter().any(|(to, _)| *to == default)
    {
        routes.push((default, gateway));
    }
    let mut bytes = Vec::new();
    for (to, via) in routes {
        let significant = usize::from(to.prefix_len().div_ceil(8));
        bytes.push(to.prefix_len());
        bytes.extend(&to.network().octets()[..significant]);
        bytes.extend(via.octets());
    }
    bytes
}

fn v4(address: Option<IpAddr>) -> Option<Ipv4Addr> {
    match address {
        Some(IpAddr::V4(a)) => Some(a),
        _ => None,
    }
}

/// Names as dnsmasq has them (and Neutron documents), or a number; addresses stay addresses, the rest is text.
fn extra_option(option: &DhcpOpt) -> Option<(u8, Vec<u8>)> {
    let number = match option.name.as_str() {
        "netmask" => 1,
        "router" => 3,
        "dns-server" => 6,
        "log-server" => 7,
        "hostname" => 12,
        "domain-name" => 15,
        "root-path" => 17,
        "mtu" => 26,
        "ntp-server" => 42,
        "tftp-server" => 66,
        "bootfile-name" => 67,
        "server-ip-address" | "tftp-server-address" => 150,
        "domain-search" => 119,
        "classless-static-route" => 121,
        other => other.strip_prefix("option:").unwrap_or(other).parse().ok()?,
    };
    // Message type, server id and the like are the server's; 0 and 255 are not options.
    if matches!(number, 0 | 50..=55 | 61 | 82 | 119 | 121 | 255) || option.value.len() > 255 {
        return None;
    }
    let addresses: Result<Vec<Ipv4Addr>, _> = option.value.split(',').map(|a| a.trim().parse()).collect();
    let bytes = match (number, addresses) {
        (26, _) => option.value.parse::<u16>().ok()?.to_be_bytes().into(),
        (66 | 67, _) | (_, Err(_)) => option.value.as_bytes().into(),
        (_, Ok(addresses)) => addresses.iter().flat_map(|a| a.octets()).collect(),
    };
    Some((number, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classless_routes_are_packed() {
        let subnet: SubnetSpec = serde_json::from_str(
            r#"{"id":"s","cidr":"10.0.0.0/24","gateway":"10.0.0.1",
                "host_routes":[{"destination":"10.64.0.0/10","nexthop":"10.0.0.9"}]}"#,
        )
        .unwrap();
        let bytes = classless_routes(&subnet, v4(subnet.gateway), Ipv4Addr::new(10, 0, 0, 2));
        #[rustfmt::skip]
        assert_eq!(bytes, [
            32, 169, 254, 169, 254, 10, 0, 0, 2,
            10, 10, 64, 10, 0, 0, 9,
            0, 10, 0, 0, 1,
        ]);
    }

    #[test]
    fn extra_options() {
        let option = |name: &str, value: &str| extra_option(&DhcpOpt { name: name.into(), value: value.into() });
        assert_eq!(option("bootfile-name", "pxe.0"), Some((67, b"pxe.0".to_vec())));
        assert_eq!(option("42", "192.0.2.1, 192.0.2.2"), Some((42, vec![192, 0, 2, 1, 192, 0, 2, 2])));
        assert_eq!(option("option:252", "x"), Some((252, b"x".to_vec())));
        assert_eq!(option("53", "1"), None);
        assert_eq!(option("256", "1"), None);
        assert_eq!(option("nonsense", "1"), None);
    }
}
