//! A project: the owner of resources. Stub of names only until identity's own fields are read.

use serde::{Deserialize, Serialize};

use crate::{Kind, Meta};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Project {
    pub meta: Meta<Project>,
}

impl Kind for Project {
    const NAME: &'static str = "project";
    crate::meta_accessors!();
}
