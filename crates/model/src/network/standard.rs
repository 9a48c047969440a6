//! What every network resource carries beside its own attributes.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Standard {
    pub description: String,
    pub tags: BTreeSet<String>,
}
