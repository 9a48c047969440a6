//! /v3/roles: roles, and which of them imply which.

use std::sync::Arc;

use axum::extract::{Path, State};
use http::StatusCode;
use serde_json::{Value, json};
use unkai_model::Id;
use unkai_model::identity::Role;
use unkai_openstack::{Cloud, Routes};
use unkai_store::{Tx, View};

use super::domains;
use crate::cascade;
use crate::tokens::grants;
use crate::web::body::{Extra, Field, check_options, immutable_refusal, may, must};
use crate::web::{Answer, Is, Json, Params, Refusal, Who, created, no_content, ok, shown};

pub fn routes() -> Routes {
    Routes::new()
        .get("/v3/roles", list)
        .post("/v3/roles", create)
        .get("/v3/roles/{role_id}", get)
        .patch("/v3/roles/{role_id}", update)
        .delete("/v3/roles/{role_id}", delete)
        .get("/v3/roles/{role_id}/implies", list_implied)
        .get("/v3/roles/{role_id}/implies/{implied_id}", get_implied)
        .head("/v3/roles/{role_id}/implies/{implied_id}", check_implied)
        .put("/v3/roles/{role_id}/implies/{implied_id}", imply)
        .delete("/v3/roles/{role_id}/implies/{implied_id}", imply_no_more)
        .get("/v3/role_inferences", inferences)
}

const OPTIONS: &[&str] = &["immutable"];
const COMMON: [Field; 3] = [may("description", Is::NullText), may("domain_id", Is::NullId), may("options", Is::Object)];
const CREATE: &[Field] = &[must("name", Is::Name(255)), COMMON[0], COMMON[1], COMMON[2]];
const UPDATE: &[Field] = &[may("name", Is::Name(255)), COMMON[0], COMMON[1], COMMON[2]];
/// The strongest role is nobody's implication.
const NEVER_IMPLIED: &str = "admin";

pub fn render(cloud: &Cloud, role: &Role) -> Value {
    let known = json!({
        "id": role.meta.id,
        "name": role.meta.name,
        "domain_id": role.domain,
        "description": role.description,
        "options": role.options,
        "links": {"self": format!("{}/v3/roles/{}", crate::base(cloud), role.meta.id)},
    });
    shown(&role.extra, known)
}

pub fn missing(id: &Id<Role>) -> Refusal {
    Refusal::not_found("role", id)
}

/// Roles that the manager of a domain may see and give.
pub fn is_managed(role: &Role) -> bool {
    role.domain.is_none() && matches!(role.meta.name.as_str(), "manager" | "member" | "reader")
}

async fn list(State(cloud): State<Cloud>, who: Who, params: Params) -> Answer {
    let action = if params.has("domain_id") { "list_domain_roles" } else { "list_roles" };
    let manager = !params.has("domain_id") && who.domain().is_some() && who.has("manager");
    who.allow(action, who.reads_all() || manager)?;
    let view = cloud.store.read().await?;
    let domain = params.get("domain_id").unwrap_or("");
    let items = view.by_index::<Role>("domain", domain).map(|role| render(&cloud, &role)).collect();
    Ok(ok(&params.collection(&crate::base(&cloud), "/v3/roles", "roles", items, &["name", "domain_id"])))
}

async fn create(State(cloud): State<Cloud>, who: Who, body: Json) -> Answer {
    who.allow("create_role", who.is_admin())?;
    let part = body.part("role", CREATE, Extra::Allowed)?;
    check_options(&part, OPTIONS)?;
    let insert = move |tx: &mut Tx| -> Answer<Arc<Role>> {
        let mut role = Role::new(tx.new_hex_id::<Role>(), part.text("name").unwrap_or_default());
        if let Some(domain) = part.text("domain_id") {
            role.domain = Some(domains::find(&tx.view(), &Id::from(domain))?.meta.id.clone());
        }
        role.description = part.text("description").map(str::to_owned);
        part.merge_options(&mut role.options);
        role.extra.extend(part.rest());
        Ok(tx.insert(role)?)
    };
    let role = cloud.store.transact(insert).await?;
    Ok(created(&json!({"role": render(&cloud, &role)})))
}

