//! /v3/users: users, their passwords, and what they are part of.

use std::sync::Arc;

use axum::extract::{Path, State};
use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};
use unkai_model::Id;
use unkai_model::identity::{Password, Project, User};
use unkai_openstack::{Cloud, Routes};
use unkai_store::Tx;

use super::{groups, projects};
use crate::cascade;
use crate::passwords::LONGEST;
use crate::tokens::grants;
use crate::web::body::{Extra, Field, check_options, may, must};
use crate::web::who::Service;
use crate::web::{Answer, Is, Json, Params, Part, Refusal, Who, created, no_content, ok, shown};

pub fn routes() -> Routes {
    Routes::new()
        .get("/v3/users", list)
        .post("/v3/users", create)
        .get("/v3/users/{user_id}", get)
        .patch("/v3/users/{user_id}", update)
        .delete("/v3/users/{user_id}", delete)
        // The old password is the proof, as the original has it: a user whose password expired has no token.
        .public_post("/v3/users/{user_id}/password", own_password)
        .get("/v3/users/{user_id}/groups", list_groups)
        .get("/v3/users/{user_id}/projects", list_projects)
}

const FILTERS: &[&str] = &["domain_id", "enabled", "name"];
const OPTIONS: &[&str] = &[
    "ignore_change_password_upon_first_use",
    "ignore_password_expiry",
    "ignore_lockout_failure_attempts",
    "ignore_user_inactivity",
    "lock_password",
    "multi_factor_auth_enabled",
    "multi_factor_auth_rules",
];
const COMMON: [Field; 5] = [
    may("default_project_id", Is::NullId),
    may("domain_id", Is::Id),
    may("enabled", Is::Bool),
    may("password", Is::NullText),
    may("options", Is::Object),
];
const CREATE: &[Field] = &[must("name", Is::Name(255)), COMMON[0], COMMON[1], COMMON[2], COMMON[3], COMMON[4]];
const UPDATE: &[Field] = &[may("name", Is::Name(255)), COMMON[0], COMMON[1], COMMON[2], COMMON[3], COMMON[4]];

pub fn render(cloud: &Cloud, user: &User) -> Value {
    let mut known = json!({
        "id": user.meta.id,
        "name": user.meta.name,
        "domain_id": user.domain,
        "enabled": user.enabled,
        "password_expires_at": null,
        "options": user.options,
        "links": {"self": format!("{}/v3/users/{}", crate::base(cloud), user.meta.id)},
    });
    if let Some(project) = &user.default_project {
        known["default_project_id"] = project.as_str().into();
    }
    shown(&user.extra, known)
}

pub fn missing(id: &Id<User>) -> Refusal {
    Refusal::not_found("user", id)
}

async fn list(State(cloud): State<Cloud>, who: Who, params: Params) -> Answer {
    let domain = who.domain().cloned();
    who.allow("list_users", who.reads_all() || who.reads_domain(domain.as_ref()))?;
    let view = cloud.store.read().await?;
    let seen = view.all::<User>().filter(|user| domain.as_ref().is_none_or(|domain| user.domain == *domain));
    let items = seen.map(|user| render(&cloud, &user)).collect();
    Ok(ok(&params.collection(&crate::base(&cloud), "/v3/users", "users", items, FILTERS)))
}

async fn create(State(cloud): State<Cloud>, who: Who, service: Service, body: Json) -> Answer {
    let part = body.part("user", CREATE, Extra::Allowed)?;
    let domain = part.text("domain_id").map(Id::from).or_else(|| who.domain().cloned());
    let domain = domain.unwrap_or_else(|| Id::from(Project::DEFAULT_DOMAIN));
    who.allow("create_user", who.manages(Some(&domain)))?;
    super::domains::find(&cloud.store.read().await?, &domain)?;
    check_options(&part, OPTIONS)?;
    let hash = hashed(&service, &part).await?;
    let insert = move |tx: &mut Tx| -> Answer<Arc<User>> {
        super::domains::find(&tx.view(), &domain)?;
        let name = part.text("name").unwrap_or_default().trim();
        let mut user = User::new(tx.new_hex_id::<User>(), name, &domain);
        user.enabled = part.flag("enabled").unwrap_or(true);
        user.default_project = default_project(tx, &part)?;
        user.password = hash.clone().map(|hash| Password { hash, set: tx.now() });
        part.merge_options(&mut user.options);
        user.extra.extend(part.rest());
        Ok(tx.insert(user)?)
    };
    let user = cloud.store.transact(insert).await?;
    Ok(created(&json!({"user": render(&cloud, &user)})))
}

/// A domain is nobody's default project; a project that is not there is accepted, as the original does.
fn default_project(tx: &Tx, part: &Part) -> Answer<Option<String>> {
    let Some(id) = part.text("default_project_id") else { return Ok(None) };
    match tx.get(&Id::<Project>::from(id)) {
        Some(project) if project.is_domain => Err(Refusal::invalid("User's default project ID cannot be a domain ID")),
        _ => Ok(Some(id.to_owned())),
    }
}

async fn hashed(service: &Service, part: &Part) -> Answer<Option<String>> {
    match part.text("password") {
        None => Ok(None),
        Some(password) => {
            acceptable(password)?;
            Ok(Some(service.passwords.hash(password).await?))
        }
    }
}

fn acceptable(password: &str) -> Answer<()> {
    if password.len() > LONGEST {
        let text = format!(
            "The password length must be less than or equal to {LONGEST}. The server could not comply with the request because the password is invalid."
        );
        return Err(Refusal::denied(text));
    }
    Ok(())
}

