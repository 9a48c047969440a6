//! /v3/groups: groups and who is in them.

use std::sync::Arc;

use axum::extract::{Path, State};
use http::StatusCode;
use serde_json::{Value, json};
use unkai_model::identity::{Group, Membership, Project, User};
use unkai_model::{Id, Meta};
use unkai_openstack::{Cloud, Routes};
use unkai_store::Tx;

use super::{domains, users};
use crate::cascade;
use crate::web::body::{Extra, Field, may, must};
use crate::web::{Answer, Is, Json, Params, Refusal, Who, created, no_content, ok, shown};

pub fn routes() -> Routes {
    Routes::new()
        .get("/v3/groups", list)
        .post("/v3/groups", create)
        .get("/v3/groups/{group_id}", get)
        .patch("/v3/groups/{group_id}", update)
        .delete("/v3/groups/{group_id}", delete)
        .get("/v3/groups/{group_id}/users", list_users)
        .get("/v3/groups/{group_id}/users/{user_id}", check)
        .put("/v3/groups/{group_id}/users/{user_id}", add)
        .delete("/v3/groups/{group_id}/users/{user_id}", remove)
}

const CREATE: &[Field] = &[must("name", Is::Name(64)), may("description", Is::NullText), may("domain_id", Is::Id)];
const UPDATE: &[Field] = &[may("name", Is::Name(64)), may("description", Is::NullText), may("domain_id", Is::Id)];

pub fn render(cloud: &Cloud, group: &Group) -> Value {
    let known = json!({
        "id": group.meta.id,
        "name": group.meta.name,
        "domain_id": group.domain,
        "description": group.description,
        "links": {"self": format!("{}/v3/groups/{}", crate::base(cloud), group.meta.id)},
    });
    shown(&group.extra, known)
}

pub fn missing(id: &Id<Group>) -> Refusal {
    Refusal::not_found("group", id)
}

async fn list(State(cloud): State<Cloud>, who: Who, params: Params) -> Answer {
    let domain = who.domain().cloned();
    who.allow("list_groups", who.reads_all() || who.reads_domain(domain.as_ref()))?;
    let view = cloud.store.read().await?;
    let seen = view.all::<Group>().filter(|group| domain.as_ref().is_none_or(|domain| group.domain == *domain));
    let items = seen.map(|group| render(&cloud, &group)).collect();
    Ok(ok(&params.collection(&crate::base(&cloud), "/v3/groups", "groups", items, &["domain_id", "name"])))
}

async fn create(State(cloud): State<Cloud>, who: Who, body: Json) -> Answer {
    let part = body.part("group", CREATE, Extra::Allowed)?;
    let domain = part.text("domain_id").map(Id::from).or_else(|| who.domain().cloned());
    let domain = domain.unwrap_or_else(|| Id::from(Project::DEFAULT_DOMAIN));
    who.allow("create_group", who.manages(Some(&domain)))?;
    let insert = move |tx: &mut Tx| -> Answer<Arc<Group>> {
        domains::find(&tx.view(), &domain)?;
        let meta = Meta::new(tx.new_hex_id::<Group>()).named(part.text("name").unwrap_or_default().trim());
        let description = part.text("description").unwrap_or_default().into();
        Ok(tx.insert(Group { meta, domain: domain.clone(), description, extra: part.rest().collect() })?)
    };
    let group = cloud.store.transact(insert).await?;
    Ok(created(&json!({"group": render(&cloud, &group)})))
}

async fn seen(cloud: &Cloud, who: &Who, id: &Id<Group>, action: &str) -> Answer<Arc<Group>> {
    let group = cloud.store.read().await?.get(id);
    who.allow(action, who.reads(group.as_ref().map(|group| &group.domain)))?;
    group.ok_or_else(|| missing(id))
}

async fn managed(cloud: &Cloud, who: &Who, id: &Id<Group>, action: &str) -> Answer<Arc<Group>> {
    let group = cloud.store.read().await?.get(id);
    who.allow(action, who.manages(group.as_ref().map(|group| &group.domain)))?;
    group.ok_or_else(|| missing(id))
}

async fn get(State(cloud): State<Cloud>, who: Who, Path(id): Path<String>) -> Answer {
    let group = seen(&cloud, &who, &id.into(), "get_group").await?;
    Ok(ok(&json!({"group": render(&cloud, &group)})))
}

