//! A network: one layer 2 segment, carried between hosts by VXLAN or joined to a physical network.
//!
//! `shared` and who may use it as external are not here: they are [`super::RbacPolicy`] documents.

use serde::{Deserialize, Serialize};

use super::Standard;
use crate::{Derived, Kind, Meta};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Network {
    pub meta: Meta<Network>,
    #[serde(default)]
    pub standard: Standard,
    pub admin_up: bool,
    pub mtu: u32,
    pub segment: Segment,
    /// Routers may have their gateway here, and floating IPs come from here.
    #[serde(default)]
    pub external: bool,
    /// The external network that auto-allocated topologies use.
    #[serde(default)]
    pub is_default: bool,
    /// What ports get that do not say.
    pub port_security: bool,
    #[serde(default)]
    pub dns_domain: String,
    #[serde(default)]
    pub availability_zone_hints: Vec<String>,
}

/// How the network leaves a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Segment {
    Vxlan {
        vni: u32,
    },
    /// Untagged on a physical network, which a host maps to a bridge of its own.
    Flat {
        physical: String,
    },
}

/// The numbers of tenant networks; lower ones are left to operators.
pub const VNI_FIRST: u32 = 4096;
/// VXLAN carries 24 bits.
pub const VNI_LAST: u32 = (1 << 24) - 1;

impl Segment {
    /// The namespace and key of the claim that keeps segments apart.
    pub fn claim(&self) -> (&'static str, String) {
        match self {
            Segment::Vxlan { vni } => ("vni", vni_key(*vni)),
            Segment::Flat { physical } => ("flat-network", physical.clone()),
        }
    }
}

fn vni_key(vni: u32) -> String {
    format!("{vni:08}")
}

impl Kind for Network {
    const NAME: &'static str = "network";
    crate::meta_accessors!();

    /// Indexes: `project`, `external`. Tally: `network` by project.
    fn derive(&self, d: &mut Derived) {
        super::port::owned(d, Self::NAME, self.meta.project.as_ref());
        let (namespace, key) = self.segment.claim();
        d.claim(namespace, key);
        if self.external {
            d.index("external", "yes");
        }
        if self.is_default {
            d.claim("default-external-network", "the");
        }
    }
}
