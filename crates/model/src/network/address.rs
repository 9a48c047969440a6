//! Addresses as numbers, and as the keys under which they are claimed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::Network;
use crate::Id;

/// The namespace of claims on the addresses of networks.
pub const ADDRESS: &str = "address";
/// The namespace of claims on the MAC addresses of networks.
pub const MAC: &str = "mac";

/// The key of an address in a network: the order of keys is the order of addresses of one family.
pub fn key(network: &Id<Network>, address: IpAddr) -> String {
    match address {
        IpAddr::V4(a) => format!("{network}/4{:08x}", u32::from(a)),
        IpAddr::V6(a) => format!("{network}/6{:032x}", u128::from(a)),
    }
}

/// The address in a key that [`key`] made for this network; none when it is of another network.
pub fn of_key(network: &Id<Network>, key: &str) -> Option<IpAddr> {
    let rest = key.strip_prefix(network.as_str())?.strip_prefix('/')?;
    match rest.split_at_checked(1)? {
        ("4", hex) => u32::from_str_radix(hex, 16).ok().map(|n| Ipv4Addr::from(n).into()),
        ("6", hex) => u128::from_str_radix(hex, 16).ok().map(|n| Ipv6Addr::from(n).into()),
        _ => None,
    }
}

pub fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => u32::from(a).into(),
        IpAddr::V6(a) => a.into(),
    }
}

/// The address with this number, of the family of `like`.
pub fn from_number(number: u128, like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::from(number as u32).into(),
        IpAddr::V6(_) => Ipv6Addr::from(number).into(),
    }
}

/// First and last number of a prefix.
pub fn span(cidr: &IpNet) -> (u128, u128) {
    (number(cidr.network()), number(cidr.broadcast()))
}

pub fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

/// Addresses that no port may have: the network's own and, in IPv4, the broadcast address. Point-to-point prefixes have neither.
pub fn is_reserved(cidr: &IpNet, address: IpAddr) -> bool {
    match cidr {
        IpNet::V4(c) => c.prefix_len() < 31 && (address == IpAddr::V4(c.network()) || address == IpAddr::V4(c.broadcast())),
        IpNet::V6(c) => c.prefix_len() < 127 && address == IpAddr::V6(c.network()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_addresses_do() {
        let net = Id::<Network>::new("n");
        let addresses: Vec<IpAddr> = ["9.0.0.1", "10.0.0.255", "10.0.1.0", "200.0.0.0"].map(|a| a.parse().unwrap()).into();
        let keys: Vec<String> = addresses.iter().map(|a| key(&net, *a)).collect();
        assert!(keys.is_sorted());
        assert_eq!(keys.iter().map(|k| of_key(&net, k).unwrap()).collect::<Vec<_>>(), addresses);
        assert_eq!(of_key(&Id::new("m"), &keys[0]), None);
    }

    #[test]
    fn network_and_broadcast_addresses_are_reserved() {
        let reserved = |cidr: &str, a: &str| is_reserved(&cidr.parse().unwrap(), a.parse().unwrap());
        assert!(reserved("10.0.0.0/24", "10.0.0.0"));
        assert!(reserved("10.0.0.0/24", "10.0.0.255"));
        assert!(!reserved("10.0.0.0/31", "10.0.0.0"));
        assert!(reserved("fd00::/64", "fd00::"));
        assert!(!reserved("fd00::/64", "fd00::ffff:ffff:ffff:ffff"));
    }
}
