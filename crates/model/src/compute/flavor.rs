//! A flavor: the size of a server. Its id is chosen by the caller or made up.
//!
//! Servers keep a copy, so a flavor is deleted or changed without regard to the servers that were made from it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::FlavorCopy;
use crate::identity::Project;
use crate::{Derived, Id, Kind, Meta};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Flavor {
    pub meta: Meta<Flavor>,
    pub vcpus: u32,
    pub ram_mib: u64,
    /// 0: as large as the image.
    pub disk_gib: u64,
    #[serde(default)]
    pub ephemeral_gib: u64,
    #[serde(default)]
    pub swap_mib: u64,
    #[serde(default = "one")]
    pub rxtx_factor: f64,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub extra_specs: BTreeMap<String, String>,
    #[serde(default = "yes")]
    pub public: bool,
    /// The projects that may use it although it is not public.
    #[serde(default)]
    pub access: BTreeSet<Id<Project>>,
}

fn one() -> f64 {
    1.0
}
fn yes() -> bool {
    true
}

/// The flavors that a new cloud has: id, name, vcpus, MiB of memory, GiB of disk.
const DEFAULTS: [(&str, &str, u32, u64, u64); 8] = [
    ("42", "m1.nano", 1, 192, 1),
    ("84", "m1.micro", 1, 256, 1),
    ("1", "m1.tiny", 1, 512, 1),
    ("2", "m1.small", 1, 2048, 20),
    ("3", "m1.medium", 2, 4096, 40),
    ("4", "m1.large", 4, 8192, 80),
    ("c1", "cirros256", 1, 256, 1),
    ("d1", "ds512M", 1, 512, 5),
];

impl Flavor {
    pub fn new(id: impl Into<Id<Flavor>>, name: impl Into<String>, vcpus: u32, ram_mib: u64, disk_gib: u64) -> Self {
        Flavor {
            meta: Meta::new(id).named(name),
            vcpus,
            ram_mib,
            disk_gib,
            ephemeral_gib: 0,
            swap_mib: 0,
            rxtx_factor: 1.0,
            description: None,
            extra_specs: BTreeMap::new(),
            public: true,
            access: BTreeSet::new(),
        }
    }

    /// What a new cloud starts with.
    pub fn defaults() -> Vec<Flavor> {
        DEFAULTS.iter().map(|&(id, name, vcpus, ram, disk)| Flavor::new(id, name, vcpus, ram, disk)).collect()
    }

    /// May servers of `project` be made from it?
    pub fn is_visible_to(&self, project: Option<&Id<Project>>) -> bool {
        self.public || project.is_some_and(|project| self.access.contains(project))
    }

    /// What a server keeps of it.
    pub fn copy(&self) -> FlavorCopy {
        FlavorCopy {
            id: self.meta.id.to_string(),
            name: self.meta.name.clone(),
            vcpus: self.vcpus,
            ram_mib: self.ram_mib,
            disk_gib: self.disk_gib,
            ephemeral_gib: self.ephemeral_gib,
            swap_mib: self.swap_mib,
            rxtx_factor: self.rxtx_factor,
            description: self.description.clone(),
            extra_specs: self.extra_specs.clone(),
        }
    }
}

impl Kind for Flavor {
    const NAME: &'static str = "flavor";
    crate::meta_accessors!();

    fn derive(&self, d: &mut Derived) {
        d.claim("flavor-name", &self.meta.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_flavor_is_seen_by_those_with_access_only() {
        let mut flavor = Flavor::new("9", "secret", 1, 64, 0);
        assert!(flavor.is_visible_to(None));
        flavor.public = false;
        flavor.access.insert(Id::new("p"));
        assert!(flavor.is_visible_to(Some(&Id::new("p"))));
        assert!(!flavor.is_visible_to(Some(&Id::new("q"))));
        assert!(!flavor.is_visible_to(None));
    }

    #[test]
    fn default_flavors_have_different_ids_and_names() {
        let all = Flavor::defaults();
        let ids: BTreeSet<_> = all.iter().map(|f| f.meta.id.clone()).collect();
        let names: BTreeSet<_> = all.iter().map(|f| f.meta.name.clone()).collect();
        assert_eq!((ids.len(), names.len()), (all.len(), all.len()));
    }
}
