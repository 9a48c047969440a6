//! Roles given and taken: on projects, domains and the system, to users and groups, for the place itself or inherited below it.
//!
//! All forms of the path lead to the same five questions, so there is one handler for each question and a list of paths.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{OriginalUri, Path, State};
use http::StatusCode;
use serde_json::{Value, json};
use unkai_model::Id;
use unkai_model::identity::{Actor, Assignment, Project, Role, Scope};
use unkai_openstack::{Cloud, Routes};
use unkai_store::{Tx, View};

use super::{domains, groups, projects, roles, users};
use crate::cascade;
use crate::web::{Answer, Params, Refusal, Who, no_content, ok};

const INHERITED: &str = "inherited_to_projects";

pub fn routes() -> Routes {
    let mut routes = Routes::new();
    for actor in ["users/{user_id}", "groups/{group_id}"] {
        for place in ["projects/{project_id}", "domains/{domain_id}"] {
            let inherited = format!("/v3/OS-INHERIT/{place}/{actor}/roles");
            routes = one(many(routes, &format!("/v3/{place}/{actor}/roles")), &format!("/v3/{place}/{actor}/roles/{{role_id}}"));
            routes = one(many(routes, &format!("{inherited}/{INHERITED}")), &format!("{inherited}/{{role_id}}/{INHERITED}"));
        }
        let system = format!("/v3/system/{actor}/roles");
        routes = one(many(routes, &system), &format!("{system}/{{role_id}}"));
    }
    routes
}

fn many(routes: Routes, path: &str) -> Routes {
    routes.get(path, list)
}

fn one(routes: Routes, path: &str) -> Routes {
    routes.get(path, check).put(path, give).delete(path, take)
}

/// What a path names.
#[derive(Debug, Clone)]
struct Grant {
    actor: Actor,
    scope: Scope,
    role: Option<Id<Role>>,
    inherited: bool,
}

type Names = Path<HashMap<String, String>>;

impl Grant {
    fn parse(names: &HashMap<String, String>, path: &str) -> Answer<Self> {
        let id = |name: &str| names.get(name).map(String::as_str);
        let actor = match (id("user_id"), id("group_id")) {
            (Some(user), _) => Actor::User(user.into()),
            (None, Some(group)) => Actor::Group(group.into()),
            (None, None) => return Err(Refusal::missing("user_id or group_id", "path")),
        };
        let scope = match (id("project_id"), id("domain_id")) {
            (Some(project), _) => Scope::Project(project.into()),
            (None, Some(domain)) => Scope::Domain(domain.into()),
            (None, None) => Scope::System,
        };
        Ok(Grant { actor, scope, role: id("role_id").map(Id::from), inherited: path.ends_with(INHERITED) })
    }

    fn role(&self) -> Answer<&Id<Role>> {
        self.role.as_ref().ok_or_else(|| Refusal::missing("role_id", "path"))
    }

    fn id(&self) -> Answer<Id<Assignment>> {
        Ok(Assignment::id(&self.actor, &self.scope, self.role()?, self.inherited))
    }

    fn action(&self, verb: &str) -> String {
        match (&self.scope, &self.actor) {
            (Scope::System, Actor::User(_)) => format!("{verb}_system_grant_for_user"),
            (Scope::System, Actor::Group(_)) => format!("{verb}_system_grant_for_group"),
            _ if verb == "list" => "list_grants".into(),
            _ => format!("{verb}_grant"),
        }
    }

    /// The domains of the actor and of the place, where they exist.
    fn domains(&self, view: &View) -> (Option<Id<Project>>, Option<Id<Project>>) {
        let actor = match &self.actor {
            Actor::User(id) => view.get(id).map(|user| user.domain.clone()),
            Actor::Group(id) => view.get(id).map(|group| group.domain.clone()),
        };
        let place = match &self.scope {
            Scope::Project(id) => view.get(id).map(|project| project.managing_domain().clone()),
            Scope::Domain(id) => view.get(id).map(|domain| domain.meta.id.clone()),
            Scope::System => None,
        };
        (actor, place)
    }

    fn readable(&self, who: &Who, view: &View) -> bool {
        let (actor, place) = self.domains(view);
        let role = self.role.as_ref().and_then(|id| view.get(id));
        let role_fits = role.is_none_or(|role| role.domain.is_none() || role.domain.as_ref() == who.domain());
        who.reads_all() || (role_fits && who.reads_domain(actor.as_ref()) && who.reads_domain(place.as_ref()))
    }

    fn changeable(&self, who: &Who, view: &View) -> bool {
        let (actor, place) = self.domains(view);
        let managed = self.role.as_ref().and_then(|id| view.get(id)).is_some_and(|role| roles::is_managed(&role));
        who.is_admin() || (managed && who.manages_domain(actor.as_ref()) && who.manages_domain(place.as_ref()))
    }