async fn update(State(cloud): State<Cloud>, who: Who, Path(id): Path<String>, body: Json) -> Answer {
    let id = Id::<Group>::from(id);
    managed(&cloud, &who, &id, "update_group").await?;
    let part = body.part("group", UPDATE, Extra::Allowed)?;
    part.is_about("group", id.as_str())?;
    let change = move |tx: &mut Tx| {
        tx.update(&id, |group: &mut Group| -> Answer<()> {
            if part.text("domain_id").is_some_and(|domain| domain != group.domain.as_str()) {
                return Err(Refusal::invalid("Cannot change Domain ID"));
            }
            if let Some(name) = part.text("name") {
                group.meta.name = name.trim().to_owned();
            }
            if part.has("description") {
                group.description = part.text("description").unwrap_or_default().into();
            }
            group.extra.extend(part.rest());
            Ok(())
        })
    };
    let group = cloud.store.transact(change).await?;
    Ok(ok(&json!({"group": render(&cloud, &group)})))
}

async fn delete(State(cloud): State<Cloud>, who: Who, Path(id): Path<String>) -> Answer {
    let id = Id::<Group>::from(id);
    managed(&cloud, &who, &id, "delete_group").await?;
    cloud.store.transact(move |tx| cascade::group(tx, &id)).await?;
    Ok(no_content())
}

async fn list_users(State(cloud): State<Cloud>, who: Who, Path(id): Path<String>, params: Params) -> Answer {
    let id = Id::<Group>::from(id);
    seen(&cloud, &who, &id, "list_users_in_group").await?;
    let view = cloud.store.read().await?;
    let members = view.by_index::<Membership>("group", id.as_str()).filter_map(|member| view.get(&member.user));
    let items = members.map(|user| users::render(&cloud, &user)).collect();
    let filters = &["domain_id", "enabled", "name"];
    Ok(ok(&params.collection(&crate::base(&cloud), &format!("/v3/groups/{id}/users"), "users", items, filters)))
}

/// Both must be of a domain that the caller rules; then both must exist.
async fn pair(cloud: &Cloud, who: &Who, group: &Id<Group>, user: &Id<User>, action: &str, change: bool) -> Answer<()> {
    let view = cloud.store.read().await?;
    let (found_group, found_user) = (view.get(group), view.get(user));
    let rules = |domain: Option<&Id<Project>>| if change { who.manages(domain) } else { who.reads(domain) };
    let allowed = rules(found_group.as_ref().map(|group| &group.domain)) && rules(found_user.as_ref().map(|user| &user.domain));
    who.allow(action, allowed)?;
    found_group.ok_or_else(|| missing(group))?;
    found_user.ok_or_else(|| users::missing(user))?;
    Ok(())
}

fn no_member(group: &Id<Group>, user: &Id<User>) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, format!("User '{user}' not found in group '{group}'."))
}

type Member = Path<(String, String)>;

async fn check(State(cloud): State<Cloud>, who: Who, Path((group, user)): Member) -> Answer {
    let (group, user) = (Id::from(group), Id::from(user));
    pair(&cloud, &who, &group, &user, "check_user_in_group", false).await?;
    let member = cloud.store.view().get(&Membership::id(&user, &group));
    if member.is_some() { Ok(no_content()) } else { Err(no_member(&group, &user)) }
}

async fn add(State(cloud): State<Cloud>, who: Who, Path((group, user)): Member) -> Answer {
    let (group, user) = (Id::from(group), Id::from(user));
    pair(&cloud, &who, &group, &user, "add_user_to_group", true).await?;
    let insert = move |tx: &mut Tx| -> Answer<()> {
        if tx.get(&Membership::id(&user, &group)).is_none() {
            tx.insert(Membership::new(&user, &group))?;
        }
        Ok(())
    };
    cloud.store.transact(insert).await?;
    Ok(no_content())
}

async fn remove(State(cloud): State<Cloud>, who: Who, Path((group, user)): Member) -> Answer {
    let (group, user) = (Id::from(group), Id::from(user));
    pair(&cloud, &who, &group, &user, "remove_user_from_group", true).await?;
    let delete = move |tx: &mut Tx| -> Answer<()> {
        let id = Membership::id(&user, &group);
        tx.get(&id).ok_or_else(|| no_member(&group, &user))?;
        tx.delete(&id)?;
        Ok(())
    };
    cloud.store.transact(delete).await?;
    Ok(no_content())
}
