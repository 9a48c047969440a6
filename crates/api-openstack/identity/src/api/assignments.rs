//! /v3/role_assignments: who has which role where, as given or as it takes effect.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use serde_json::{Value, json};
use unkai_model::Id;
use unkai_model::identity::{Actor, Assignment, Group, Membership, Project, Role, Scope, User};
use unkai_openstack::{Cloud, Routes};
use unkai_store::View;

use super::grants::{address, links};
use crate::tokens::grants;
use crate::web::{Answer, Params, Refusal, Who, ok};

pub fn routes() -> Routes {
    Routes::new().get("/v3/role_assignments", list)
}

/// What the query asks for.
#[derive(Debug, Default)]
struct Filter {
    user: Option<Id<User>>,
    group: Option<Id<Group>>,
    role: Option<Id<Role>>,
    /// Any of these; none: everywhere.
    scopes: Option<Vec<Scope>>,
    inherited: bool,
    effective: bool,
}

/// One line of the answer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    actor: Actor,
    scope: Scope,
    role: Id<Role>,
    inherited: bool,
    /// The group that the user has it from.
    through: Option<Id<Group>>,
    /// The role that implies this one.
    prior: Option<Id<Role>>,
    given: String,
}

async fn list(State(cloud): State<Cloud>, who: Who, params: Params) -> Answer {
    let view = cloud.store.read().await?;
    let filter = Filter::parse(&view, &params)?;
    let action = if params.flag("include_subtree") { "list_role_assignments_for_tree" } else { "list_role_assignments" };
    let own = who.domain().cloned();
    who.allow(action, who.reads_all() || who.reads_domain(own.as_ref()))?;
    let mut lines = lines(&cloud, &view, &filter);
    if !who.reads_all() {
        lines.retain(|line| domain_of(&view, &line.scope).is_some_and(|domain| Some(&domain) == own.as_ref()));
    }
    let names = params.flag("include_names");
    let items: Vec<Value> = lines.iter().map(|line| render(&cloud, &view, line, names)).collect();
    Ok(ok(&json!({"role_assignments": items, "links": links(&cloud, "/v3/role_assignments")})))
}

fn domain_of(view: &View, scope: &Scope) -> Option<Id<Project>> {
    match scope {
        Scope::Project(id) | Scope::Domain(id) => view.get(id).map(|project| project.managing_domain().clone()),
        Scope::System => None,
    }
}

impl Filter {
    fn parse(view: &View, params: &Params) -> Answer<Self> {
        let clash = |a: &str, b: &str| Refusal::invalid(format!("Specify {a} or {b}, not both"));
        let (project, domain) = (params.get("scope.project.id"), params.get("scope.domain.id"));
        let system = params.flag("scope.system");
        if params.has("user.id") && params.has("group.id") {
            return Err(clash("a user", "group"));
        }
        if usize::from(project.is_some()) + usize::from(domain.is_some()) + usize::from(system) > 1 {
            return Err(clash("a domain", "project or system"));
        }
        let effective = params.flag("effective");
        if effective && params.has("group.id") {
            return Err(Refusal::invalid("Combining effective and group filter will always result in an empty list."));
        }
        let inherited = params.has("scope.OS-INHERIT:inherited_to");
        if effective && inherited && domain.is_some() {
            return Err(Refusal::invalid("Combining effective, domain and inherited filters will always result in an empty list."));
        }
        let subtree = params.flag("include_subtree");
        if subtree && project.is_none() {
            return Err(Refusal::invalid("scope.project.id must be specified if include_subtree is also specified"));
        }
        let scopes = match (project, domain) {
            (Some(id), _) => Some(project_scopes(view, id.into(), subtree)),
            (_, Some(id)) => Some(vec![Scope::Domain(id.into())]),
            _ => system.then(|| vec![Scope::System]),
        };
        let (user, group, role) = ("user.id", "group.id", "role.id");
        Ok(Filter {
            user: params.get(user).map(Id::from),
            group: params.get(group).map(Id::from),
            role: params.get(role).map(Id::from),
            scopes,
            inherited,
            effective,
        })
    }

    fn takes(&self, line: &Line) -> bool {
        let actor = match &line.actor {
            Actor::User(id) => self.group.is_none() && self.user.as_ref().is_none_or(|user| user == id),
            Actor::Group(id) => self.user.is_none() && self.group.as_ref().is_none_or(|group| group == id),
        };
        actor
            && self.role.as_ref().is_none_or(|role| *role == line.role)
            && self.scopes.as_ref().is_none_or(|scopes| scopes.contains(&line.scope))
            && (!self.inherited || line.inherited)
    }
}

fn project_scopes(view: &View, id: Id<Project>, subtree: bool) -> Vec<Scope> {
    let below = if subtree { grants::subtree(view, &id) } else { Vec::new() };
    std::iter::once(id).chain(below.into_iter().map(|project| project.meta.id.clone())).map(Scope::Project).collect()
}

