//! Whether a tracked connection would still be allowed: the same rules as in the firewall, judged here.
//!
//! The firewall lets established connections pass without asking the rules again, so when rules, members or groups
//! are taken away, the connections they allowed are looked up and deleted. Deleting only what is denied *now* leaves
//! all other connections untouched. What is not known (a group not applied since the driver started) denies nothing.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use crate::{
    nft::group::{has_ports, ports, protocol},
    spec::{Direction, Ethertype, GroupSpec, PortSpec, Rule},
    sys::conntrack::Tuple,
};

pub type Groups = HashMap<String, Arc<GroupSpec>>;

pub struct Judge {
    /// Ports of the network on this host.
    pub ports: BTreeMap<String, PortSpec>,
    pub groups: Groups,
    /// The network's own service addresses.
    pub services: Vec<IpAddr>,
}

impl Judge {
    /// `flow` is the direction the connection was opened in.
    pub fn stays(&self, flow: &Tuple) -> bool {
        self.may(flow, Direction::Egress) && self.may(flow, Direction::Ingress)
    }

    fn may(&self, flow: &Tuple, direction: Direction) -> bool {
        let (local, remote) = match direction {
            Direction::Egress => (flow.source, flow.destination),
            Direction::Ingress => (flow.destination, flow.source),
        };
        if self.services.contains(&remote) || always(flow) {
            return true;
        }
        let mut owners = self.ports.values().filter(|p| owns(p, local)).peekable();
        owners.peek().is_none() || owners.any(|port| self.port_may(port, flow, remote, direction))
    }

    fn port_may(&self, port: &PortSpec, flow: &Tuple, remote: IpAddr, direction: Direction) -> bool {
        if !port.port_security {
            return true;
        }
        port.security_groups.iter().any(|id| match self.groups.get(id) {
            None => true,
            Some(group) => group.rules.iter().any(|rule| rule.direction == direction && self.matches(rule, flow, remote)),
        })
    }

    fn matches(&self, rule: &Rule, flow: &Tuple, remote: IpAddr) -> bool {
        let family = match remote {
            IpAddr::V4(_) => Ethertype::Ipv4,
            IpAddr::V6(_) => Ethertype::Ipv6,
        };
        rule.ethertype == family
            && rule.remote_prefix.is_none_or(|net| net.contains(&remote))
            && rule.remote_group.as_ref().is_none_or(|id| self.member(id, remote))
            && protocol(rule).is_none_or(|number| number == flow.protocol && details(rule, number, flow))
    }

    fn member(&self, group: &str, address: IpAddr) -> bool {
        let known = self.groups.get(group);
        known.is_none_or(|group| group.members.iter().any(|net| net.contains(&address)))
    }
}

/// What the firewall allows whatever the rules say, as far as it makes connections: DHCP.
fn always(flow: &Tuple) -> bool {
    flow.protocol == 17 && matches!(flow.destination_port, 67 | 68 | 546 | 547)
}

fn owns(port: &PortSpec, address: IpAddr) -> bool {
    port.fixed_ips.iter().any(|ip| ip.address == address)
        || port.allowed_address_pairs.iter().any(|pair| pair.address.contains(&address))
        || address == IpAddr::V6(port.mac.link_local())
}

fn details(rule: &Rule, number: u8, flow: &Tuple) -> bool {
    if let Some((kind, code)) = flow.icmp {
        return rule.port_min.is_none_or(|t| t == u16::from(kind)) && rule.port_max.is_none_or(|c| c == u16::from(code));
    }
    match ports(rule).filter(|_| has_ports(number)) {
        Some((low, high)) => (low..=high).contains(&flow.destination_port),
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Attach, FixedIp};

    fn port(id: &str, address: &str, groups: &[&str]) -> (String, PortSpec) {
        let spec = PortSpec {
            id: id.into(),
            network_id: "n".into(),
            mac: "fa:16:3e:00:00:01".parse().unwrap(),
            fixed_ips: vec![FixedIp { subnet_id: "s".into(), address: address.parse().unwrap() }],
            allowed_address_pairs: vec![],
            port_security: true,
            security_groups: groups.iter().map(|g| (*g).to_owned()).collect(),
            admin_state_up: true,
            hostname: None,
            extra_dhcp_opts: vec![],
            attach: Attach::Tap,
        };
        (id.into(), spec)
    }

    fn rule(direction: &str, rest: &str) -> Rule {
        serde_json::from_str(&format!(r#"{{"direction":"{direction}","ethertype":"IPv4"{rest}}}"#)).unwrap()
    }

    fn group(id: &str, rules: Vec<Rule>, members: &[&str]) -> (String, Arc<GroupSpec>) {
        let spec = GroupSpec { id: id.into(), stateful: true, rules, members: members.iter().map(|m| m.parse().unwrap()).collect() };
        (id.into(), Arc::new(spec))
    }

    fn tcp(source: &str, destination: &str, port: u16) -> Tuple {
        Tuple {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            protocol: 6,
            source_port: 40000,
            destination_port: port,
            icmp: None,
        }
    }

    #[test]
    fn both_sides_are_asked() {
        let judge = Judge {
            ports: [port("a", "10.0.0.1", &["out"]), port("b", "10.0.0.2", &["in"]), port("c", "10.0.0.3", &["later"])].into(),
            groups: [
                group("out", vec![rule("egress", "")], &[]),
                group(
                    "in",
                    vec![
                        rule("ingress", r#","protocol":6,"port_min":22,"port_max":23"#),
                        rule("ingress", r#","protocol":6,"port_min":443,"remote_prefix":"192.0.2.0/24""#),
                        rule("ingress", r#","remote_group":"friends""#),
                    ],
                    &[],
                ),
                group("friends", vec![], &["10.0.0.77/32"]),
            ]
            .into(),
            services: vec!["10.0.0.100".parse().unwrap()],
        };
        let cases = [
            ("10.0.0.1", "10.0.0.2", 22, true),
            ("10.0.0.1", "10.0.0.2", 24, false),
            ("192.0.2.9", "10.0.0.2", 443, true),
            ("198.51.100.9", "10.0.0.2", 443, false),
            ("10.0.0.77", "10.0.0.2", 9, true),
            ("10.0.0.2", "198.51.100.9", 443, false),
            ("10.0.0.2", "10.0.0.100", 53, true),
            ("10.0.0.3", "10.0.0.1", 1, false),
            ("198.51.100.9", "10.0.0.3", 1, true),
            ("198.51.100.9", "198.51.100.8", 1, true),
        ];
        for (source, destination, port, want) in cases {
            let flow = tcp(source, destination, port);
            assert_eq!(judge.stays(&flow), want, "{source} -> {destination}:{port}");
        }
    }
}
