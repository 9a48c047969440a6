//! Which endpoints a project's catalog shows, when it is not all of them.

use serde::{Deserialize, Serialize};

use super::{Endpoint, Extra, Project};
use crate::{Derived, Id, Kind, Meta};

/// Endpoints chosen by their attributes: `service_id`, `region_id`, `interface`, `enabled`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndpointGroup {
    pub meta: Meta<EndpointGroup>,
    #[serde(default)]
    pub description: Option<String>,
    pub filters: Extra,
}

impl Kind for EndpointGroup {
    const NAME: &'static str = "endpoint_group";
    const NOUN: &'static str = "endpoint group";
    crate::meta_accessors!();
}

/// One endpoint, or one endpoint group, shown to one project. A project without any sees everything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndpointAssociation {
    pub meta: Meta<EndpointAssociation>,
    pub to: Id<Project>,
    pub what: Filtered,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filtered {
    Endpoint(Id<Endpoint>),
    Group(Id<EndpointGroup>),
}

impl Filtered {
    pub fn key(&self) -> String {
        match self {
            Filtered::Endpoint(id) => format!("e:{id}"),
            Filtered::Group(id) => format!("g:{id}"),
        }
    }
}

impl EndpointAssociation {
    pub fn new(to: &Id<Project>, what: Filtered) -> Self {
        EndpointAssociation { meta: Meta::new(Self::id(to, &what)), to: to.clone(), what }
    }
    pub fn id(to: &Id<Project>, what: &Filtered) -> Id<EndpointAssociation> {
        Id::new(format!("{to}/{}", what.key()))
    }
}

impl Kind for EndpointAssociation {
    const NAME: &'static str = "endpoint_association";
    const NOUN: &'static str = "endpoint association";
    crate::meta_accessors!();

    fn derive(&self, d: &mut Derived) {
        d.index("project", &self.to);
        d.index("what", self.what.key());
        d.refers(&self.to);
        match &self.what {
            Filtered::Endpoint(id) => d.refers(id),
            Filtered::Group(id) => d.refers(id),
        }
    }
}
