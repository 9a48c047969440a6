//! Documents that the API keeps for others and does not interpret: policy blobs, and configuration of domains.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Extra, Project};
use crate::{Derived, Kind, Meta};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    pub meta: Meta<Policy>,
    pub blob: Value,
    pub r#type: String,
    #[serde(default)]
    pub extra: Extra,
}

impl Kind for Policy {
    const NAME: &'static str = "identity_policy";
    const NOUN: &'static str = "policy";
    crate::meta_accessors!();
}

/// Options of one domain: group -> option -> value. The id is the domain's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DomainConfig {
    pub meta: Meta<DomainConfig>,
    pub groups: BTreeMap<String, Extra>,
}

impl Kind for DomainConfig {
    const NAME: &'static str = "domain_config";
    const NOUN: &'static str = "domain configuration";
    crate::meta_accessors!();

    fn derive(&self, d: &mut Derived) {
        d.refers(&self.meta.id.of::<Project>());
    }
}
