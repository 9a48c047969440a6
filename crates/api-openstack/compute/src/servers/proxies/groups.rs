//! `os-security-groups`.

use std::sync::{Arc, LazyLock};

use axum::Json;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};
use unkai_model::Id;
use unkai_model::network::{Port, SecurityGroup, SecurityGroupRule, Standard};
use unkai_network::verbs;
use unkai_store::View;

use super::super::create::text;
use super::super::cx::Cx;
use super::{rules, still_there, uuid, writer};
use crate::Fault;
use crate::body::Body;
use crate::query::{self, Query};
use crate::schema::{Schema, object};

static GROUP: LazyLock<Schema> = LazyLock::new(|| {
    let group = object().required("name", Schema::string(1, 255)).optional("description", Schema::string(0, 255).or_null());
    Schema::wrapped("security_group", group)
});

/// A group in the form that compute had for groups of its own.
pub fn body(view: &View, group: &SecurityGroup) -> Value {
    let all = view.by_index::<SecurityGroupRule>("group", group.meta.id.as_str());
    json!({
        "id": group.meta.id,
        "name": group.meta.name,
        "description": group.standard.description,
        "tenant_id": group.meta.project,
        "rules": all.filter_map(|rule| rules::body(view, &rule)).collect::<Vec<_>>(),
    })
}

pub fn find(cx: &Cx, view: &View, id: &str) -> Result<Arc<SecurityGroup>, Fault> {
    uuid("Security group", id)?;
    let found = view.get(&Id::<SecurityGroup>::new(id)).filter(|group| cx.sees(group.meta.project.as_ref()));
    found.ok_or_else(|| Fault::not_found(format!("Security group {id} not found.")))
}

pub async fn index(cx: Cx, query: Query) -> Result<Response, Fault> {
    still_there(&cx)?;
    let project = cx.caller.require_project()?.clone();
    let own = project.clone();
    // A project's first look makes its default group.
    let view = cx
        .cloud
        .store
        .transact(move |tx| {
            verbs::default_security_group(tx, &own)?;
            Ok::<_, Fault>(tx.view())
        })
        .await?;
    let everybody = cx.is_admin() && query.get("all_tenants").and_then(query::truth) == Some(true);
    let groups: Vec<Arc<SecurityGroup>> =
        if everybody { view.all().collect() } else { view.by_index("project", project.as_str()).collect() };
    let offset = query.get("offset").and_then(|text| text.parse().ok()).unwrap_or(0);
    let page = groups.iter().skip(offset).take(query.limit()?);
    Ok(Json(json!({ "security_groups": page.map(|group| body(&view, group)).collect::<Vec<_>>() })).into_response())
}

pub async fn show(cx: Cx, Path(id): Path<String>) -> Result<Response, Fault> {
    still_there(&cx)?;
    let view = cx.view().await?;
    Ok(Json(json!({ "security_group": body(&view, &*find(&cx, &view, &id)?) })).into_response())
}

pub async fn create(cx: Cx, request: Body) -> Result<Response, Fault> {
    still_there(&cx)?;
    let request = request.validated(&GROUP, cx.version)?;
    let project = writer(&cx, "os_compute_api:os-security-groups:create")?;
    let wanted = &request["security_group"];
    let (name, description) = (text(wanted, "name").unwrap_or_default(), text(wanted, "description").unwrap_or_default());
    let made = cx
        .cloud
        .store
        .transact(move |tx| {
            let standard = Standard { description: description.clone(), ..Standard::default() };
            let group = verbs::create_security_group(tx, &project, &name, &standard, true)?;
            Ok::<_, Fault>(body(&tx.view(), &group))
        })
        .await?;
    Ok(Json(json!({ "security_group": made })).into_response())
}

pub async fn update(cx: Cx, Path(id): Path<String>, request: Body) -> Result<Response, Fault> {
    still_there(&cx)?;
    let request = request.validated(&GROUP, cx.version)?;
    writer(&cx, "os_compute_api:os-security-groups:update")?;
    let (caller, wanted) = (cx.clone(), request["security_group"].clone());
    let changed = cx
        .cloud
        .store
        .transact(move |tx| {
            let group = find(&caller, &tx.view(), &id)?;
            if group.is_default {
                return Err(Fault::bad_request(format!("Unable to update system group '{}'", group.meta.name)));
            }
            let group = tx.update(&group.meta.id, |group: &mut SecurityGroup| {
                group.meta.name = text(&wanted, "name").unwrap_or_default();
                group.standard.description = text(&wanted, "description").unwrap_or_default();
                Ok::<_, Fault>(())
            })?;
            Ok(body(&tx.view(), &group))
        })
        .await?;
    Ok(Json(json!({ "security_group": changed })).into_response())
}

pub async fn delete(cx: Cx, Path(id): Path<String>) -> Result<StatusCode, Fault> {
    still_there(&cx)?;
    writer(&cx, "os_compute_api:os-security-groups:delete")?;
    let caller = cx.clone();
    cx.cloud
        .store
        .transact(move |tx| {
            let group = find(&caller, &tx.view(), &id)?;
            let used = tx.by_index::<Port>("security-group", group.meta.id.as_str()).next().is_some();
            if used || group.is_default {
                return Err(Fault::bad_request("Security group is still in use"));
            }
            Ok::<_, Fault>(verbs::delete_security_group(tx, &group.meta.id)?)
        })
        .await?;
    Ok(StatusCode::ACCEPTED)
}
