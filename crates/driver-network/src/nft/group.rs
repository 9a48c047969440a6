//! One security group in a namespace: what it allows, and the addresses of its members.
//!
//! Members are kept twice: single addresses in a hash set whose elements come and go one by one, whole networks (from
//! allowed address pairs) in an interval set, which is rewritten as a whole and nearly always empty.

use ipnet::IpNet;

use super::braces;
use crate::{
    names,
    spec::{Direction, Ethertype, GroupSpec, Rule},
};

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// Protocols whose header begins with source and destination port: TCP, UDP, DCCP, SCTP, UDP-Lite.
const WITH_PORTS: [u8; 5] = [6, 17, 33, 132, 136];

/// Makes a group's chains without saying anything about what they hold: a port may name a group before the group's
/// rules are known, and then nothing is allowed, or, after a restart, what was allowed before.
pub fn declare(id: &str) -> String {
    let tail = names::tail(id, 12);
    format!("add chain inet uk ge_{tail}\nadd chain inet uk gi_{tail}\n")
}

/// A group named by a rule: its sets must exist.
fn declare_members(id: &str) -> String {
    let tail = names::tail(id, 12);
    format!(
        "add set inet uk m4_{tail} {{ type ipv4_addr; }}\n\
         add set inet uk m6_{tail} {{ type ipv6_addr; }}\n\
         add set inet uk n4_{tail} {{ type ipv4_addr; flags interval; }}\n\
         add set inet uk n6_{tail} {{ type ipv6_addr; flags interval; }}\n"
    )
}

/// Rewrites the rules of a group.
pub fn rules(spec: &GroupSpec) -> String {
    let tail = names::tail(&spec.id, 12);
    let mut batch = declare(&spec.id);
    batch += &format!("flush chain inet uk ge_{tail}\nflush chain inet uk gi_{tail}\n");
    let mut remotes: Vec<&String> = spec.rules.iter().filter_map(|r| r.remote_group.as_ref()).collect();
    remotes.sort();
    remotes.dedup();
    for remote in remotes {
        batch += &declare_members(remote);
    }
    let mut lines: Vec<String> = spec
        .rules
        .iter()
        .flat_map(|rule| {
            let chain = match rule.direction {
                Direction::Egress => "ge",
                Direction::Ingress => "gi",
            };
            expressions(rule).into_iter().map(move |e| format!("add rule inet uk {chain}_{} {e} accept\n", names::tail(&spec.id, 12)))
        })
        .collect();
    lines.sort();
    lines.dedup();
    batch + &lines.concat()
}

/// Everything about members anew, for when it is not known what the sets hold.
pub fn all_members(spec: &GroupSpec) -> String {
    let tail = names::tail(&spec.id, 12);
    let mut batch = declare_members(&spec.id);
    for set in ["m4", "m6"] {
        batch += &format!("flush set inet uk {set}_{tail}\n");
    }
    batch += &elements("add", &tail, &hosts(&spec.members));
    batch + &networks(&tail, &spec.members)
}

/// From one known membership to another.
pub fn change_members(id: &str, old: &[IpNet], new: &[IpNet]) -> String {
    let tail = names::tail(id, 12);
    let (was, is) = (hosts(old), hosts(new));
    let gone: Vec<IpNet> = was.iter().filter(|a| !is.contains(a)).copied().collect();
    let come: Vec<IpNet> = is.iter().filter(|a| !was.contains(a)).copied().collect();
    let mut batch = declare_members(id);
    // Adding first makes deleting an element that is not there (lost in a crash) harmless.
    batch += &elements("add", &tail, &gone);
    batch += &elements("delete", &tail, &gone);
    batch += &elements("add", &tail, &come);
    batch + &networks(&tail, new)
}

/// Takes groups' chains and sets away; refused as a whole when anything else still uses one of them.
pub fn remove(ids: &[String]) -> String {
    let mut batch = String::new();
    for id in ids {
        batch += &declare(id);
        batch += &declare_members(id);
    }
    let chains = || ids.iter().flat_map(|id| ["ge", "gi"].map(|c| format!("{c}_{}", names::tail(id, 12))));
    let sets = ids.iter().flat_map(|id| ["m4", "m6", "n4", "n6"].map(|s| format!("{s}_{}", names::tail(id, 12))));
    // Groups may name each other, so no object is deleted before all rules are gone.
    for chain in chains() {
        batch += &format!("flush chain inet uk {chain}\n");
    }
    for chain in chains() {
        batch += &format!("delete chain inet uk {chain}\n");
    }
    for set in sets {
        batch += &format!("delete set inet uk {set}\n");
    }
    batch
}

/// The destination ports a rule means, if it says any; a single bound stands for itself.
pub fn ports(rule: &Rule) -> Option<(u16, u16)> {
    let low = rule.port_min.or(rule.port_max)?;
    let high = rule.port_max.unwrap_or(low).max(low);
    Some((low, high))
}

fn is_host(net: &IpNet) -> bool {
    net.prefix_len() == net.max_prefix_len()
}

