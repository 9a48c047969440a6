//! One port: who it may claim to be, what it may send and receive.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv6Net};

use super::{braces, group};
use crate::{Mac, names, spec::PortSpec};

/// Objects of one port in the tables.
struct Objects {
    device: String,
    tail: String,
    mark: u32,
}

impl Objects {
    fn of(port: &str) -> Self {
        Self { device: names::tap(port), tail: names::tail(port, 10), mark: names::mark(port) }
    }

    /// Map elements of a port and of a guarded port.
    fn elements(&self) -> ([String; 2], [String; 3]) {
        let Self { device, tail, mark } = self;
        (
            [format!("bridge uk known {{ \"{device}\" }}"), format!("bridge uk ports {{ \"{device}\" : jump a_{tail} }}")],
            [
                format!("bridge uk marks {{ \"{device}\" : {mark:#x} }}"),
                format!("inet uk egress {{ {mark:#x} : jump e_{tail} }}"),
                format!("inet uk ingress {{ {mark:#x} : jump i_{tail} }}"),
            ],
        )
    }

    fn chains(&self) -> [String; 3] {
        let tail = &self.tail;
        [format!("bridge uk a_{tail}"), format!("inet uk e_{tail}"), format!("inet uk i_{tail}")]
    }
}

/// Makes the port exactly as specified. `stateless` when all its groups are.
pub fn apply(spec: &PortSpec, stateless: bool) -> String {
    let objects = Objects::of(&spec.id);
    let mut batch = String::new();
    for chain in objects.chains() {
        batch += &format!("add chain {chain}\nflush chain {chain}\n");
    }
    for id in &spec.security_groups {
        batch += &group::declare(id);
    }
    let (basic, guarded) = objects.elements();
    for element in &basic {
        batch += &format!("add element {element}\n");
    }
    let [spoof, send, receive] = objects.chains();
    if !spec.port_security {
        batch += &format!("add rule {spoof} accept\n");
        for element in guarded {
            batch += &format!("add element {element}\ndelete element {element}\n");
        }
        return batch;
    }
    for rule in anti_spoof(spec) {
        batch += &format!("add rule {spoof} {rule}\n");
    }
    for (chain, always, direction) in [(send, "may_send", "ge"), (receive, "may_receive", "gi")] {
        if !stateless {
            batch += &format!("add rule {chain} jump stateful\n");
        }
        batch += &format!("add rule {chain} jump {always}\n");
        for id in &spec.security_groups {
            batch += &format!("add rule {chain} jump {direction}_{}\n", names::tail(id, 12));
        }
        batch += &format!("add rule {chain} drop\n");
    }
    for element in guarded {
        batch += &format!("add element {element}\n");
    }
    batch
}

/// Takes the port away, whatever of it is there.
pub fn remove(port: &str) -> String {
    let objects = Objects::of(port);
    let mut batch = String::new();
    for chain in objects.chains() {
        batch += &format!("add chain {chain}\n");
    }
    let (basic, guarded) = objects.elements();
    for element in basic.iter().chain(&guarded) {
        batch += &format!("add element {element}\ndelete element {element}\n");
    }
    for chain in objects.chains() {
        batch += &format!("flush chain {chain}\ndelete chain {chain}\n");
    }
    batch
}

/// Who a port may be: addresses per MAC, merged so that no two overlap (the kernel refuses overlapping elements).
fn identities(spec: &PortSpec) -> BTreeMap<Mac, Vec<IpNet>> {
    let mut of: BTreeMap<Mac, Vec<IpNet>> = BTreeMap::new();
    of.entry(spec.mac).or_default().extend(spec.fixed_ips.iter().map(|ip| IpNet::from(ip.address)));
    for pair in &spec.allowed_address_pairs {
        let mac = pair.mac.unwrap_or(spec.mac);
        of.entry(mac).or_default().push(pair.address.trunc());
    }
    for (mac, nets) in &mut of {
        nets.push(IpNet::from(IpAddr::V6(mac.link_local())));
        *nets = IpNet::aggregate(nets);
    }
    of
}

