//! `/os-security-groups`, with their rules inside. Only rules about what comes in are shown.

use std::sync::{Arc, LazyLock};

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use serde_json::{Value, json};
use unkai_model::Id;
use unkai_model::network::{Direction, SecurityGroup, SecurityGroupRule, Standard};
use unkai_network::verbs;
use unkai_openstack::{Caller, Cloud, Routes};
use unkai_store::{Tx, View};

use super::{refused, rules};
use crate::admin::policy;
use crate::body::Body;
use crate::query::{MAX_PAGE, Query, truth};
use crate::schema::{Schema, is_uuid, object};
use crate::{Fault, Microversion};

pub fn routes() -> Routes {
    Routes::new()
        .get("/v2.1/os-security-groups", index)
        .post("/v2.1/os-security-groups", create)
        .get("/v2.1/os-security-groups/{id}", show)
        .put("/v2.1/os-security-groups/{id}", update)
        .delete("/v2.1/os-security-groups/{id}", delete)
}

static BODY: LazyLock<Schema> = LazyLock::new(|| {
    let text = || Schema::string(0, 255);
    Schema::wrapped("security_group", object().required("name", Schema::string(1, 255)).optional("description", text().or_null()))
});
static QUERY: LazyLock<Schema> = LazyLock::new(|| {
    let number = || Schema::count().many();
    object().optional("limit", number()).optional("offset", number()).optional("all_tenants", Schema::Any).open().into()
});

pub fn render(view: &View, group: &SecurityGroup) -> Value {
    let mut rules: Vec<Arc<SecurityGroupRule>> = view.by_index("group", group.meta.id.as_str()).collect();
    rules.retain(|rule| rule.direction == Direction::Ingress);
    json!({
        "id": group.meta.id,
        "name": group.meta.name,
        "description": group.standard.description,
        "tenant_id": group.meta.project,
        "rules": rules.iter().map(|rule| rules::render(view, rule)).collect::<Vec<_>>(),
    })
}

/// The group, when the caller's project has it, or he is an administrator.
pub fn find(view: &View, caller: &Caller, id: &str) -> Result<Arc<SecurityGroup>, Fault> {
    if !is_uuid(id) {
        return Err(Fault::bad_request("Security group id should be uuid"));
    }
    let group = view.get::<SecurityGroup>(&Id::new(id)).filter(|group| caller.is_admin() || caller.owns(group.meta.project.as_ref()));
    group.ok_or_else(|| Fault::not_found(format!("Security group {id} not found.")))
}

async fn index(State(cloud): State<Cloud>, caller: Caller, version: Microversion, query: Query) -> Result<Json<Value>, Fault> {
    version.require(..36)?;
    query.check(&QUERY, version)?;
    policy::reader(&caller, caller.project.as_ref(), "os_compute_api:os-security-groups:get")?;
    let view = cloud.store.read().await?;
    let all = caller.is_admin() && query.get("all_tenants").is_some_and(|text| text.is_empty() || truth(text) == Some(true));
    let mut groups: Vec<Arc<SecurityGroup>> = match &caller.project {
        Some(project) if !all => view.by_index("project", project.as_str()).collect(),
        _ => view.all().collect(),
    };
    groups.sort_by(|a, b| (&a.meta.project, &a.meta.name).cmp(&(&b.meta.project, &b.meta.name)));
    let offset = query.get("offset").and_then(|text| text.parse().ok()).unwrap_or(0);
    let limit = if query.limit()? == 0 { MAX_PAGE } else { query.limit()? };
    let shown: Vec<_> = groups.iter().skip(offset).take(limit).map(|group| render(&view, group)).collect();
    Ok(Json(json!({ "security_groups": shown })))
}

async fn show(State(cloud): State<Cloud>, caller: Caller, version: Microversion, Path(id): Path<String>) -> Result<Json<Value>, Fault> {
    version.require(..36)?;
    let view = cloud.store.read().await?;
    let group = find(&view, &caller, &id)?;
    policy::reader(&caller, group.meta.project.as_ref(), "os_compute_api:os-security-groups:show")?;
    Ok(Json(json!({ "security_group": render(&view, &group) })))
}

fn texts(body: &Value) -> (String, String) {
    let text = |key: &str| body["security_group"][key].as_str().unwrap_or("").to_owned();
    (text("name"), text("description"))
}

async fn create(State(cloud): State<Cloud>, caller: Caller, version: Microversion, body: Body) -> Result<Json<Value>, Fault> {
    version.require(..36)?;
    let body = body.validated(&BODY, version)?;
    let project = caller.require_project()?.clone();
    policy::member(&caller, Some(&project), "os_compute_api:os-security-groups:create")?;
    let (name, description) = texts(&body);
    let transaction = move |tx: &mut Tx| {
        let standard = Standard { description: description.clone(), ..Standard::default() };
        let group = verbs::create_security_group(tx, &project, &name, &standard, true).map_err(refused)?;
        Ok::<_, Fault>(json!({ "security_group": render(&tx.view(), &group) }))
    };
    cloud.store.transact(transaction).await.map(Json)
}

async fn update(
    State(cloud): State<Cloud>,
    caller: Caller,
    version: Microversion,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Value>, Fault> {
    version.require(..36)?;
    let body = body.validated(&BODY, version)?;
    let (name, description) = texts(&body);
    let transaction = move |tx: &mut Tx| {
        let group = find(&tx.view(), &caller, &id)?;
        policy::member(&caller, group.meta.project.as_ref(), "os_compute_api:os-security-groups:update")?;
        if group.is_default && name != group.meta.name {
            return Err(Fault::bad_request("Unable to update system group 'default'"));
        }
        let group = tx.update(&group.meta.id, |group: &mut SecurityGroup| {
            group.meta.name = name.clone();
            group.standard.description = description.clone();
            Ok::<_, Fault>(())
        })?;
        Ok(json!({ "security_group": render(&tx.view(), &group) }))
    };
    cloud.store.transact(transaction).await.map(Json)
}

async fn delete(State(cloud): State<Cloud>, caller: Caller, version: Microversion, Path(id): Path<String>) -> Result<StatusCode, Fault> {
    version.require(..36)?;
    let transaction = move |tx: &mut Tx| {
        let group = find(&tx.view(), &caller, &id)?;
        policy::member(&caller, group.meta.project.as_ref(), "os_compute_api:os-security-groups:delete")?;
        if group.is_default {
            return Err(Fault::bad_request("Unable to delete system group 'default'"));
        }
        verbs::delete_security_group(tx, &group.meta.id).map_err(refused)?;
        Ok(StatusCode::ACCEPTED)
    };
    cloud.store.transact(transaction).await
}