async fn get(State(cloud): State<Cloud>, who: Who, Path(id): Path<String>) -> Answer {
    let id = Id::<Role>::from(id);
    let role = cloud.store.read().await?.get(&id);
    let manager = who.domain().is_some() && who.has("manager") && role.as_deref().is_some_and(is_managed);
    who.allow("get_role", who.reads_all() || manager)?;
    Ok(ok(&json!({"role": render(&cloud, &*role.ok_or_else(|| missing(&id))?)})))
}

async fn update(State(cloud): State<Cloud>, who: Who, Path(id): Path<String>, body: Json) -> Answer {
    who.allow("update_role", who.is_admin())?;
    let id = Id::<Role>::from(id);
    cloud.store.read().await?.get(&id).ok_or_else(|| missing(&id))?;
    let part = body.part("role", UPDATE, Extra::Allowed)?;
    part.is_about("role", id.as_str())?;
    check_options(&part, OPTIONS)?;
    let change = move |tx: &mut Tx| {
        tx.update(&id, |role: &mut Role| -> Answer<()> {
            part.respects(role.is_immutable(), "role", id.as_str())?;
            if part.has("domain_id") && part.text("domain_id") != role.domain.as_ref().map(Id::as_str) {
                return Err(Refusal::invalid("Cannot change Domain ID"));
            }
            if let Some(name) = part.text("name") {
                role.meta.name = name.to_owned();
            }
            if part.has("description") {
                role.description = part.text("description").map(str::to_owned);
            }
            part.merge_options(&mut role.options);
            role.extra.extend(part.rest());
            Ok(())
        })
    };
    let role = cloud.store.transact(change).await?;
    Ok(ok(&json!({"role": render(&cloud, &role)})))
}

async fn delete(State(cloud): State<Cloud>, who: Who, Path(id): Path<String>) -> Answer {
    who.allow("delete_role", who.is_admin())?;
    let id = Id::<Role>::from(id);
    let remove = move |tx: &mut Tx| -> Answer<()> {
        let role = tx.get(&id).ok_or_else(|| missing(&id))?;
        match role.is_immutable() {
            true => Err(immutable_refusal("delete", "role", id.as_str())),
            false => Ok(cascade::role(tx, &id)?),
        }
    };
    cloud.store.transact(remove).await?;
    Ok(no_content())
}

/// A role as an inference names it.
fn brief(cloud: &Cloud, role: &Role) -> Value {
    let own = format!("{}/v3/roles/{}", crate::base(cloud), role.meta.id);
    let mut shown = json!({"id": role.meta.id, "name": role.meta.name, "links": {"self": own}});
    if let Some(domain) = &role.domain {
        shown["domain_id"] = domain.as_str().into();
    }
    shown
}

fn require(view: &View, id: &Id<Role>) -> Answer<Arc<Role>> {
    view.get(id).ok_or_else(|| missing(id))
}

fn implies_of(cloud: &Cloud, view: &View, role: &Role) -> Vec<Value> {
    role.implies.iter().filter_map(|id| view.get(id)).map(|implied| brief(cloud, &implied)).collect()
}

async fn list_implied(State(cloud): State<Cloud>, who: Who, Path(id): Path<String>) -> Answer {
    who.allow("list_implied_roles", who.reads_all())?;
    let view = cloud.store.read().await?;
    let role = require(&view, &Id::from(id))?;
    let links = json!({"self": format!("{}/v3/roles/{}/implies", crate::base(&cloud), role.meta.id)});
    let inference = json!({"prior_role": brief(&cloud, &role), "implies": implies_of(&cloud, &view, &role)});
    Ok(ok(&json!({"role_inference": inference, "links": links})))
}

