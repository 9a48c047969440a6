//! The type of a project's volumes when nobody says one.

use serde::{Deserialize, Serialize};

use super::VolumeType;
use crate::{Derived, Id, Kind, Meta};

/// Its id is the project's. Projects without one have the cloud's default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DefaultType {
    pub meta: Meta<DefaultType>,
    pub volume_type: Id<VolumeType>,
}

impl Kind for DefaultType {
    const NAME: &'static str = "default_volume_type";
    const NOUN: &'static str = "default type";
    crate::meta_accessors!();

    fn derive(&self, d: &mut Derived) {
        d.refers(&self.volume_type);
    }
}