/// The user, when the caller may see or change it; who may not does not learn whether it exists.
pub async fn seen(cloud: &Cloud, who: &Who, id: &Id<User>, action: &str) -> Answer<Arc<User>> {
    let user = cloud.store.read().await?.get(id);
    who.allow(action, who.reads(user.as_ref().map(|user| &user.domain)) || who.is_user(id))?;
    user.ok_or_else(|| missing(id))
}

async fn managed(cloud: &Cloud, who: &Who, id: &Id<User>, action: &str) -> Answer<Arc<User>> {
    let user = cloud.store.read().await?.get(id);
    who.allow(action, who.manages(user.as_ref().map(|user| &user.domain)))?;
    user.ok_or_else(|| missing(id))
}

async fn get(State(cloud): State<Cloud>, who: Who, Path(id): Path<String>) -> Answer {
    let user = seen(&cloud, &who, &id.into(), "get_user").await?;
    Ok(ok(&json!({"user": render(&cloud, &user)})))
}

async fn update(State(cloud): State<Cloud>, who: Who, service: Service, Path(id): Path<String>, body: Json) -> Answer {
    let id = Id::<User>::from(id);
    managed(&cloud, &who, &id, "update_user").await?;
    let part = body.part("user", UPDATE, Extra::Allowed)?;
    part.is_about("user", id.as_str())?;
    check_options(&part, OPTIONS)?;
    let hash = hashed(&service, &part).await?;
    let user = cloud.store.transact(move |tx| change(tx, &id, &part, hash.as_deref())).await?;
    Ok(ok(&json!({"user": render(&cloud, &user)})))
}

fn change(tx: &mut Tx, id: &Id<User>, part: &Part, hash: Option<&str>) -> Answer<Arc<User>> {
    let (project, now) = (default_project(tx, part)?, tx.now());
    tx.update(id, |user: &mut User| {
        if part.text("domain_id").is_some_and(|domain| domain != user.domain.as_str()) {
            return Err(Refusal::invalid("Cannot change Domain ID"));
        }
        if let Some(name) = part.text("name") {
            user.meta.name = name.trim().to_owned();
        }
        if let Some(enabled) = part.flag("enabled") {
            if user.enabled && !enabled {
                user.tokens_from = now;
            }
            user.enabled = enabled;
        }
        if part.has("default_project_id") {
            user.default_project = project.clone();
        }
        if part.has("password") {
            user.password = hash.map(|hash| Password { hash: hash.to_owned(), set: now });
            user.tokens_from = now;
        }
        part.merge_options(&mut user.options);
        user.extra.extend(part.rest());
        Ok(())
    })
}

async fn delete(State(cloud): State<Cloud>, who: Who, Path(id): Path<String>) -> Answer {
    let id = Id::<User>::from(id);
    managed(&cloud, &who, &id, "delete_user").await?;
    cloud.store.transact(move |tx| cascade::user(tx, &id)).await?;
    Ok(no_content())
}

const PASSWORDS: &[Field] = &[must("original_password", Is::Text), must("password", Is::Text)];

/// A user changes its own password, knowing the old one.
async fn own_password(State(cloud): State<Cloud>, service: Service, Path(id): Path<String>, body: Json) -> Answer {
    let part = body.part("user", PASSWORDS, Extra::Refused)?;
    let (old, new) = (part.text("original_password").unwrap_or_default(), part.text("password").unwrap_or_default());
    let id = Id::<User>::from(id);
    let user = cloud.store.read().await?.get(&id);
    let known = user.as_ref().and_then(|user| user.password.as_ref()).map(|password| password.hash.clone());
    let right = service.passwords.verify(old, known.as_deref()).await?;
    let user = user.filter(|user| right && user.enabled).ok_or_else(Refusal::unauthorized)?;
    if user.has_option("lock_password") {
        let text = "You cannot change your password at this time due to password policy disallowing password changes. \
                    Please contact your administrator to reset your password.";
        return Err(Refusal::invalid(text));
    }
    acceptable(new)?;
    let hash = service.passwords.hash(new).await?;
    cloud.store.transact(move |tx| replace(tx, &id, known.as_deref(), &hash)).await?;
    Ok(no_content())
}

/// Only if the password is still the one that was proven.
fn replace(tx: &mut Tx, id: &Id<User>, proven: Option<&str>, hash: &str) -> Answer<()> {
    let now: Timestamp = tx.now();
    tx.update(id, |user: &mut User| {
        if user.password.as_ref().map(|password| password.hash.as_str()) != proven || !user.enabled {
            return Err(Refusal::new(StatusCode::CONFLICT, "The password was changed by somebody else."));
        }
        user.password = Some(Password { hash: hash.to_owned(), set: now });
        user.tokens_from = now;
        Ok(())
    })?;
    Ok(())
}

async fn list_groups(State(cloud): State<Cloud>, who: Who, Path(id): Path<String>, params: Params) -> Answer {
    let id = Id::<User>::from(id);
    seen(&cloud, &who, &id, "list_groups_for_user").await?;
    let view = cloud.store.read().await?;
    let found = grants::groups_of(&view, &id).into_iter().filter_map(|group| view.get(&group));
    let items = found.map(|group| groups::render(&cloud, &group)).collect();
    Ok(ok(&params.collection(&crate::base(&cloud), &format!("/v3/users/{id}/groups"), "groups", items, &["name"])))
}

async fn list_projects(State(cloud): State<Cloud>, who: Who, Path(id): Path<String>, params: Params) -> Answer {
    let id = Id::<User>::from(id);
    seen(&cloud, &who, &id, "list_user_projects").await?;
    let view = cloud.store.read().await?;
    let items = grants::projects_of(&view, &id).iter().map(|project| projects::render(&cloud, project)).collect();
    let filters = &["name", "enabled", "domain_id"];
    Ok(ok(&params.collection(&crate::base(&cloud), &format!("/v3/users/{id}/projects"), "projects", items, filters)))
}
