//! Address translation of a router: floating addresses one to one, the rest behind the gateway's own.

use std::net::{IpAddr, Ipv4Addr};

use super::braces;
use crate::spec::RouterSpec;

/// Replaces the contents of the whole table in one transaction. Connections keep the translation they began with; the caller deletes
/// those that must not.
pub fn batch(spec: &RouterSpec) -> String {
    let mut floating = spec.floating_ips.clone();
    floating.sort();
    floating.dedup();
    let own = spec.gateway.as_ref().and_then(|gateway| {
        gateway.addresses.iter().find_map(|net| match net.addr() {
            IpAddr::V4(a) => Some(a),
            IpAddr::V6(_) => None,
        })
    });
    let mut batch = String::from(
        "add table ip uk\n\
         add map ip uk inward { type ipv4_addr : ipv4_addr; }\n\
         add map ip uk outward { type ipv4_addr : ipv4_addr; }\n\
         add chain ip uk pre { type nat hook prerouting priority -100; policy accept; }\n\
         add chain ip uk post { type nat hook postrouting priority 100; policy accept; }\n\
         flush chain ip uk pre\n\
         flush chain ip uk post\n\
         flush map ip uk inward\n\
         flush map ip uk outward\n",
    );
    if !floating.is_empty() {
        let inward = floating.iter().map(|f| format!("{} : {}", f.floating, f.fixed));
        batch += &format!("add element ip uk inward {}\n", braces(inward));
        let outward = first_per_fixed(&floating).map(|f| format!("{} : {}", f.1, f.0));
        batch += &format!("add element ip uk outward {}\n", braces(outward));
        batch += "add rule ip uk pre dnat to ip daddr map @inward\n";
        batch += "add rule ip uk post oifname \"gw0\" snat to ip saddr map @outward\n";
        // From inside to a floating address of this router: the answer has to come back through here.
        batch += "add rule ip uk post iifname != \"gw0\" ct status dnat snat to ip saddr map @outward\n";
        if let Some(own) = own {
            batch += &format!("add rule ip uk post iifname != \"gw0\" ct status dnat snat to {own}\n");
        }
    }
    let hides = spec.gateway.as_ref().is_some_and(|g| g.enable_snat);
    if let (true, Some(own)) = (hides, own) {
        batch += &format!("add rule ip uk post iifname != \"gw0\" oifname \"gw0\" snat to {own}\n");
    }
    batch
}

/// A fixed address may have several floating ones; it goes out by the lowest.
fn first_per_fixed(floating: &[crate::spec::FloatingIp]) -> impl Iterator<Item = (Ipv4Addr, Ipv4Addr)> {
    let mut seen = std::collections::BTreeMap::new();
    for f in floating {
        seen.entry(f.fixed).or_insert(f.floating);
    }
    seen.into_iter().map(|(fixed, floating)| (floating, fixed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{FloatingIp, RouterGateway};

    #[test]
    fn floating_and_hidden() {
        let pair = |a: &str, b: &str| FloatingIp { floating: a.parse().unwrap(), fixed: b.parse().unwrap() };
        let spec = RouterSpec {
            id: "r".into(),
            admin_state_up: true,
            interfaces: vec![],
            gateway: Some(RouterGateway {
                port_id: "p".into(),
                network_id: "n".into(),
                physical: "ext".into(),
                mac: "fa:16:3e:00:00:01".parse().unwrap(),
                addresses: vec!["203.0.113.10/24".parse().unwrap()],
                next_hops: vec![],
                enable_snat: true,
                mtu: 1500,
            }),
            routes: vec![],
            floating_ips: vec![pair("203.0.113.51", "10.0.0.5"), pair("203.0.113.50", "10.0.0.5")],
        };
        assert_eq!(batch(&spec), include_str!("golden/router.nft"));
    }
}