fn hosts(members: &[IpNet]) -> Vec<IpNet> {
    let mut hosts: Vec<IpNet> = members.iter().filter(|n| is_host(n)).copied().collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

fn elements(verb: &str, tail: &str, hosts: &[IpNet]) -> String {
    let mut batch = String::new();
    for (set, v4) in [("m4", true), ("m6", false)] {
        let mut of = hosts.iter().filter(|n| n.addr().is_ipv4() == v4).peekable();
        if of.peek().is_some() {
            batch += &format!("{verb} element inet uk {set}_{tail} {}\n", braces(of.map(IpNet::addr)));
        }
    }
    batch
}

fn networks(tail: &str, members: &[IpNet]) -> String {
    let nets: Vec<IpNet> = members.iter().filter(|n| !is_host(n)).map(IpNet::trunc).collect();
    let nets = IpNet::aggregate(&nets);
    let mut batch = String::new();
    for (set, v4) in [("n4", true), ("n6", false)] {
        batch += &format!("flush set inet uk {set}_{tail}\n");
        let mut of = nets.iter().filter(|n| n.addr().is_ipv4() == v4).peekable();
        if of.peek().is_some() {
            batch += &format!("add element inet uk {set}_{tail} {}\n", braces(of));
        }
    }
    batch
}

/// The match of a rule; none when it can match nothing (prefix of the other family), several for a remote group.
fn expressions(rule: &Rule) -> Vec<String> {
    let (family, ip, digit, v4) = match rule.ethertype {
        Ethertype::Ipv4 => ("ipv4", "ip", 4, true),
        Ethertype::Ipv6 => ("ipv6", "ip6", 6, false),
    };
    let side = match rule.direction {
        Direction::Ingress => "saddr",
        Direction::Egress => "daddr",
    };
    let mut base = format!("meta nfproto {family}");
    if let Some(prefix) = rule.remote_prefix {
        if prefix.addr().is_ipv4() != v4 {
            return Vec::new();
        }
        if prefix.prefix_len() > 0 {
            base += &format!(" {ip} {side} {}", prefix.trunc());
        }
    }
    let protocol = protocol_expression(rule);
    match &rule.remote_group {
        None => vec![base + &protocol],
        Some(id) => ["m", "n"].map(|set| format!("{base} {ip} {side} @{set}{digit}_{}{protocol}", names::tail(id, 12))).into(),
    }
}

/// The protocol number a rule means: `icmp` in an IPv6 rule is ICMPv6.
pub fn protocol(rule: &Rule) -> Option<u8> {
    match (rule.protocol, rule.ethertype) {
        (Some(ICMP), Ethertype::Ipv6) => Some(ICMPV6),
        (other, _) => other,
    }
}

pub fn has_ports(protocol: u8) -> bool {
    WITH_PORTS.contains(&protocol)
}

fn protocol_expression(rule: &Rule) -> String {
    let Some(number) = protocol(rule) else {
        return String::new();
    };
    let mut text = format!(" meta l4proto {number}");
    if matches!(number, ICMP | ICMPV6) {
        let word = if number == ICMP { "icmp" } else { "icmpv6" };
        for (field, value) in [("type", rule.port_min), ("code", rule.port_max)] {
            if let Some(value) = value.filter(|v| *v <= 255) {
                text += &format!(" {word} {field} {value}");
            }
        }
    } else if let Some((low, high)) = ports(rule).filter(|_| has_ports(number)) {
        text += &format!(" th dport {low}-{high}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(direction: Direction, ethertype: Ethertype) -> Rule {
        Rule { direction, ethertype, protocol: None, port_min: None, port_max: None, remote_prefix: None, remote_group: None }
    }

    #[test]
    fn every_kind_of_rule() {
        use Direction::{Egress, Ingress};
        use Ethertype::{Ipv4, Ipv6};
        let spec = GroupSpec {
            id: "11111111-1111-1111-1111-aaaaaaaaaaaa".into(),
            stateful: true,
            members: vec![],
            rules: vec![
                rule(Egress, Ipv4),
                rule(Egress, Ipv6),
                Rule { protocol: Some(6), port_min: Some(22), port_max: Some(22), ..rule(Ingress, Ipv4) },
                Rule {
                    protocol: Some(17),
                    port_min: Some(6000),
                    port_max: Some(6010),
                    remote_prefix: Some("192.0.2.7/24".parse().unwrap()),
                    ..rule(Ingress, Ipv4)
                },
                Rule { protocol: Some(1), port_min: Some(8), port_max: Some(0), ..rule(Ingress, Ipv4) },
                Rule { protocol: Some(1), port_min: Some(128), ..rule(Ingress, Ipv6) },
                Rule { protocol: Some(112), ..rule(Ingress, Ipv4) },
                Rule { remote_group: Some("2222-bbbbbbbbbbbb".into()), ..rule(Ingress, Ipv6) },
                // Of the wrong family: matches nothing, so it is not there.
                Rule { remote_prefix: Some("2001:db8::/32".parse().unwrap()), ..rule(Ingress, Ipv4) },
            ],
        };
        assert_eq!(rules(&spec), include_str!("golden/group.nft"));
    }

    #[test]
    fn membership_changes_by_element() {
        let nets = |list: &[&str]| -> Vec<IpNet> { list.iter().map(|n| n.parse().unwrap()).collect() };
        let old = nets(&["10.0.0.1/32", "10.0.0.2/32"]);
        let new = nets(&["10.0.0.2/32", "10.0.0.3/32", "10.1.0.0/16"]);
        let batch = change_members("aaaaaaaaaaaa", &old, &new);
        let changes: Vec<&str> = batch.lines().filter(|l| l.contains(" element ")).collect();
        assert_eq!(
            changes,
            [
                "add element inet uk m4_aaaaaaaaaaaa { 10.0.0.1 }",
                "delete element inet uk m4_aaaaaaaaaaaa { 10.0.0.1 }",
                "add element inet uk m4_aaaaaaaaaaaa { 10.0.0.3 }",
                "add element inet uk n4_aaaaaaaaaaaa { 10.1.0.0/16 }",
            ]
        );
    }
}