/// In order; `return` means "this is who it says it is".
fn anti_spoof(spec: &PortSpec) -> Vec<String> {
    let identities = identities(spec);
    let macs = braces(identities.keys());
    let list = |v4: bool| -> Vec<String> {
        let nets = identities.iter().flat_map(|(mac, nets)| nets.iter().map(move |net| (mac, net)));
        nets.filter(|(_, net)| net.addr().is_ipv4() == v4).map(|(mac, net)| format!("{mac} . {}", plain(net))).collect()
    };
    let (v4, v6) = (list(true), list(false));
    let mut rules = vec![format!("ether saddr != {macs} drop")];
    if !v4.is_empty() {
        let v4 = braces(&v4);
        rules.extend([
            format!("ether type arp arp saddr ether . arp saddr ip {v4} return"),
            format!("ether type arp arp saddr ether {macs} arp saddr ip 0.0.0.0 return"),
        ]);
    }
    rules.extend(["ether type ip udp sport 67 drop".into(), "ether type ip ip saddr 0.0.0.0 udp sport 68 udp dport 67 return".into()]);
    if !v4.is_empty() {
        rules.push(format!("ether type ip ether saddr . ip saddr {} return", braces(&v4)));
    }
    let targets = identities.values().flatten().filter_map(target);
    rules.extend([
        "ether type ip6 udp sport 547 drop".into(),
        "ether type ip6 icmpv6 type { 134, 137 } drop".into(),
        "ether type ip6 ip6 saddr :: icmpv6 type { 131, 132, 133, 135, 143 } return".into(),
        // The address a neighbour advertisement speaks for comes right after its first eight octets.
        format!("ether type ip6 icmpv6 type 136 @th,64,128 != {} drop", braces(targets)),
        format!("ether type ip6 ether saddr . ip6 saddr {} return", braces(&v6)),
        "drop".into(),
    ]);
    rules
}

fn plain(net: &IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
}

/// An IPv6 address or range as the bare number the kernel compares.
fn target(net: &IpNet) -> Option<String> {
    let IpNet::V6(net) = net else { return None };
    let number = |a: Ipv6Addr| format!("{:#034x}", u128::from(a));
    Some(match Ipv6Net::broadcast(net) {
        last if last == net.network() => number(last),
        last => format!("{}-{}", number(net.network()), number(last)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{AddressPair, Attach, FixedIp};

    fn port() -> PortSpec {
        PortSpec {
            id: "01932f3c-9a7e-7cc0-8d6c-3f2a1b4c5d6e".into(),
            network_id: "n".into(),
            mac: "fa:16:3e:00:00:01".parse().unwrap(),
            fixed_ips: ["10.0.0.5", "2001:db8::5"].map(|a| FixedIp { subnet_id: "s".into(), address: a.parse().unwrap() }).into(),
            allowed_address_pairs: vec![],
            port_security: true,
            security_groups: vec!["aaaaaaaaaaaa".into()],
            admin_state_up: true,
            hostname: None,
            extra_dhcp_opts: vec![],
            attach: Attach::Tap,
        }
    }

    #[test]
    fn guarded_port() {
        let golden = include_str!("golden/port.nft");
        assert_eq!(apply(&port(), false), golden);
    }

    #[test]
    fn pairs_are_merged_with_the_ports_own_addresses() {
        let mut spec = port();
        let pair = |mac: Option<&str>, net: &str| AddressPair { mac: mac.map(|m| m.parse().unwrap()), address: net.parse().unwrap() };
        spec.allowed_address_pairs =
            vec![pair(None, "10.0.0.0/24"), pair(Some("fa:16:3e:00:00:02"), "10.9.0.0/16"), pair(None, "2001:db8:1::/64")];
        let rules = anti_spoof(&spec).join("\n");
        assert!(rules.contains("ether saddr . ip saddr { fa:16:3e:00:00:01 . 10.0.0.0/24, fa:16:3e:00:00:02 . 10.9.0.0/16 } return"));
        assert!(rules.contains("0x20010db8000100000000000000000000-0x20010db800010000ffffffffffffffff"));
    }

    #[test]
    fn unguarded_port_has_no_mark() {
        let mut spec = port();
        spec.port_security = false;
        let batch = apply(&spec, false);
        assert!(batch.contains("add rule bridge uk a_2a1b4c5d6e accept"));
        assert!(batch.contains("delete element bridge uk marks { \"t-2a1b4c5d6e\" : 0x1b4c5d6e }"));
    }

    #[test]
    fn stateless_port_does_not_ask_for_state() {
        assert!(!apply(&port(), true).contains("stateful"));
    }
}
