//! `/os-quota-sets`: the limits of a project, or of one of its users (`?user_id=`).

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use serde_json::{Map, Value, json};
use unkai_model::Id;
use unkai_model::identity::Project;
use unkai_model::quota::Quota;
use unkai_openstack::{Caller, Cloud, Routes};
use unkai_store::{Tx, View};

use super::{RESOURCES, Resource, default_limit, limit, properties, set, shown, user_id};
use crate::admin::page::QuerySchema;
use crate::admin::policy;
use crate::body::Body;
use crate::query::Query;
use crate::schema::{Schema, as_bool, as_int, object};
use crate::{Fault, Microversion};

pub fn routes() -> Routes {
    Routes::new()
        .get("/v2.1/os-quota-sets/{project}", show)
        .put("/v2.1/os-quota-sets/{project}", update)
        .delete("/v2.1/os-quota-sets/{project}", delete)
        .get("/v2.1/os-quota-sets/{project}/detail", detail)
        .get("/v2.1/os-quota-sets/{project}/defaults", defaults)
}

fn last(resource: &Resource) -> u16 {
    resource.last
}
static UPDATE: LazyLock<Schema> = LazyLock::new(|| Schema::wrapped("quota_set", properties(last).optional("force", Schema::Boolean)));
static QUERY: LazyLock<QuerySchema> =
    LazyLock::new(|| QuerySchema::new(object().optional("user_id", Schema::string(0, usize::MAX).many())));

fn render(version: Microversion, id: Option<&Id<Project>>, value: impl Fn(&Resource) -> Value) -> Json<Value> {
    let mut set: Map<String, Value> = shown(version, last).map(|resource| (resource.name.to_owned(), value(resource))).collect();
    if let Some(id) = id {
        set.insert("id".into(), json!(id));
    }
    Json(json!({ "quota_set": set }))
}

async fn show(
    State(cloud): State<Cloud>,
    caller: Caller,
    version: Microversion,
    Path(project): Path<String>,
    query: Query,
) -> Result<Json<Value>, Fault> {
    QUERY.check(&query, version)?;
    policy::reader(&caller, Some(&Id::new(project.as_str())), "os_compute_api:os-quota-sets:show")?;
    let view = cloud.store.read().await?;
    let project = policy::known_project(&view, &project)?;
    Ok(render(version, Some(&project), |resource| json!(limit(&view, &project, query.get("user_id"), resource.name))))
}

async fn detail(
    State(cloud): State<Cloud>,
    caller: Caller,
    version: Microversion,
    Path(project): Path<String>,
    query: Query,
) -> Result<Json<Value>, Fault> {
    QUERY.check(&query, version)?;
    policy::reader(&caller, Some(&Id::new(project.as_str())), "os_compute_api:os-quota-sets:detail")?;
    let view = cloud.store.read().await?;
    let project = policy::known_project(&view, &project)?;
    let user = query.get("user_id");
    Ok(render(version, Some(&project), |resource| {
        let in_use = used(&view, &project, user, resource);
        json!({ "limit": limit(&view, &project, user, resource.name), "in_use": in_use, "reserved": 0 })
    }))
}

fn used(view: &View, project: &Id<Project>, user: Option<&str>, resource: &Resource) -> i64 {
    match user {
        Some(user) => resource.in_use_by(view, project, user),
        None => resource.in_use(view, project),
    }
}

async fn defaults(
    State(cloud): State<Cloud>,
    caller: Caller,
    version: Microversion,
    Path(project): Path<String>,
) -> Result<Json<Value>, Fault> {
    policy::allow(!caller.roles.is_empty(), "os_compute_api:os-quota-sets:defaults")?;
    let view = cloud.store.read().await?;
    let project = policy::known_project(&view, &project)?;
    Ok(render(version, Some(&project), |resource| json!(default_limit(&view, resource))))
}

async fn update(
    State(cloud): State<Cloud>,
    caller: Caller,
    version: Microversion,
    Path(project): Path<String>,
    query: Query,
    body: Body,
) -> Result<Json<Value>, Fault> {
    QUERY.check(&query, version)?;
    let body = body.validated(&UPDATE, version)?;
    policy::admin(&caller, "os_compute_api:os-quota-sets:update")?;
    let project = policy::known_project(&cloud.store.read().await?, &project)?;
    let wanted = body["quota_set"].as_object().cloned().unwrap_or_default();
    let force = wanted.get("force").is_some_and(as_bool);
    let wanted: BTreeMap<String, i64> =
        wanted.iter().filter(|(name, _)| *name != "force").filter_map(|(name, limit)| Some((name.clone(), as_int(limit)?))).collect();
    let user = query.get("user_id").map(str::to_owned);
    let (owner, of) = (user.clone(), project.clone());
    let transaction = move |tx: &mut Tx| {
        if !force {
            check(&tx.view(), &of, owner.as_deref(), &wanted)?;
        }
        let id = owner.as_ref().map_or_else(|| Quota::id("compute", &of), |user| user_id(&of, user));
        set(tx, &id, &wanted)
    };
    cloud.store.transact(transaction).await?;
    let view = cloud.store.view();
    Ok(render(version, None, |resource| json!(limit(&view, &project, user.as_deref(), resource.name))))
}

/// A limit covers what is in use already, and a user's is within that of his project.
fn check(view: &View, project: &Id<Project>, user: Option<&str>, wanted: &BTreeMap<String, i64>) -> Result<(), Fault> {
    let unlimited = |limit: i64| if limit == -1 { i64::MAX } else { limit };
    for resource in &RESOURCES {
        let Some(&limit) = wanted.get(resource.name) else { continue };
        let (name, least) = (resource.name, used(view, project, user, resource));
        if unlimited(limit) < least {
            let text = format!("Quota limit {limit} for {name} must be greater than or equal to already used and reserved {least}.");
            return Err(Fault::bad_request(text));
        }
        let most = user.map_or(-1, |_| self::limit(view, project, None, name));
        if unlimited(limit) > unlimited(most) {
            return Err(Fault::bad_request(format!("Quota limit {limit} for {name} must be less than or equal to {most}.")));
        }
    }
    Ok(())
}

async fn delete(
    State(cloud): State<Cloud>,
    caller: Caller,
    version: Microversion,
    Path(project): Path<String>,
    query: Query,
) -> Result<StatusCode, Fault> {
    QUERY.check(&query, version)?;
    policy::admin(&caller, "os_compute_api:os-quota-sets:delete")?;
    let project = Id::<Project>::new(project);
    let user = query.get("user_id").map(str::to_owned);
    let transaction = move |tx: &mut Tx| {
        // Without a user: what was set for the project and for every one of its users.
        let prefix = format!("compute/{project}/");
        let belongs = |quota: &Quota| match &user {
            Some(user) => quota.meta.id == user_id(&project, user),
            None => quota.meta.id == Quota::id("compute", &project) || quota.meta.id.as_str().starts_with(&prefix),
        };
        let ids: Vec<Id<Quota>> = tx.all::<Quota>().filter(|quota| belongs(quota)).map(|quota| quota.meta.id.clone()).collect();
        for id in &ids {
            tx.delete(id)?;
        }
        Ok::<_, Fault>(StatusCode::ACCEPTED)
    };
    cloud.store.transact(transaction).await
}
