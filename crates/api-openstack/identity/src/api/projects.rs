//! /v3/projects: projects and their place in the hierarchy.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Path, State};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use unkai_model::Id;
use unkai_model::identity::Project;
use unkai_openstack::{Cloud, Routes};
use unkai_store::{Tx, View};

use super::tags;
use crate::cascade;
use crate::tokens::grants;
use crate::web::body::{Extra, Field, check_options, immutable_refusal, may, must};
use crate::web::{Answer, Is, Json, Params, Part, Refusal, Who, created, no_content, ok, shown};

pub fn routes() -> Routes {
    Routes::new()
        .get("/v3/projects", list)
        .post("/v3/projects", create)
        .get("/v3/projects/{project_id}", get)
        .patch("/v3/projects/{project_id}", update)
        .delete("/v3/projects/{project_id}", delete)
}

const FILTERS: &[&str] = &["domain_id", "enabled", "name", "parent_id", "is_domain"];
const OPTIONS: &[&str] = &["immutable"];
const COMMON: [Field; 7] = [
    may("name", Is::Name(64)),
    may("description", Is::NullText),
    may("domain_id", Is::NullId),
    may("parent_id", Is::NullId),
    may("enabled", Is::Bool),
    may("is_domain", Is::Bool),
    may("tags", Is::List),
];
const CREATE: &[Field] =
    &[must("name", Is::Name(64)), COMMON[1], COMMON[2], COMMON[3], COMMON[4], COMMON[5], COMMON[6], may("options", Is::Object)];
const UPDATE: &[Field] = &[COMMON[0], COMMON[1], COMMON[2], COMMON[3], COMMON[4], COMMON[5], COMMON[6], may("options", Is::Object)];

pub fn render(cloud: &Cloud, project: &Project) -> Value {
    let known = json!({
        "id": project.meta.id,
        "name": project.meta.name,
        "description": project.description,
        "enabled": project.enabled,
        "domain_id": project.domain,
        "parent_id": project.parent,
        "is_domain": project.is_domain,
        "tags": project.tags,
        "options": project.options,
        "links": {"self": format!("{}/v3/projects/{}", crate::base(cloud), project.meta.id)},
    });
    shown(&project.extra, known)
}

pub fn missing(id: &Id<Project>) -> Refusal {
    Refusal::not_found("project", id)
}

/// Who may look at a project: readers of its domain, and whoever holds a token for it.
pub fn may_see(who: &Who, id: &Id<Project>, project: Option<&Project>) -> bool {
    who.reads(project.and_then(|project| project.domain.as_ref())) || who.project() == Some(id)
}

async fn list(State(cloud): State<Cloud>, who: Who, params: Params) -> Answer {
    let domain = who.domain().cloned();
    who.allow("list_projects", who.reads_all() || who.reads_domain(domain.as_ref()))?;
    let view = cloud.store.read().await?;
    let wants_domains = params.has("is_domain");
    let seen = |project: &Project| {
        (wants_domains || !project.is_domain)
            && domain.as_ref().is_none_or(|domain| project.domain.as_ref() == Some(domain))
            && tags::matches(&params, &project.tags)
    };
    let items = view.all::<Project>().filter(|project| seen(project)).map(|project| render(&cloud, &project)).collect();
    Ok(ok(&params.collection(&crate::base(&cloud), "/v3/projects", "projects", items, FILTERS)))
}

async fn create(State(cloud): State<Cloud>, who: Who, body: Json) -> Answer {
    let part = body.part("project", CREATE, Extra::Allowed)?;
    let domain = domain_for(&cloud.store.read().await?, &who, &part)?;
    who.allow("create_project", who.manages(domain.as_ref()))?;
    check_options(&part, OPTIONS)?;
    let tags = tags::parse(part.get("tags"))?;
    let project = cloud.store.transact(move |tx| insert(tx, &part, domain.as_ref(), &tags)).await?;
    Ok(created(&json!({"project": render(&cloud, &project)})))
}

/// The domain of a new project: as said, or its parent's, or the token's. None for a new domain.
fn domain_for(view: &View, who: &Who, part: &Part) -> Answer<Option<Id<Project>>> {
    if part.flag("is_domain") == Some(true) {
        return match part.text("domain_id").or(part.text("parent_id")) {
            None => Ok(None),
            Some(_) => Err(Refusal::invalid("only root projects are allowed to act as domains.")),
        };
    }
    if let Some(said) = part.text("domain_id") {
        return Ok(Some(said.into()));
    }
    if let Some(parent) = part.text("parent_id") {
        let parent = view.get(&Id::<Project>::from(parent)).ok_or_else(|| Refusal::not_found("project", parent))?;
        return Ok(Some(parent.managing_domain().clone()));
    }
    Ok(Some(who.domain().cloned().unwrap_or_else(|| Id::from(Project::DEFAULT_DOMAIN))))
}

