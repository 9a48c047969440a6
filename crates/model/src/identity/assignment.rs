//! A role given to somebody somewhere.
//!
//! An inherited one says nothing about its own target: it holds on every project below it.

use serde::{Deserialize, Serialize};

use super::{Group, Project, Role, User};
use crate::{Derived, Id, Kind, Meta};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    pub meta: Meta<Assignment>,
    pub actor: Actor,
    pub scope: Scope,
    pub role: Id<Role>,
    #[serde(default)]
    pub inherited: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    User(Id<User>),
    Group(Id<Group>),
}

/// Where a role holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    Project(Id<Project>),
    Domain(Id<Project>),
    /// The cloud itself.
    System,
}

impl Actor {
    pub fn key(&self) -> String {
        match self {
            Actor::User(id) => format!("u:{id}"),
            Actor::Group(id) => format!("g:{id}"),
        }
    }
    pub fn id(&self) -> &str {
        match self {
            Actor::User(id) => id.as_str(),
            Actor::Group(id) => id.as_str(),
        }
    }
}

impl Scope {
    pub fn key(&self) -> String {
        match self {
            Scope::Project(id) => format!("p:{id}"),
            Scope::Domain(id) => format!("d:{id}"),
            Scope::System => "s".into(),
        }
    }
    /// The id as messages name it.
    pub fn id(&self) -> &str {
        match self {
            Scope::Project(id) | Scope::Domain(id) => id.as_str(),
            Scope::System => "system",
        }
    }
}

impl Assignment {
    pub fn new(actor: Actor, scope: Scope, role: Id<Role>, inherited: bool) -> Self {
        let id = Self::id(&actor, &scope, &role, inherited);
        Assignment { meta: Meta::new(id), actor, scope, role, inherited }
    }

    /// The same grant has the same id, so giving a role twice is giving it once.
    pub fn id(actor: &Actor, scope: &Scope, role: &Id<Role>, inherited: bool) -> Id<Assignment> {
        let mark = if inherited { "/inherited" } else { "" };
        Id::new(format!("{}/{}/{role}{mark}", actor.key(), scope.key()))
    }
}

impl Kind for Assignment {
    const NAME: &'static str = "role_assignment";
    const NOUN: &'static str = "role assignment";
    crate::meta_accessors!();

    fn derive(&self, d: &mut Derived) {
        d.index("actor", self.actor.key());
        d.index("scope", self.scope.key());
        d.index("role", &self.role);
        d.index("actor-scope", format!("{}/{}", self.actor.key(), self.scope.key()));
        match &self.actor {
            Actor::User(id) => d.refers(id),
            Actor::Group(id) => d.refers(id),
        }
        if let Scope::Project(id) | Scope::Domain(id) = &self.scope {
            d.refers(id);
        }
        d.refers(&self.role);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_grant_has_one_id_and_names_all_it_needs() {
        let grant = |inherited| Assignment::new(Actor::User("u".into()), Scope::Domain("d".into()), "r".into(), inherited);
        assert_eq!(grant(false).meta.id, grant(false).meta.id);
        assert_ne!(grant(false).meta.id, grant(true).meta.id);
        let mut derived = Derived::default();
        grant(false).derive(&mut derived);
        let named: Vec<&str> = derived.references.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(named, ["user", "project", "role"]);
    }

    #[test]
    fn a_user_and_a_group_of_one_id_are_two() {
        assert_ne!(Actor::User("x".into()).key(), Actor::Group("x".into()).key());
        assert_ne!(Scope::Project("x".into()).key(), Scope::Domain("x".into()).key());
    }
}
