//! An aggregate: a set of hosts with metadata. One with `availability_zone` in its metadata makes that zone.
//!
//! A host without such an aggregate is in the default zone; a host cannot be in two zones.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Host;
use crate::image::Image;
use crate::{Derived, Id, Kind, Meta};

/// The metadata key that names the zone.
pub const ZONE_KEY: &str = "availability_zone";
/// The metadata key that names the rack its hosts stand in.
pub const RACK_KEY: &str = "unkai:rack";
/// The zone of hosts that no aggregate puts into another.
pub const DEFAULT_ZONE: &str = "nova";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Aggregate {
    pub meta: Meta<Aggregate>,
    /// The number by which compute APIs name it.
    pub number: u64,
    #[serde(default)]
    pub hosts: BTreeSet<Id<Host>>,
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// Images that its hosts should have at hand before a server asks for them.
    #[serde(default)]
    pub images: BTreeSet<Id<Image>>,
    /// Counts the requests for images: hosts on which one failed try again when it is asked for again.
    #[serde(default)]
    pub image_requests: u64,
}

impl Aggregate {
    /// An aggregate without hosts.
    pub fn new(meta: Meta<Aggregate>, number: u64, zone: Option<String>) -> Self {
        let metadata = zone.map(|zone| (ZONE_KEY.to_owned(), zone)).into_iter().collect();
        Aggregate { meta, number, hosts: BTreeSet::new(), metadata, images: BTreeSet::new(), image_requests: 0 }
    }

    pub fn zone(&self) -> Option<&str> {
        self.metadata.get(ZONE_KEY).map(String::as_str)
    }

    pub fn rack(&self) -> Option<&str> {
        self.metadata.get(RACK_KEY).map(String::as_str)
    }
}

impl Kind for Aggregate {
    const NAME: &'static str = "aggregate";
    crate::meta_accessors!();

    /// Indexes: `host`, `zone`. Claims: its name and its number. A host in it cannot be deleted.
    fn derive(&self, d: &mut Derived) {
        d.claim("aggregate-name", &self.meta.name);
        d.claim("aggregate-number", self.number.to_string());
        if let Some(zone) = self.zone() {
            d.index("zone", zone);
        }
        for host in &self.hosts {
            d.index("host", host);
            d.refers(host);
        }
    }
}
