//! Which roles somebody has somewhere, computed from the documents: direct, through groups, inherited from above, implied.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use unkai_model::Id;
use unkai_model::identity::{Actor, Assignment, Group, Membership, Project, Role, Scope, User};
use unkai_store::View;

/// The user itself and the groups it is in.
pub fn actors(view: &View, user: &Id<User>) -> Vec<Actor> {
    let groups = view.by_index::<Membership>("user", user.as_str()).map(|membership| Actor::Group(membership.group.clone()));
    std::iter::once(Actor::User(user.clone())).chain(groups).collect()
}

pub fn groups_of(view: &View, user: &Id<User>) -> Vec<Id<Group>> {
    view.by_index::<Membership>("user", user.as_str()).map(|membership| membership.group.clone()).collect()
}

/// The projects above this one, nearest first, without its domain.
pub fn ancestors(view: &View, project: &Project) -> Vec<Arc<Project>> {
    let mut above = Vec::new();
    let mut next = project.parent.clone();
    while let Some(parent) = next.and_then(|id| view.get(&id)) {
        // A guard against a circle, which no transaction of ours makes.
        if parent.is_domain || above.len() > 64 {
            break;
        }
        next = parent.parent.clone();
        above.push(parent);
    }
    above
}

/// All projects below this one, parents before children.
pub fn subtree(view: &View, project: &Id<Project>) -> Vec<Arc<Project>> {
    let mut found: Vec<Arc<Project>> = view.by_index("parent", project.as_str()).collect();
    let mut at = 0;
    while at < found.len() {
        let children: Vec<Arc<Project>> = view.by_index("parent", found[at].meta.id.as_str()).collect();
        found.extend(children);
        at += 1;
    }
    found
}

/// The places whose grants count for `scope`, each with whether only inherited ones do.
fn sources(view: &View, scope: &Scope) -> Vec<(Scope, bool)> {
    let mut all = vec![(scope.clone(), false)];
    if let Scope::Project(id) = scope
        && let Some(project) = view.get(id)
    {
        all.extend(ancestors(view, &project).into_iter().map(|above| (Scope::Project(above.meta.id.clone()), true)));
        all.extend(project.domain.iter().map(|domain| (Scope::Domain(domain.clone()), true)));
    }
    all
}

/// The grants that give `actor` something on `scope`, before implication.
pub fn grants_on(view: &View, actor: &Actor, scope: &Scope) -> Vec<Arc<Assignment>> {
    let mut found = Vec::new();
    for (source, inherited) in sources(view, scope) {
        let key = format!("{}/{}", actor.key(), source.key());
        found.extend(view.by_index::<Assignment>("actor-scope", &key).filter(|grant| grant.inherited == inherited));
    }
    found
}

/// A role and all that it implies, in the order found.
pub fn implied(view: &View, roles: impl IntoIterator<Item = Id<Role>>) -> BTreeSet<Id<Role>> {
    let mut todo: Vec<Id<Role>> = roles.into_iter().collect();
    let mut all = BTreeSet::new();
    while let Some(id) = todo.pop() {
        if let Some(role) = view.get(&id)
            && all.insert(id)
        {
            todo.extend(role.implies.iter().cloned());
        }
    }
    all
}

/// The effective roles of a user on a scope, as a token carries them: roles of domains are left out, what they imply is not.
pub fn effective(view: &View, user: &Id<User>, scope: &Scope) -> BTreeSet<Id<Role>> {
    let granted = actors(view, user).into_iter().flat_map(|actor| grants_on(view, &actor, scope));
    without_domain_roles(view, implied(view, granted.map(|grant| grant.role.clone())))
}

pub fn without_domain_roles(view: &View, mut roles: BTreeSet<Id<Role>>) -> BTreeSet<Id<Role>> {
    roles.retain(|id| view.get(id).is_some_and(|role| role.domain.is_none()));
    roles
}

/// Every project on which the user has some role, by id.
pub fn projects_of(view: &View, user: &Id<User>) -> Vec<Arc<Project>> {
    let mut found: BTreeMap<Id<Project>, Arc<Project>> = BTreeMap::new();
    for actor in actors(view, user) {
        for grant in view.by_index::<Assignment>("actor", &actor.key()) {
            let projects: Vec<Arc<Project>> = match (&grant.scope, grant.inherited) {
                (Scope::Project(id), false) => view.get(id).into_iter().collect(),
                (Scope::Project(id), true) => subtree(view, id),
                (Scope::Domain(id), true) => view.by_index("domain", id.as_str()).collect(),
                (Scope::Domain(_), false) | (Scope::System, _) => Vec::new(),
            };
            found.extend(projects.into_iter().map(|project| (project.meta.id.clone(), project)));
        }
    }
    found.into_values().collect()
}

/// Every domain on which the user has some role itself.
pub fn domains_of(view: &View, user: &Id<User>) -> Vec<Arc<Project>> {
    let mut found: BTreeMap<Id<Project>, Arc<Project>> = BTreeMap::new();
    for actor in actors(view, user) {
        for grant in view.by_index::<Assignment>("actor", &actor.key()) {
            if let (Scope::Domain(id), false) = (&grant.scope, grant.inherited)
                && let Some(domain) = view.get(id)
            {
                found.insert(id.clone(), domain);
            }
        }
    }
    found.into_values().collect()
}
