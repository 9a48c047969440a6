//! A server group: servers that should share a host, or should not. Members are the servers that name it (index `group` of servers).

use serde::{Deserialize, Serialize};

use crate::{Derived, Kind, Meta};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerGroup {
    pub meta: Meta<ServerGroup>,
    pub user: String,
    pub policy: GroupPolicy,
}

/// Where members may be, seen from each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupPolicy {
    /// All on one host.
    Affinity,
    /// At most `most` on any host.
    AntiAffinity {
        most: u32,
    },
    SoftAffinity,
    SoftAntiAffinity,
}

impl GroupPolicy {
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "affinity" => GroupPolicy::Affinity,
            "anti-affinity" => GroupPolicy::AntiAffinity { most: 1 },
            "soft-affinity" => GroupPolicy::SoftAffinity,
            "soft-anti-affinity" => GroupPolicy::SoftAntiAffinity,
            _ => return None,
        })
    }

    pub fn as_str(self) -> &'static str {
        match self {
            GroupPolicy::Affinity => "affinity",
            GroupPolicy::AntiAffinity { .. } => "anti-affinity",
            GroupPolicy::SoftAffinity => "soft-affinity",
            GroupPolicy::SoftAntiAffinity => "soft-anti-affinity",
        }
    }
}

impl Kind for ServerGroup {
    const NAME: &'static str = "server_group";
    const NOUN: &'static str = "server group";
    crate::meta_accessors!();

    /// Index: `project`. Tally: `server_groups` by project.
    fn derive(&self, d: &mut Derived) {
        let project = self.meta.project.as_ref().map_or("", |p| p.as_str());
        d.index("project", project);
        d.tally("server_groups", project, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_read_back_as_they_are_written() {
        for name in ["affinity", "anti-affinity", "soft-affinity", "soft-anti-affinity"] {
            assert_eq!(GroupPolicy::parse(name).map(GroupPolicy::as_str), Some(name));
        }
        assert_eq!(GroupPolicy::parse("legacy"), None);
    }
}
