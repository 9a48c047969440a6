//! A group of users, and who is in it. Roles given to a group are its members' roles.

use serde::{Deserialize, Serialize};

use super::{Extra, Project, User};
use crate::{Derived, Id, Kind, Meta};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    pub meta: Meta<Group>,
    pub domain: Id<Project>,
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub extra: Extra,
}

impl Kind for Group {
    const NAME: &'static str = "group";
    crate::meta_accessors!();

    fn derive(&self, d: &mut Derived) {
        d.claim("group-name", format!("{}/{}", self.domain, self.meta.name));
        d.index("domain", &self.domain);
        d.refers(&self.domain);
    }
}

/// One user in one group; goes with either.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Membership {
    pub meta: Meta<Membership>,
    pub user: Id<User>,
    pub group: Id<Group>,
}

impl Membership {
    pub fn new(user: &Id<User>, group: &Id<Group>) -> Self {
        Membership { meta: Meta::new(Self::id(user, group)), user: user.clone(), group: group.clone() }
    }
    pub fn id(user: &Id<User>, group: &Id<Group>) -> Id<Membership> {
        Id::new(format!("{group}/{user}"))
    }
}

impl Kind for Membership {
    const NAME: &'static str = "membership";
    crate::meta_accessors!();

    fn derive(&self, d: &mut Derived) {
        d.index("user", &self.user);
        d.index("group", &self.group);
        d.refers(&self.user);
        d.refers(&self.group);
    }
}