    /// Everything that the path names must be there, except, for `forgiving`, the actor: a grant of somebody gone can be taken.
    fn exists(&self, view: &View) -> Answer<()> {
        if let Some(id) = &self.role {
            view.get(id).ok_or_else(|| roles::missing(id))?;
        }
        match &self.actor {
            Actor::User(id) => drop(view.get(id).ok_or_else(|| users::missing(id))?),
            Actor::Group(id) => drop(view.get(id).ok_or_else(|| groups::missing(id))?),
        }
        match &self.scope {
            Scope::Project(id) => drop(view.get(id).ok_or_else(|| projects::missing(id))?),
            Scope::Domain(id) => drop(domains::find(view, id)?),
            Scope::System => {}
        }
        Ok(())
    }

    fn not_found(&self) -> Refusal {
        let role = self.role.as_ref().map_or("", Id::as_str);
        let text = format!(
            "Could not find role assignment with role: {role}, user or group: {}, project, domain, or system: {}.",
            self.actor.id(),
            self.scope.id()
        );
        Refusal::new(StatusCode::NOT_FOUND, text)
    }
}

async fn list(State(cloud): State<Cloud>, who: Who, uri: OriginalUri, Path(names): Names, params: Params) -> Answer {
    let (view, grant) = (cloud.store.read().await?, Grant::parse(&names, uri.path())?);
    who.allow(&grant.action("list"), grant.readable(&who, &view))?;
    grant.exists(&view)?;
    let key = format!("{}/{}", grant.actor.key(), grant.scope.key());
    let found = view.by_index::<Assignment>("actor-scope", &key).filter(|found| found.inherited == grant.inherited);
    let items: Vec<Value> = found.filter_map(|found| view.get(&found.role)).map(|role| roles::render(&cloud, &role)).collect();
    Ok(ok(&params.collection(&cloud.url, uri.path(), "roles", items, &[])))
}

/// Answers HEAD too.
async fn check(State(cloud): State<Cloud>, who: Who, uri: OriginalUri, Path(names): Names) -> Answer {
    let (view, grant) = (cloud.store.read().await?, Grant::parse(&names, uri.path())?);
    who.allow(&grant.action("check"), grant.readable(&who, &view))?;
    grant.exists(&view)?;
    if view.get(&grant.id()?).is_some() { Ok(no_content()) } else { Err(grant.not_found()) }
}

async fn give(State(cloud): State<Cloud>, who: Who, uri: OriginalUri, Path(names): Names) -> Answer {
    let (view, grant) = (cloud.store.read().await?, Grant::parse(&names, uri.path())?);
    who.allow(&grant.action("create"), grant.changeable(&who, &view))?;
    let insert = move |tx: &mut Tx| -> Answer<()> {
        let view = tx.view();
        grant.exists(&view)?;
        role_fits(&view, &grant)?;
        if tx.get(&grant.id()?).is_none() {
            tx.insert(Assignment::new(grant.actor.clone(), grant.scope.clone(), grant.role()?.clone(), grant.inherited))?;
        }
        Ok(())
    };
    cloud.store.transact(insert).await?;
    Ok(no_content())
}

/// A role of a domain is given only on projects of that domain, and on that domain.
fn role_fits(view: &View, grant: &Grant) -> Answer<()> {
    let role: Option<Arc<Role>> = view.get(grant.role()?);
    let Some((role, domain)) = role.and_then(|role| role.domain.clone().map(|domain| (role, domain))) else { return Ok(()) };
    let (_, place) = grant.domains(view);
    if place.as_ref() == Some(&domain) {
        return Ok(());
    }
    let text = format!("Project {} must be in the same domain as the role {} being assigned.", grant.scope.id(), role.meta.id);
    Err(Refusal::denied(text))
}

async fn take(State(cloud): State<Cloud>, who: Who, uri: OriginalUri, Path(names): Names) -> Answer {
    let (view, grant) = (cloud.store.read().await?, Grant::parse(&names, uri.path())?);
    who.allow(&grant.action("revoke"), grant.changeable(&who, &view))?;
    let remove = move |tx: &mut Tx| -> Answer<()> {
        grant.exists(&tx.view())?;
        let id = grant.id()?;
        tx.get(&id).ok_or_else(|| grant.not_found())?;
        tx.delete(&id)?;
        if let (Actor::User(user), Scope::Project(project), false) = (&grant.actor, &grant.scope, grant.inherited) {
            cascade::app_credentials(tx, user, project)?;
        }
        Ok(())
    };
    cloud.store.transact(remove).await?;
    Ok(no_content())
}

/// The address of a grant, as lists of assignments link to it.
pub fn address(cloud: &Cloud, grant: &Assignment) -> String {
    let actor = match &grant.actor {
        Actor::User(id) => format!("users/{id}"),
        Actor::Group(id) => format!("groups/{id}"),
    };
    let place = match &grant.scope {
        Scope::Project(id) => format!("projects/{id}"),
        Scope::Domain(id) => format!("domains/{id}"),
        Scope::System => "system".into(),
    };
    let (before, after) = if grant.inherited { ("OS-INHERIT/", "/inherited_to_projects") } else { ("", "") };
    format!("{}/v3/{before}{place}/{actor}/roles/{}{after}", crate::base(cloud), grant.role)
}

/// `{"self": ...}` of a list that has no paging.
pub fn links(cloud: &Cloud, path: &str) -> Value {
    json!({"self": format!("{}{path}", crate::base(cloud)), "next": null, "previous": null})
}