fn lines(cloud: &Cloud, view: &View, filter: &Filter) -> BTreeSet<Line> {
    let given: Vec<Arc<Assignment>> = match &filter.user {
        // Everything that can concern the user: its own grants and those of its groups.
        Some(user) => {
            let actors = grants::actors(view, user);
            actors.into_iter().flat_map(|actor| view.by_index::<Assignment>("actor", &actor.key()).collect::<Vec<_>>()).collect()
        }
        None => view.all().collect(),
    };
    let all = given.iter().flat_map(|grant| match filter.effective {
        true => in_effect(cloud, view, grant),
        false => vec![as_given(cloud, grant)],
    });
    all.filter(|line| filter.takes(line)).collect()
}

fn as_given(cloud: &Cloud, grant: &Assignment) -> Line {
    let Assignment { actor, scope, role, inherited, .. } = grant.clone();
    Line { actor, scope, role, inherited, through: None, prior: None, given: address(cloud, grant) }
}

/// One grant as all that it brings about: for every member, on every project below, with every implied role.
fn in_effect(cloud: &Cloud, view: &View, grant: &Assignment) -> Vec<Line> {
    let actors: Vec<(Actor, Option<Id<Group>>)> = match &grant.actor {
        Actor::User(_) => vec![(grant.actor.clone(), None)],
        Actor::Group(group) => {
            let members = view.by_index::<Membership>("group", group.as_str());
            members.map(|member| (Actor::User(member.user.clone()), Some(group.clone()))).collect()
        }
    };
    let below = |projects: Vec<Arc<Project>>| projects.into_iter().map(|project| Scope::Project(project.meta.id.clone())).collect();
    let scopes: Vec<Scope> = match (&grant.scope, grant.inherited) {
        (Scope::Project(id), true) => below(grants::subtree(view, id)),
        (Scope::Domain(id), true) => below(view.by_index("domain", id.as_str()).collect()),
        (scope, _) => vec![scope.clone()],
    };
    let given = as_given(cloud, grant);
    let mut lines = Vec::new();
    for (actor, through) in &actors {
        for scope in &scopes {
            for role in grants::without_domain_roles(view, grants::implied(view, [grant.role.clone()])) {
                let prior = (role != grant.role).then(|| grant.role.clone());
                let (actor, scope, through) = (actor.clone(), scope.clone(), through.clone());
                lines.push(Line { actor, scope, through, role, prior, ..given.clone() });
            }
        }
    }
    lines
}

fn render(cloud: &Cloud, view: &View, line: &Line, names: bool) -> Value {
    let domain = |id: &Id<Project>| json!({"id": id, "name": view.get(id).map(|domain| domain.meta.name.clone())});
    let mut role = json!({"id": line.role});
    if let Some(found) = view.get(&line.role).filter(|_| names) {
        role["name"] = found.meta.name.as_str().into();
        if let Some(id) = &found.domain {
            role["domain"] = domain(id);
        }
    }
    let mut body = json!({"role": role, "scope": {}, "links": {"assignment": line.given}});
    match &line.actor {
        Actor::User(id) => {
            body["user"] = json!({"id": id});
            if let Some(user) = view.get(id).filter(|_| names) {
                body["user"]["name"] = user.meta.name.as_str().into();
                body["user"]["domain"] = domain(&user.domain);
            }
        }
        Actor::Group(id) => {
            body["group"] = json!({"id": id});
            if let Some(group) = view.get(id).filter(|_| names) {
                body["group"]["name"] = group.meta.name.as_str().into();
                body["group"]["domain"] = domain(&group.domain);
            }
        }
    }
    match &line.scope {
        Scope::System => body["scope"]["system"] = json!({"all": true}),
        Scope::Domain(id) => body["scope"]["domain"] = if names { domain(id) } else { json!({"id": id}) },
        Scope::Project(id) => {
            body["scope"]["project"] = json!({"id": id});
            if let Some(project) = view.get(id).filter(|_| names) {
                body["scope"]["project"]["name"] = project.meta.name.as_str().into();
                body["scope"]["project"]["domain"] = domain(project.managing_domain());
            }
        }
    }
    if line.inherited {
        body["scope"]["OS-INHERIT:inherited_to"] = "projects".into();
    }
    if let (Some(group), Actor::User(user)) = (&line.through, &line.actor) {
        body["links"]["membership"] = format!("{}/v3/groups/{group}/users/{user}", crate::base(cloud)).into();
    }
    if let Some(prior) = &line.prior {
        body["links"]["prior_role"] = format!("{}/v3/roles/{prior}/implies/{}", crate::base(cloud), line.role).into();
    }
    body
}
