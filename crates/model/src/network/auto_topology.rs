//! The network and router that a project gets without asking, when a server wants a network and the project has none.

use serde::{Deserialize, Serialize};

use super::{Network, Router};
use crate::{Derived, Id, Kind, Meta};

/// The id is the project's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AutoAllocatedTopology {
    pub meta: Meta<AutoAllocatedTopology>,
    pub network: Id<Network>,
    pub router: Id<Router>,
}

impl Kind for AutoAllocatedTopology {
    const NAME: &'static str = "auto_allocated_topology";
    const NOUN: &'static str = "auto-allocated topology";
    crate::meta_accessors!();

    /// Index: `network`.
    fn derive(&self, d: &mut Derived) {
        d.index("network", &self.network);
        d.refers(&self.network);
        d.refers(&self.router);
    }
}
