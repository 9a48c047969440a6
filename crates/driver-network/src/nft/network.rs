//! What every network namespace has, whatever its ports.

use std::net::IpAddr;

use super::braces;
use crate::spec::NetworkSpec;

/// Frames of the services stay on this host, and no other host's services are heard: each answers its own guests.
const BRIDGE: &str = r#"add table bridge uk
add map bridge uk ports { type ifname : verdict; }
add map bridge uk marks { type ifname : mark; }
add set bridge uk known { type ifname; }
add chain bridge uk pre { type filter hook prerouting priority -300; policy accept; }
add chain bridge uk across { type filter hook forward priority -10; policy accept; }
add chain bridge uk to_host { type filter hook input priority -10; policy accept; }
add chain bridge uk from_host { type filter hook output priority -10; policy accept; }
flush chain bridge uk pre
flush chain bridge uk across
flush chain bridge uk to_host
flush chain bridge uk from_host
add rule bridge uk pre meta mark set 0
add rule bridge uk pre iifname "t-*" iifname != @known drop
add rule bridge uk pre iifname vmap @ports
add rule bridge uk pre meta mark set iifname map @marks
add rule bridge uk across meta mark set 0
add rule bridge uk across meta mark set oifname map @marks
add rule bridge uk across meta mark != 0 ether type != { ip, ip6, arp } drop
add rule bridge uk to_host iifname { "vx0", "up0" } drop
add rule bridge uk from_host oifname { "vx0", "up0" } drop
"#;

/// A TCP connection begins with SYN: after its entry was deleted (a rule was taken away) its packets must not make
/// a new one in whatever direction is still allowed.
const INET: &str = r#"add table inet uk
add map inet uk egress { type mark : verdict; }
add map inet uk ingress { type mark : verdict; }
add set inet uk service4 { type ipv4_addr; }
add set inet uk service6 { type ipv6_addr; }
add chain inet uk pre { type filter hook prerouting priority 0; policy accept; }
add chain inet uk across { type filter hook forward priority 0; policy accept; }
add chain inet uk to_host { type filter hook input priority 0; policy drop; }
add chain inet uk stateful
add chain inet uk may_send
add chain inet uk may_receive
flush chain inet uk pre
flush chain inet uk across
flush chain inet uk to_host
flush chain inet uk stateful
flush chain inet uk may_send
flush chain inet uk may_receive
flush set inet uk service4
flush set inet uk service6
add rule inet uk pre meta mark vmap @egress
add rule inet uk across meta mark vmap @ingress
add rule inet uk stateful ct state established,related accept
add rule inet uk stateful ct state invalid drop
add rule inet uk stateful ct state new meta l4proto tcp tcp flags & (fin|syn|rst|ack) != syn drop
add rule inet uk may_send ip daddr @service4 accept
add rule inet uk may_send ip6 daddr @service6 accept
add rule inet uk may_send udp sport 68 udp dport 67 accept
add rule inet uk may_send udp sport 546 udp dport 547 accept
add rule inet uk may_send icmpv6 type { 130, 131, 132, 133, 135, 136, 143 } accept
add rule inet uk may_receive udp sport 67 udp dport 68 accept
add rule inet uk may_receive udp sport 547 udp dport 546 accept
add rule inet uk may_receive icmpv6 type { 130, 131, 132, 134, 135, 136, 143 } accept
add rule inet uk to_host iifname "lo" accept
add rule inet uk to_host ct state established,related accept
add rule inet uk to_host ct state invalid drop
add rule inet uk to_host ip daddr @service4 icmp type echo-request accept
add rule inet uk to_host icmpv6 type { 128, 130, 131, 132, 133, 135, 136, 143 } accept
add rule inet uk to_host ip daddr 169.254.169.254 tcp dport 80 accept
add rule inet uk to_host ip daddr @service4 meta l4proto { tcp, udp } th dport 53 accept
add rule inet uk to_host ip6 daddr @service6 meta l4proto { tcp, udp } th dport 53 accept
"#;

pub fn batch(spec: &NetworkSpec) -> String {
    let mut batch = format!("{BRIDGE}{INET}");
    let mut v4 = vec!["169.254.169.254".to_owned()];
    let mut v6 = Vec::new();
    if let Some(service) = &spec.service {
        batch += &format!("add rule bridge uk pre iifname {{ \"vx0\", \"up0\" }} ether saddr {} drop\n", service.mac);
        v6.push(service.mac.link_local().to_string());
        for net in &service.addresses {
            match net.addr() {
                IpAddr::V4(a) => v4.push(a.to_string()),
                IpAddr::V6(a) => v6.push(a.to_string()),
            }
        }
    }
    batch += &format!("add element inet uk service4 {}\n", braces(v4));
    if !v6.is_empty() {
        batch += &format!("add element inet uk service6 {}\n", braces(v6));
    }
    batch
}

/// Whether two specs differ in what [`batch`] looks at.
pub fn differs(a: &NetworkSpec, b: &NetworkSpec) -> bool {
    a.service != b.service
}

/// The tables and maps alone, for removing what an earlier driver left.
pub fn objects() -> String {
    let declares = |line: &&str| line.starts_with("add table") || line.starts_with("add map") || line.starts_with("add set");
    let lines = BRIDGE.lines().chain(INET.lines()).filter(declares);
    lines.map(|line| format!("{line}\n")).collect()
}
