//! Sharing: `/v2/images/{id}/members`.
//!
//! The owner adds and removes members; each member alone says what it makes of the offer. A member sees only itself.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;
use unkai_model::Id;
use unkai_model::identity::Project;
use unkai_model::image::{Image, Member, MemberStatus, Visibility};
use unkai_openstack::{Caller, CallerName, Cloud};
use unkai_store::Tx;

use crate::error::{ApiError, Result};
use crate::image::fields::MAX_MEMBERS;
use crate::image::view::time;
use crate::{access, json};

pub async fn create(caller: Caller, State(cloud): State<Cloud>, Path(id): Path<String>, body: Bytes) -> Result<Json<Value>> {
    let member = read_member(&body)?;
    let add = move |tx: &mut Tx| {
        let (image, now) = (shared(&caller, tx.get(&Id::new(id.as_str())), &id, "create")?, tx.now());
        access::change(&caller, &image, "add_member")?;
        if image.spec.members.contains_key(&member) {
            return Err(ApiError::conflict(format!("Member {member} is duplicated for image {id}")));
        }
        let count = image.spec.members.len() + 1;
        if count > MAX_MEMBERS {
            let limit = format!("Attempted: {count}, Maximum: {MAX_MEMBERS}");
            return Err(ApiError::too_large(format!("Image member limit exceeded for image {id}: {limit}:")));
        }
        let image = tx.update(&image.meta.id, |image| {
            image.spec.members.insert(member.clone(), Member::new(now));
            Ok::<_, ApiError>(())
        })?;
        Ok(view(&image, &member, &image.spec.members[&member]))
    };
    cloud.store.transact(add).await.map(Json)
}

pub async fn update(
    caller: Caller,
    State(cloud): State<Cloud>,
    Path((id, member)): Path<(String, String)>,
    body: Bytes,
) -> Result<Json<Value>> {
    let wanted = read_status(&body)?;
    let member = Id::<Project>::new(member);
    let set = move |tx: &mut Tx| {
        let image = shared(&caller, tx.get(&Id::new(id.as_str())), &id, "update")?;
        find(&caller, &image, &member)?;
        let is_member = caller.project.as_ref() == Some(&member) && caller.has_role("member");
        if !caller.is_admin() && !is_member {
            return Err(ApiError::policy("modify_member"));
        }
        let status = MemberStatus::named(&wanted)
            .ok_or_else(|| ApiError::bad_request("Incorrect request: Status must be \"pending\", \"accepted\" or \"rejected\"."))?;
        let now = tx.now();
        let image = tx.update(&image.meta.id, |image| {
            if let Some(member) = image.spec.members.get_mut(&member) {
                (member.status, member.updated) = (status, now);
            }
            Ok::<_, ApiError>(())
        })?;
        Ok(view(&image, &member, &image.spec.members[&member]))
    };
    cloud.store.transact(set).await.map(Json)
}

pub async fn list(caller: Caller, State(cloud): State<Cloud>, Path(id): Path<String>) -> Result<Json<Value>> {
    let found = cloud.store.read().await?.get(&Id::new(id.as_str()));
    let image = shared(&caller, found, &id, "list")?;
    let members = image.spec.members.iter().filter(|(member, _)| shows(&caller, &image, member));
    let members: Vec<Value> = members.map(|(id, member)| view(&image, id, member)).collect();
    Ok(Json(json!({ "members": members, "schema": "/v2/schemas/members" })))
}

pub async fn show(caller: Caller, State(cloud): State<Cloud>, Path((id, member)): Path<(String, String)>) -> Result<Json<Value>> {
    let found = cloud.store.read().await?.get(&Id::new(id.as_str()));
    // What is forbidden is not found here, as in the original.
    let image = shared(&caller, found, &id, "show").map_err(|refusal| ApiError::not_found(refusal.text))?;
    let member = Id::new(member);
    let found = find(&caller, &image, &member)?;
    Ok(Json(view(&image, &member, found)))
}

pub async fn delete(caller: Caller, State(cloud): State<Cloud>, Path((id, member)): Path<(String, String)>) -> Result<StatusCode> {
    let member = Id::<Project>::new(member);
    let remove = move |tx: &mut Tx| {
        let image = shared(&caller, tx.get(&Id::new(id.as_str())), &id, "delete")?;
        find(&caller, &image, &member)?;
        access::change(&caller, &image, "delete_member")?;
        tx.update(&image.meta.id, |image| {
            image.spec.members.remove(&member);
            Ok::<_, ApiError>(())
        })
        .map(drop)
    };
    cloud.store.transact(remove).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The image, if the caller sees it and it can have members.
fn shared(caller: &CallerName, image: Option<Arc<Image>>, id: &str, verb: &str) -> Result<Arc<Image>> {
    let missing = || ApiError::not_found(format!("Image {id} not found."));
    let image = image.filter(|image| access::see(caller, image).is_ok()).ok_or_else(missing)?;
    match (image.spec.visibility, verb) {
        (Visibility::Shared, _) => Ok(image),
        (_, "list" | "show") => {
            Err(ApiError::forbidden(format!("Not allowed to list members for image {id}: Only shared images have members.")))
        }
        _ => Err(ApiError::forbidden(format!("Not allowed to {verb} members for image {id}."))),
    }
}

fn shows(caller: &CallerName, image: &Image, member: &Id<Project>) -> bool {
    caller.is_admin() || caller.owns(image.meta.project.as_ref()) || caller.project.as_ref() == Some(member)
}

fn find<'a>(caller: &CallerName, image: &'a Image, member: &Id<Project>) -> Result<&'a Member> {
    let found = image.spec.members.get(member).filter(|_| shows(caller, image, member));
    found.ok_or_else(|| ApiError::not_found(format!("{member} not found in the member list of the image {}.", image.meta.id)))
}

fn read_member(body: &Bytes) -> Result<Id<Project>> {
    let body = json::parse(body)?;
    let Some(body) = body.as_object() else {
        return Err(ApiError::bad_request("Expected a member in the form: {\"member\": \"image_id\"}"));
    };
    match body.get("member") {
        None => Err(ApiError::bad_request("Member to be added not specified")),
        Some(Value::String(member)) if !member.is_empty() && member.len() <= 255 => Ok(Id::new(member.as_str())),
        Some(Value::Null) => Err(ApiError::bad_request("Member can't be empty")),
        Some(Value::String(member)) if member.is_empty() => Err(ApiError::bad_request("Member can't be empty")),
        Some(_) => Err(ApiError::bad_request("Expected a member in the form: {\"member\": \"image_id\"}")),
    }
}

fn read_status(body: &Bytes) -> Result<String> {
    let body = json::parse(body)?;
    let Some(body) = body.as_object() else {
        return Err(ApiError::bad_request("Expected a status in the form: {\"status\": \"status\"}"));
    };
    let status = body.get("status").ok_or_else(|| ApiError::bad_request("Status not specified"))?;
    Ok(status.as_str().unwrap_or_default().to_owned())
}

fn view(image: &Image, id: &Id<Project>, member: &Member) -> Value {
    json!({
        "member_id": id,
        "image_id": image.meta.id,
        "status": member.status,
        "created_at": time(member.created),
        "updated_at": time(member.updated),
        "schema": "/v2/schemas/member",
    })
}
