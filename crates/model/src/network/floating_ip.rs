//! A floating IP: an address of an external network that a router translates to an address of a port.
//!
//! The address itself is held by a port without a project on the external network, whose `device_id` is the floating IP.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Network, Port, Router, Standard};
use crate::{Derived, Id, Kind, Meta};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FloatingIp {
    pub meta: Meta<FloatingIp>,
    #[serde(default)]
    pub standard: Standard,
    /// The external network.
    pub network: Id<Network>,
    pub address: IpAddr,
    /// The port that holds `address`.
    pub holder: Id<Port>,
    #[serde(default)]
    pub target: Option<FloatingTarget>,
    #[serde(default)]
    pub dns_name: String,
    #[serde(default)]
    pub dns_domain: String,
}

/// Where its packets go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FloatingTarget {
    pub port: Id<Port>,
    /// One of the port's addresses.
    pub address: IpAddr,
    /// The router between the port's subnet and the external network.
    pub router: Id<Router>,
}

impl Kind for FloatingIp {
    const NAME: &'static str = "floating_ip";
    const NOUN: &'static str = "floating IP";
    crate::meta_accessors!();

    /// Indexes: `project`, `network`, `port` and `router` (of the target). One per fixed address and external network.
    fn derive(&self, d: &mut Derived) {
        super::port::owned(d, Self::NAME, self.meta.project.as_ref());
        d.index("network", &self.network);
        d.refers(&self.network);
        d.refers(&self.holder);
        if let Some(target) = &self.target {
            d.index("port", &target.port);
            d.index("router", &target.router);
            d.refers(&target.port);
            d.refers(&target.router);
            d.claim("floating-target", format!("{}/{}/{}", target.port, target.address, self.network));
        }
    }
}
