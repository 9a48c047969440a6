//! Limits of a project in one service. Only what was set is stored; the rest is the service's default.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::identity::Project;
use crate::{Id, Kind, Meta};

/// The id is `service/project`; `service/default` changes the defaults of everybody.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Quota {
    pub meta: Meta<Quota>,
    /// Resource -> limit; -1 is none.
    pub limits: BTreeMap<String, i64>,
}

impl Quota {
    pub fn id(service: &str, project: &Id<Project>) -> Id<Quota> {
        Id::new(format!("{service}/{project}"))
    }
}

impl Kind for Quota {
    const NAME: &'static str = "quota";
    crate::meta_accessors!();
}
