//! A role: a name that policies ask for. A role of a domain never reaches a token itself, only the roles it implies do.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Extra, Project};
use crate::{Derived, Id, Kind, Meta};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Role {
    pub meta: Meta<Role>,
    #[serde(default)]
    pub domain: Option<Id<Project>>,
    #[serde(default)]
    pub description: Option<String>,
    /// Whoever has this role has those too.
    #[serde(default)]
    pub implies: BTreeSet<Id<Role>>,
    #[serde(default)]
    pub options: Extra,
    #[serde(default)]
    pub extra: Extra,
}

impl Role {
    pub fn new(id: impl Into<Id<Role>>, name: &str) -> Self {
        Role {
            meta: Meta::new(id).named(name),
            domain: None,
            description: None,
            implies: BTreeSet::new(),
            options: Extra::new(),
            extra: Extra::new(),
        }
    }

    pub fn is_immutable(&self) -> bool {
        immutable(&self.options)
    }
}

pub(super) fn immutable(options: &Extra) -> bool {
    options.get("immutable").and_then(serde_json::Value::as_bool).unwrap_or(false)
}

impl Kind for Role {
    const NAME: &'static str = "role";
    crate::meta_accessors!();

    fn derive(&self, d: &mut Derived) {
        let domain = self.domain.as_ref().map_or("", Id::as_str);
        d.claim("role-name", format!("{domain}/{}", self.meta.name));
        d.index("domain", domain);
        for implied in &self.implies {
            d.index("implies", implied);
            d.refers(implied);
        }
        if let Some(domain) = &self.domain {
            d.refers(domain);
        }
    }
}
