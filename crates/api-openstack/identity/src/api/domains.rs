//! /v3/domains.

use std::sync::Arc;

use axum::extract::{Path, State};
use serde_json::{Value, json};
use unkai_model::Id;
use unkai_model::identity::Project;
use unkai_openstack::{Cloud, Routes};
use unkai_store::Tx;

use super::{projects, tags};
use crate::cascade;
use crate::web::body::{Extra, Field, check_options, immutable_refusal, may, must};
use crate::web::{Answer, Is, Json, Params, Part, Refusal, Who, created, no_content, ok, shown};

pub fn routes() -> Routes {
    Routes::new()
        .get("/v3/domains", list)
        .post("/v3/domains", create)
        .get("/v3/domains/{domain_id}", get)
        .patch("/v3/domains/{domain_id}", update)
        .delete("/v3/domains/{domain_id}", delete)
}

const OPTIONS: &[&str] = &["immutable"];
const COMMON: [Field; 4] = [may("description", Is::NullText), may("enabled", Is::Bool), may("tags", Is::List), may("options", Is::Object)];
const CREATE: &[Field] = &[must("name", Is::Name(64)), may("explicit_domain_id", Is::Id), COMMON[0], COMMON[1], COMMON[2], COMMON[3]];
const UPDATE: &[Field] = &[may("name", Is::Name(64)), COMMON[0], COMMON[1], COMMON[2], COMMON[3]];

pub fn render(cloud: &Cloud, domain: &Project) -> Value {
    let known = json!({
        "id": domain.meta.id,
        "name": domain.meta.name,
        "description": domain.description,
        "enabled": domain.enabled,
        "tags": domain.tags,
        "options": domain.options,
        "links": {"self": format!("{}/v3/domains/{}", crate::base(cloud), domain.meta.id)},
    });
    shown(&domain.extra, known)
}

pub fn missing(id: &Id<Project>) -> Refusal {
    Refusal::not_found("domain", id)
}

/// The domain, when there is one of that id.
pub fn find(view: &unkai_store::View, id: &Id<Project>) -> Answer<Arc<Project>> {
    view.get(id).filter(|domain| domain.is_domain).ok_or_else(|| missing(id))
}

async fn list(State(cloud): State<Cloud>, who: Who, params: Params) -> Answer {
    let own = who.domain().cloned();
    who.allow("list_domains", who.reads_all() || who.reads_domain(own.as_ref()))?;
    let all = who.reads_all();
    let view = cloud.store.read().await?;
    let seen = view.by_index::<Project>("is-domain", "true").filter(|domain| all || own.as_ref() == Some(&domain.meta.id));
    let items = seen.map(|domain| render(&cloud, &domain)).collect();
    Ok(ok(&params.collection(&crate::base(&cloud), "/v3/domains", "domains", items, &["enabled", "name"])))
}

async fn create(State(cloud): State<Cloud>, who: Who, body: Json) -> Answer {
    who.allow("create_domain", who.is_admin())?;
    let part = body.part("domain", CREATE, Extra::Allowed)?;
    check_options(&part, OPTIONS)?;
    let tags = tags::parse(part.get("tags"))?;
    let insert = move |tx: &mut Tx| -> Answer<Arc<Project>> {
        let id = part.text("explicit_domain_id").map_or_else(|| tx.new_hex_id(), Id::from);
        let mut domain = Project::domain(id, part.text("name").unwrap_or_default().trim());
        domain.description = part.text("description").unwrap_or_default().into();
        domain.enabled = part.flag("enabled").unwrap_or(true);
        domain.tags = tags.clone();
        part.merge_options(&mut domain.options);
        domain.extra.extend(part.rest());
        Ok(tx.insert(domain)?)
    };
    let domain = cloud.store.transact(insert).await?;
    Ok(created(&json!({"domain": render(&cloud, &domain)})))
}

async fn get(State(cloud): State<Cloud>, who: Who, Path(id): Path<String>) -> Answer {
    let (view, id) = (cloud.store.read().await?, Id::from(id));
    let inside = who.domain() == Some(&id) || who.name.project.is_some() && who.name.project_domain == id.as_str();
    who.allow("get_domain", who.reads_all() || inside)?;
    Ok(ok(&json!({"domain": render(&cloud, &*find(&view, &id)?)})))
}

async fn update(State(cloud): State<Cloud>, who: Who, Path(id): Path<String>, body: Json) -> Answer {
    who.allow("update_domain", who.is_admin())?;
    let id = Id::<Project>::from(id);
    find(&cloud.store.read().await?, &id)?;
    let part: Part = body.part("domain", UPDATE, Extra::Allowed)?;
    part.is_about("domain", id.as_str())?;
    check_options(&part, OPTIONS)?;
    let tags = part.has("tags").then(|| tags::parse(part.get("tags"))).transpose()?;
    let domain = cloud.store.transact(move |tx| projects::change(tx, &id, &part, tags.as_ref())).await?;
    Ok(ok(&json!({"domain": render(&cloud, &domain)})))
}

async fn delete(State(cloud): State<Cloud>, who: Who, Path(id): Path<String>) -> Answer {
    who.allow("delete_domain", who.is_admin())?;
    let id = Id::<Project>::from(id);
    find(&cloud.store.read().await?, &id)?;
    cloud.store.transact(move |tx| remove(tx, &id)).await?;
    Ok(no_content())
}

/// Only a disabled domain goes, and everything in it with it.
pub fn remove(tx: &mut Tx, id: &Id<Project>) -> Answer<()> {
    let domain = find(&tx.view(), id)?;
    if domain.is_immutable() {
        return Err(immutable_refusal("delete", "domain", id.as_str()));
    }
    if id.as_str() == Project::DEFAULT_DOMAIN {
        return Err(Refusal::not_allowed("delete the default domain"));
    }
    if domain.enabled {
        return Err(Refusal::denied("Cannot delete a domain that is enabled, please disable it first."));
    }
    Ok(cascade::domain(tx, id)?)
}
