//! The cloud's own documents: who signs its certificates, and which controllers it has.

use serde::{Deserialize, Serialize};

use crate::{Derived, Kind, Meta};

/// The cloud's certificate authority: one document, made by the first controller.
///
/// Its key is here because every controller of the cloud needs it and because the keys of tokens are here too: who can read the store can
/// already be anybody in the cloud. So a further controller needs nothing but the store.
#[derive(Clone, Serialize, Deserialize)]
pub struct CloudAuthority {
    pub meta: Meta<CloudAuthority>,
    pub certificate: String,
    pub key: String,
}

impl CloudAuthority {
    pub const ID: &'static str = "cloud";
}

/// Never shows the key.
impl std::fmt::Debug for CloudAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CloudAuthority").field("id", &self.meta.id).finish_non_exhaustive()
    }
}

impl Kind for CloudAuthority {
    const NAME: &'static str = "cloud_authority";
    const NOUN: &'static str = "certificate authority";
    crate::meta_accessors!();
}

/// A controller, as agents find it. Written when it starts; whether it lives is not said here (see the store's leases).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Controller {
    /// The id is the address and port that agents dial.
    pub meta: Meta<Controller>,
    /// Which process serves there: another one after every start.
    pub process: String,
}

impl Kind for Controller {
    const NAME: &'static str = "controller";
    crate::meta_accessors!();

    /// Index: `process`.
    fn derive(&self, d: &mut Derived) {
        d.index("process", &self.process);
    }
}