async fn inferences(State(cloud): State<Cloud>, who: Who) -> Answer {
    who.allow("list_role_inference_rules", who.reads_all())?;
    let view = cloud.store.read().await?;
    let priors = view.all::<Role>().filter(|role| !role.implies.is_empty());
    let all: Vec<Value> =
        priors.map(|role| json!({"prior_role": brief(&cloud, &role), "implies": implies_of(&cloud, &view, &role)})).collect();
    Ok(ok(&json!({"role_inferences": all, "links": {"self": format!("{}/v3/role_inferences", crate::base(&cloud))}})))
}

type Two = Path<(String, String)>;

fn both(view: &View, prior: String, implied: String) -> Answer<(Arc<Role>, Arc<Role>)> {
    Ok((require(view, &prior.into())?, require(view, &implied.into())?))
}

fn inference(cloud: &Cloud, prior: &Role, implied: &Role) -> Value {
    let own = format!("{}/v3/roles/{}/implies/{}", crate::base(cloud), prior.meta.id, implied.meta.id);
    json!({"role_inference": {"prior_role": brief(cloud, prior), "implies": brief(cloud, implied)}, "links": {"self": own}})
}

fn not_implied(prior: &Id<Role>, implied: &Id<Role>) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, format!("{prior} does not imply {implied}."))
}

async fn get_implied(State(cloud): State<Cloud>, who: Who, Path((prior, implied)): Two) -> Answer {
    who.allow("get_implied_role", who.reads_all())?;
    let (prior, implied) = both(&cloud.store.read().await?, prior, implied)?;
    match prior.implies.contains(&implied.meta.id) {
        true => Ok(ok(&inference(&cloud, &prior, &implied))),
        false => Err(not_implied(&prior.meta.id, &implied.meta.id)),
    }
}

async fn check_implied(State(cloud): State<Cloud>, who: Who, Path((prior, implied)): Two) -> Answer {
    who.allow("check_implied_role", who.reads_all())?;
    let (prior, implied) = both(&cloud.store.read().await?, prior, implied)?;
    match prior.implies.contains(&implied.meta.id) {
        true => Ok(no_content()),
        false => Err(not_implied(&prior.meta.id, &implied.meta.id)),
    }
}

async fn imply(State(cloud): State<Cloud>, who: Who, Path((prior, implied)): Two) -> Answer {
    who.allow("create_implied_role", who.is_admin())?;
    let add = move |tx: &mut Tx| -> Answer<(Arc<Role>, Arc<Role>)> {
        let view = tx.view();
        let (prior, implied) = both(&view, prior.clone(), implied.clone())?;
        if implied.meta.name == NEVER_IMPLIED && implied.domain.is_none() {
            return Err(Refusal::denied(format!("{} cannot be an implied roles.", implied.meta.id)));
        }
        if grants::implied(&view, [implied.meta.id.clone()]).contains(&prior.meta.id) {
            return Err(Refusal::denied(format!("{} would imply itself through {}.", prior.meta.id, implied.meta.id)));
        }
        tx.update(&prior.meta.id, |role: &mut Role| -> Answer<()> {
            role.implies.insert(implied.meta.id.clone());
            Ok(())
        })?;
        Ok((prior, implied))
    };
    let (prior, implied) = cloud.store.transact(add).await?;
    Ok(created(&inference(&cloud, &prior, &implied)))
}

async fn imply_no_more(State(cloud): State<Cloud>, who: Who, Path((prior, implied)): Two) -> Answer {
    who.allow("delete_implied_role", who.is_admin())?;
    let (prior, implied) = (Id::<Role>::from(prior), Id::<Role>::from(implied));
    let remove = move |tx: &mut Tx| -> Answer<()> {
        require(&tx.view(), &prior)?;
        tx.update(&prior, |role: &mut Role| if role.implies.remove(&implied) { Ok(()) } else { Err(not_implied(&prior, &implied)) })?;
        Ok(())
    };
    cloud.store.transact(remove).await?;
    Ok(no_content())
}
