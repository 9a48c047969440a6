//! Names of namespaces, devices and firewall objects, derived from ids.
//!
//! Every name is a pure function of an id, so a driver that knows nothing (after a crash) finds and converges what an
//! earlier one made. Kernel names are short, so only the **last** characters of an id are used: the first ones of a
//! time-ordered UUID are a clock, equal for everything created together. The full id is kept as the device's alias.
//! Only ASCII letters and digits of an id are ever used, whatever the id contains.

use crate::{Error, Result};

/// The bridge inside a network's namespace.
pub const BRIDGE: &str = "br0";
/// The VXLAN device inside a network's namespace.
pub const VXLAN: &str = "vx0";
/// The leg of an external network towards the external bridge.
pub const UPLINK: &str = "up0";
/// A router's leg towards the external bridge.
pub const GATEWAY: &str = "gw0";
/// What all ports of guests begin with.
pub const TAP: &str = "t-";
/// What all legs of routers begin with, inside the network's namespace.
pub const LEG: &str = "r-";
/// What all interfaces of a router begin with, inside the router's namespace.
pub const INTERFACE: &str = "q-";

/// The last `n` letters and digits of an id, lower case.
pub fn tail(id: &str, n: usize) -> String {
    let clean: Vec<u8> = id.bytes().filter(u8::is_ascii_alphanumeric).map(|b| b.to_ascii_lowercase()).collect();
    clean[clean.len().saturating_sub(n)..].iter().map(|&b| char::from(b)).collect()
}

pub fn tap(port: &str) -> String {
    format!("{TAP}{}", tail(port, 10))
}

pub fn leg(port: &str) -> String {
    format!("{LEG}{}", tail(port, 10))
}

pub fn interface(port: &str) -> String {
    format!("{INTERFACE}{}", tail(port, 10))
}

/// The packet mark that stands for a port inside its network's namespace; never 0, which means "no guarded port".
///
/// Derived rather than allocated, so that nothing has to be remembered. Two ports of one network on one host fall
/// together with probability n²/2³³; the driver refuses the second one then.
pub fn mark(port: &str) -> u32 {
    let tail = tail(port, 8);
    let mark = u32::from_str_radix(&tail, 16).unwrap_or_else(|_| fnv(tail.as_bytes()));
    mark.max(1)
}

fn fnv(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, &b| (hash ^ u32::from(b)).wrapping_mul(0x0100_0193))
}

/// Names in places shared with others (`/run/netns`, the data-plane namespace), which carry the prefix.
#[derive(Clone, Debug)]
pub struct Names {
    prefix: String,
}

impl Names {
    pub fn new(prefix: &str) -> Result<Self> {
        let fits = (1..=5).contains(&prefix.len()) && prefix.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if !fits {
            return Err(Error::Invalid(format!("prefix `{prefix}` must be 1 to 5 lower-case letters or digits")));
        }
        Ok(Self { prefix: prefix.to_owned() })
    }

    pub fn network(&self, id: &str) -> String {
        format!("{}{}", self.network_prefix(), tail(id, 12))
    }

    pub fn network_prefix(&self) -> String {
        format!("{}-n-", self.prefix)
    }

    pub fn router(&self, id: &str) -> String {
        format!("{}{}", self.router_prefix(), tail(id, 12))
    }

    pub fn router_prefix(&self) -> String {
        format!("{}-r-", self.prefix)
    }

    /// Bridge of a physical name; a name too long for a device is replaced by its hash.
    pub fn external(&self, physical: &str) -> String {
        let plain = physical.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let name = format!("{}{physical}", self.external_prefix());
        if plain && !physical.is_empty() && name.len() <= 15 {
            return name;
        }
        format!("{}x-{:08x}", self.prefix, fnv(physical.as_bytes()))
    }

    pub fn external_prefix(&self) -> String {
        format!("{}-ext-", self.prefix)
    }

    /// The outer end of a router's gateway leg.
    pub fn gateway_outer(&self, port: &str) -> String {
        format!("{}g{}", self.prefix, tail(port, 9))
    }

    /// The outer end of an external network's leg.
    pub fn uplink_outer(&self, network: &str) -> String {
        format!("{}u{}", self.prefix, tail(network, 9))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V7: &str = "01932f3c-9a7e-7cc0-8d6c-3f2a1b4c5d6e";

    #[test]
    fn names_come_from_the_random_end_of_an_id() {
        assert_eq!(tap(V7), "t-2a1b4c5d6e");
        assert_eq!(mark(V7), 0x1b4c_5d6e);
        let names = Names::new("uk").unwrap();
        assert_eq!(names.network(V7), "uk-n-3f2a1b4c5d6e");
        assert_eq!(names.network(&tail(V7, 12)), names.network(V7));
    }

    #[test]
    fn names_fit_the_kernel() {
        let names = Names::new("abcde").unwrap();
        for name in [
            names.gateway_outer(V7),
            names.uplink_outer(V7),
            names.external("p"),
            names.external("a-long-physical-network-name"),
            names.external("../x y"),
            tap(V7),
        ] {
            assert!(name.len() <= 15, "{name}");
            assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "{name}");
        }
        assert_eq!(Names::new("uk").unwrap().external("physnet1"), "uk-ext-physnet1");
        assert!(Names::new("toolong").is_err());
        assert!(Names::new("").is_err());
    }

    #[test]
    fn strange_ids_stay_harmless() {
        assert_eq!(tap("../../etc; drop"), "t-etcdrop");
        assert_ne!(mark("00000000"), 0);
        assert_ne!(mark(""), 0);
    }
}