fn insert(tx: &mut Tx, part: &Part, domain: Option<&Id<Project>>, tags: &BTreeSet<String>) -> Answer<Arc<Project>> {
    let id = tx.new_hex_id::<Project>();
    let name = part.text("name").unwrap_or_default().trim();
    let mut project = match domain {
        None => Project::domain(id, name),
        Some(domain) => {
            let parent = part.text("parent_id").map_or_else(|| domain.clone(), Id::from);
            place(&tx.view(), domain, &parent, part.flag("enabled") != Some(false))?;
            Project::new(id, name, domain, &parent)
        }
    };
    project.description = part.text("description").unwrap_or_default().into();
    project.enabled = part.flag("enabled").unwrap_or(true);
    project.tags = tags.clone();
    part.merge_options(&mut project.options);
    project.extra.extend(part.rest());
    Ok(tx.insert(project)?)
}

/// May a project stand below `parent`?
fn place(view: &View, domain: &Id<Project>, parent: &Id<Project>, enabled: bool) -> Answer<()> {
    if !view.get(domain).is_some_and(|domain| domain.is_domain) {
        return Err(Refusal::not_found("domain", domain));
    }
    let parent = view.get(parent).ok_or_else(|| missing(parent))?;
    if parent.managing_domain() != domain {
        return Err(Refusal::invalid(format!(
            "Cannot create project, since it specifies its domain_id {domain}, but specifies a parent in a different domain."
        )));
    }
    let above = grants::ancestors(view, &parent);
    if above.len() + usize::from(!parent.is_domain) + 2 > Project::MAX_DEPTH {
        return Err(Refusal::denied(format!("Max hierarchy depth reached for {} branch.", parent.meta.id)));
    }
    if enabled && (!parent.enabled || above.iter().any(|project| !project.enabled)) {
        return Err(Refusal::denied("Cannot enable a project since it has disabled parents."));
    }
    Ok(())
}

async fn get(State(cloud): State<Cloud>, who: Who, Path(id): Path<String>, params: Params) -> Answer {
    let (view, id) = (cloud.store.read().await?, Id::from(id));
    let project = view.get(&id);
    who.allow("get_project", may_see(&who, &id, project.as_deref()))?;
    let project = project.ok_or_else(|| missing(&id))?;
    let mut body = render(&cloud, &project);
    add_family(&cloud, &view, &who, &project, &params, &mut body)?;
    Ok(ok(&json!({"project": body})))
}

/// `parents` and `subtree`, as the query asks.
fn add_family(cloud: &Cloud, view: &View, who: &Who, project: &Project, params: &Params, body: &mut Value) -> Answer<()> {
    for (list, ids) in [("parents_as_list", "parents_as_ids"), ("subtree_as_list", "subtree_as_ids")] {
        if params.has(list) && params.has(ids) {
            return Err(Refusal::invalid(format!("Cannot use {list} and {ids} query params at the same time.")));
        }
    }
    let mine: BTreeSet<Id<Project>> =
        grants::projects_of(view, &who.user.meta.id).into_iter().map(|project| project.meta.id.clone()).collect();
    let as_list = |projects: Vec<Arc<Project>>| -> Value {
        let seen = projects.into_iter().filter(|project| mine.contains(&project.meta.id));
        seen.map(|project| json!({"project": render(cloud, &project)})).collect()
    };
    if params.has("parents_as_list") {
        body["parents"] = as_list(grants::ancestors(view, project));
    } else if params.has("parents_as_ids") {
        let above = grants::ancestors(view, project).into_iter().map(|project| project.meta.id.clone());
        let chain: Vec<Id<Project>> = above.chain(project.domain.clone()).collect();
        let nested = |inner: Value, id: &Id<Project>| Value::Object(Map::from_iter([(id.to_string(), inner)]));
        body["parents"] = chain.iter().rev().fold(Value::Null, nested);
    }
    if params.has("subtree_as_list") {
        body["subtree"] = as_list(grants::subtree(view, &project.meta.id));
    } else if params.has("subtree_as_ids") {
        body["subtree"] = ids_below(view, &project.meta.id);
    }
    Ok(())
}

