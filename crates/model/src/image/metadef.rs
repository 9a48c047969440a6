//! A namespace of metadata definitions: what properties of images, flavors and so on mean, for people and consoles.
//!
//! Written by administrators through the API; nothing else in the cloud reads it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Derived, Kind, Meta};

/// `meta.name` is the namespace, unique in the cloud; `meta.project` its owner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetadefNamespace {
    pub meta: Meta<MetadefNamespace>,
    #[serde(default)]
    pub display_name: Option<String>,
    #[serde(default)]
    pub description: Option<String>,
    /// Seen by all projects.
    #[serde(default)]
    pub public: bool,
    #[serde(default)]
    pub protected: bool,
    #[serde(default)]
    pub objects: BTreeMap<String, Definition>,
    #[serde(default)]
    pub properties: BTreeMap<String, Definition>,
    #[serde(default)]
    pub tags: BTreeMap<String, Definition>,
    #[serde(default)]
    pub resource_types: BTreeMap<String, Definition>,
}

/// One thing defined in a namespace, by its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    /// As the caller sent it, without the name.
    pub body: Map<String, Value>,
    pub created: Timestamp,
    pub updated: Timestamp,
}

impl MetadefNamespace {
    pub const NAMES: &'static str = "metadef_namespace_name";
}

impl Definition {
    pub fn new(body: Map<String, Value>, now: Timestamp) -> Self {
        Definition { body, created: now, updated: now }
    }
}

impl Kind for MetadefNamespace {
    const NAME: &'static str = "metadef_namespace";
    const NOUN: &'static str = "metadata definition namespace";
    crate::meta_accessors!();

    fn derive(&self, d: &mut Derived) {
        d.claim(Self::NAMES, &self.meta.name);
    }
}
