//! A subnet pool: prefixes from which subnets get theirs, so that no two of them overlap.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Standard;
use crate::{Derived, Kind, Meta};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SubnetPool {
    pub meta: Meta<SubnetPool>,
    #[serde(default)]
    pub standard: Standard,
    /// At least one, all of one family, none overlapping another.
    pub prefixes: Vec<IpNet>,
    pub default_prefix_len: u8,
    pub min_prefix_len: u8,
    pub max_prefix_len: u8,
    /// How much a project may take: addresses in IPv4, /64 prefixes in IPv6.
    #[serde(default)]
    pub default_quota: Option<u64>,
    #[serde(default)]
    pub is_default: bool,
}

impl SubnetPool {
    /// 4 or 6.
    pub fn ip_version(&self) -> u8 {
        if self.prefixes.iter().any(|p| matches!(p, IpNet::V6(_))) { 6 } else { 4 }
    }
}

impl Kind for SubnetPool {
    const NAME: &'static str = "subnet_pool";
    const NOUN: &'static str = "subnet pool";
    crate::meta_accessors!();

    /// Index: `project`. Tally: `subnet_pool` by project. At most one default per family.
    fn derive(&self, d: &mut Derived) {
        super::port::owned(d, Self::NAME, self.meta.project.as_ref());
        if self.is_default {
            d.claim("default-subnet-pool", self.ip_version().to_string());
        }
    }
}