fn ids_below(view: &View, id: &Id<Project>) -> Value {
    let children = view.by_index::<Project>("parent", id.as_str());
    let below: Map<String, Value> = children.map(|child| (child.meta.id.to_string(), ids_below(view, &child.meta.id))).collect();
    if below.is_empty() { Value::Null } else { Value::Object(below) }
}

async fn update(State(cloud): State<Cloud>, who: Who, Path(id): Path<String>, body: Json) -> Answer {
    let (view, id) = (cloud.store.read().await?, Id::<Project>::from(id));
    let project = view.get(&id);
    who.allow("update_project", who.manages(project.as_ref().and_then(|project| project.domain.as_ref())))?;
    project.ok_or_else(|| missing(&id))?;
    let part = body.part("project", UPDATE, Extra::Allowed)?;
    part.is_about("project", id.as_str())?;
    check_options(&part, OPTIONS)?;
    let tags = part.has("tags").then(|| tags::parse(part.get("tags"))).transpose()?;
    let project = cloud.store.transact(move |tx| change(tx, &id, &part, tags.as_ref())).await?;
    Ok(ok(&json!({"project": render(&cloud, &project)})))
}

/// The same for projects and domains.
pub fn change(tx: &mut Tx, id: &Id<Project>, part: &Part, tags: Option<&BTreeSet<String>>) -> Answer<Arc<Project>> {
    let (view, now) = (tx.view(), tx.now());
    tx.update(id, |project: &mut Project| {
        part.respects(project.is_immutable(), if project.is_domain { "domain" } else { "project" }, id.as_str())?;
        keeps_place(project, part)?;
        if let Some(enabled) = part.flag("enabled") {
            enable(&view, project, enabled, now)?;
        }
        if let Some(name) = part.text("name") {
            project.meta.name = name.trim().to_owned();
        }
        if part.has("description") {
            project.description = part.text("description").unwrap_or_default().into();
        }
        if let Some(tags) = tags {
            project.tags = tags.clone();
        }
        part.merge_options(&mut project.options);
        project.extra.extend(part.rest());
        Ok(())
    })
}

fn keeps_place(project: &Project, part: &Part) -> Answer<()> {
    let moved = |name: &str, is: Option<&Id<Project>>| part.has(name) && part.text(name) != is.map(Id::as_str);
    if moved("domain_id", project.domain.as_ref()) {
        return Err(Refusal::invalid("Cannot change Domain ID"));
    }
    if moved("parent_id", project.parent.as_ref()) {
        return Err(Refusal::denied("Update of `parent_id` is not allowed."));
    }
    if part.flag("is_domain").is_some_and(|is| is != project.is_domain) {
        return Err(Refusal::invalid("Update of `is_domain` is not allowed."));
    }
    Ok(())
}

fn enable(view: &View, project: &mut Project, enabled: bool, now: Timestamp) -> Answer<()> {
    if enabled == project.enabled {
        return Ok(());
    }
    let id = &project.meta.id;
    if enabled && grants::ancestors(view, project).iter().any(|above| !above.enabled) {
        return Err(Refusal::denied(format!("Cannot enable project {id} since it has disabled parents")));
    }
    if !enabled {
        if !project.is_domain && grants::subtree(view, id).iter().any(|below| below.enabled) {
            return Err(Refusal::denied(format!("Cannot disable project {id} since its subtree contains enabled projects.")));
        }
        project.tokens_from = now;
    }
    project.enabled = enabled;
    Ok(())
}

async fn delete(State(cloud): State<Cloud>, who: Who, Path(id): Path<String>) -> Answer {
    let (view, id) = (cloud.store.read().await?, Id::<Project>::from(id));
    let project = view.get(&id);
    who.allow("delete_project", who.manages(project.as_ref().and_then(|project| project.domain.as_ref())))?;
    project.ok_or_else(|| missing(&id))?;
    cloud.store.transact(move |tx| remove(tx, &id)).await?;
    Ok(no_content())
}

fn remove(tx: &mut Tx, id: &Id<Project>) -> Answer<()> {
    let project = tx.get(id).ok_or_else(|| missing(id))?;
    if project.is_immutable() {
        return Err(immutable_refusal("delete", "project", id.as_str()));
    }
    if project.is_domain {
        return super::domains::remove(tx, id);
    }
    if tx.by_index::<Project>("parent", id.as_str()).next().is_some() {
        let text = format!(
            "Cannot delete the project {id} since it is not a leaf in the hierarchy. Use the cascade option if you want to delete a whole subtree."
        );
        return Err(Refusal::denied(text));
    }
    Ok(cascade::project(tx, id)?)
}
