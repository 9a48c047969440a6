//! A port: one interface of a device on a network.

use serde::{Deserialize, Serialize};

use crate::{Kind, Meta};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Port {
    pub meta: Meta<Port>,
}

impl Kind for Port {
    const NAME: &'static str = "port";
    crate::meta_accessors!();
}
