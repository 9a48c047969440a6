//! A policy that lets other projects use something: a shared network is one with a policy for `*`.

use serde::{Deserialize, Serialize};

use super::{Network, SecurityGroup, SubnetPool};
use crate::identity::Project;
use crate::{Derived, Id, Kind, Meta};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RbacPolicy {
    pub meta: Meta<RbacPolicy>,
    pub object: RbacObject,
    pub action: RbacAction,
    pub target: RbacTarget,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RbacObject {
    Network(Id<Network>),
    SecurityGroup(Id<SecurityGroup>),
    SubnetPool(Id<SubnetPool>),
}

impl RbacObject {
    /// The type as the API names it.
    pub fn kind(&self) -> &'static str {
        match self {
            RbacObject::Network(_) => "network",
            RbacObject::SecurityGroup(_) => "security_group",
            RbacObject::SubnetPool(_) => "subnetpool",
        }
    }
    pub fn id(&self) -> &str {
        match self {
            RbacObject::Network(id) => id.as_str(),
            RbacObject::SecurityGroup(id) => id.as_str(),
            RbacObject::SubnetPool(id) => id.as_str(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RbacAction {
    AccessAsShared,
    AccessAsExternal,
}

impl RbacAction {
    pub fn text(self) -> &'static str {
        match self {
            RbacAction::AccessAsShared => "access_as_shared",
            RbacAction::AccessAsExternal => "access_as_external",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RbacTarget {
    Everybody,
    Project(Id<Project>),
}

impl RbacTarget {
    /// `*` or the project's id.
    pub fn text(&self) -> &str {
        match self {
            RbacTarget::Everybody => "*",
            RbacTarget::Project(id) => id.as_str(),
        }
    }
    pub fn parse(text: &str) -> Self {
        if text == "*" { RbacTarget::Everybody } else { RbacTarget::Project(text.into()) }
    }
    pub fn covers(&self, project: Option<&Id<Project>>) -> bool {
        match self {
            RbacTarget::Everybody => true,
            RbacTarget::Project(id) => project == Some(id),
        }
    }
}

impl RbacPolicy {
    /// The namespace of the claim that keeps a policy from existing twice.
    pub const SAME: &'static str = "rbac-policy";
}

impl Kind for RbacPolicy {
    const NAME: &'static str = "rbac_policy";
    const NOUN: &'static str = "RBAC policy";
    crate::meta_accessors!();

    /// Indexes: `project`, `object`, `target`. Tally: `rbac_policy` by project.
    fn derive(&self, d: &mut Derived) {
        super::port::owned(d, Self::NAME, self.meta.project.as_ref());
        d.index("object", self.object.id());
        d.index("target", self.target.text());
        d.claim(Self::SAME, format!("{}/{}/{}", self.object.id(), self.action.text(), self.target.text()));
        match &self.object {
            RbacObject::Network(id) => d.refers(id),
            RbacObject::SecurityGroup(id) => d.refers(id),
            RbacObject::SubnetPool(id) => d.refers(id),
        }
    }
}
