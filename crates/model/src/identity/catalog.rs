//! The catalog: which services there are and where they answer.

use serde::{Deserialize, Serialize};

use super::Extra;
use crate::{Derived, Id, Kind, Meta};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// The name may be empty.
    pub meta: Meta<Service>,
    /// `compute`, `image`: what clients look for.
    pub r#type: String,
    #[serde(default = "super::project::yes")]
    pub enabled: bool,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub extra: Extra,
}

impl Kind for Service {
    const NAME: &'static str = "service";
    crate::meta_accessors!();
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    pub meta: Meta<Endpoint>,
    pub service: Id<Service>,
    pub interface: Interface,
    #[serde(default)]
    pub region: Option<Id<Region>>,
    /// May hold `$(project_id)s` and `$(user_id)s`.
    pub url: String,
    #[serde(default = "super::project::yes")]
    pub enabled: bool,
    #[serde(default)]
    pub extra: Extra,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interface {
    Public,
    Internal,
    Admin,
}

impl Interface {
    pub const ALL: [Interface; 3] = [Interface::Public, Interface::Internal, Interface::Admin];

    pub fn as_str(self) -> &'static str {
        match self {
            Interface::Public => "public",
            Interface::Internal => "internal",
            Interface::Admin => "admin",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|interface| interface.as_str() == text)
    }
}

impl Kind for Endpoint {
    const NAME: &'static str = "endpoint";
    crate::meta_accessors!();

    fn derive(&self, d: &mut Derived) {
        d.index("service", &self.service);
        d.refers(&self.service);
        if let Some(region) = &self.region {
            d.index("region", region);
            d.refers(region);
        }
    }
}

/// A region; its id is chosen by whoever makes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Region {
    pub meta: Meta<Region>,
    #[serde(default)]
    pub parent: Option<Id<Region>>,
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub extra: Extra,
}

impl Kind for Region {
    const NAME: &'static str = "region";
    crate::meta_accessors!();

    fn derive(&self, d: &mut Derived) {
        if let Some(parent) = &self.parent {
            d.index("parent", parent);
            d.refers(parent);
        }
    }
}
