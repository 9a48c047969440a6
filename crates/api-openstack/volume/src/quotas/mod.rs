//! Quotas: `/os-quota-sets` of projects, `/os-quota-class-sets` of everybody, and `/limits`, the caller's own.

mod limits;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Map, Value, json};
use unkai_model::identity::Project;
use unkai_model::quota::Quota;
use unkai_model::volume::VolumeType;
use unkai_model::{Id, Meta};
use unkai_openstack::Routes;
use unkai_openstack::web::schema::{Schema, as_bool, as_int, object};
use unkai_openstack::web::{Body, Fault, Query, policy};
use unkai_store::{Tx, View};

use crate::cx::Cx;
use crate::verbs::limits::{BY_TYPE, RESOURCES, limit};

pub fn routes() -> Routes {
    Routes::new()
        .get("/os-quota-sets/{id}", show)
        .put("/os-quota-sets/{id}", update)
        .delete("/os-quota-sets/{id}", delete)
        .get("/os-quota-sets/{id}/defaults", defaults)
        .get("/os-quota-class-sets/{id}", show_class)
        .put("/os-quota-class-sets/{id}", update_class)
        .merge(limits::routes())
}

/// What can be limited now: of each type there are limits too.
fn names(view: &View) -> Vec<String> {
    let of_types = view.all::<VolumeType>().flat_map(|kind| BY_TYPE.map(|resource| format!("{resource}_{}", kind.meta.name)));
    RESOURCES.iter().map(|(name, _)| (*name).to_owned()).filter(|name| name != "consistencygroups").chain(of_types).collect()
}

fn set(view: &View, value: impl Fn(&str) -> Value) -> Map<String, Value> {
    names(view).into_iter().map(|name| (name.clone(), value(&name))).collect()
}

/// How much of a resource a project has.
fn in_use(view: &View, project: &Id<Project>, name: &str) -> i64 {
    let sum = |resource: &str, key: &str| match resource {
        "volumes" => view.tally("volumes", key),
        "gigabytes" => view.tally("gigabytes", key),
        "snapshots" => view.tally("snapshots", key),
        "backups" => view.tally("backups", key),
        "backup_gigabytes" => view.tally("backup_gigabytes", key),
        _ => 0,
    };
    if RESOURCES.iter().any(|(known, _)| *known == name) {
        return sum(name, project.as_str());
    }
    let of_type = name.split_once('_').and_then(|(resource, kind)| Some((resource, view.holder::<VolumeType>("volume-type-name", kind)?)));
    of_type.map_or(0, |(resource, kind)| sum(resource, &format!("{project}/{kind}")))
}

/// The limit of everybody who has none of his own.
fn everybodys(view: &View, name: &str) -> i64 {
    let set = view.get::<Quota>(&Id::new("volume/default")).and_then(|quota| quota.limits.get(name).copied());
    set.unwrap_or_else(|| RESOURCES.iter().find(|(known, _)| *known == name).map_or(-1, |(_, default)| *default))
}

fn may_see(cx: &Cx) -> Result<Id<Project>, Fault> {
    let project = cx.id::<Project>();
    policy::reader(&cx.caller, Some(&project), "volume_extension:quotas:show")?;
    Ok(project)
}

async fn show(cx: Cx, query: Query) -> Result<Json<Value>, Fault> {
    let project = may_see(&cx)?;
    let view = cx.view().await?;
    let usage = query.get("usage").is_some_and(|text| as_bool(&json!(text)));
    let mut shown = set(&view, |name| {
        let most = limit(&view, &project, name);
        match usage {
            true => json!({ "limit": most, "in_use": in_use(&view, &project, name), "reserved": 0 }),
            false => json!(most),
        }
    });
    shown.insert("id".into(), json!(project));
    Ok(Json(json!({ "quota_set": shown })))
}

async fn defaults(cx: Cx) -> Result<Json<Value>, Fault> {
    let project = may_see(&cx)?;
    let view = cx.view().await?;
    let mut shown = set(&view, |name| json!(everybodys(&view, name)));
    shown.insert("id".into(), json!(project));
    Ok(Json(json!({ "quota_set": shown })))
}

fn schema(key: &'static str) -> Schema {
    let number = || Schema::Integer { min: -1, max: i64::from(i32::MAX) };
    let set = object().optional("tenant_id", Schema::Any).optional("skip_validation", Schema::Any).others(|_| true, number());
    Schema::wrapped(key, set)
}

static UPDATE: LazyLock<Schema> = LazyLock::new(|| schema("quota_set"));
static UPDATE_CLASS: LazyLock<Schema> = LazyLock::new(|| schema("quota_class_set"));

/// Writes limits into the document of that id, which is made when it is the first one.
async fn write(cx: &Cx, id: Id<Quota>, body: Value) -> Result<(), Fault> {
    cx.store()
        .transact(move |tx: &mut Tx| {
            let said = body.as_object().into_iter().flatten().filter(|(key, _)| !["tenant_id", "skip_validation"].contains(&key.as_str()));
            let limits: BTreeMap<String, i64> = said.filter_map(|(name, limit)| Some((name.clone(), as_int(limit)?))).collect();
            let known = names(&tx.view());
            let odd: Vec<&str> = limits.keys().filter(|name| !known.contains(name)).map(String::as_str).collect();
            if !odd.is_empty() {
                return Err(Fault::bad_request(format!("Invalid input received: Bad key(s) in quota set: {}", odd.join(","))));
            }
            match tx.get(&id) {
                Some(_) => {
                    tx.update(&id, |quota: &mut Quota| {
                        quota.limits.extend(limits);
                        Ok::<_, Fault>(())
                    })?;
                }
                None => drop(tx.insert(Quota { meta: Meta::new(id.clone()), limits })?),
            }
            Ok(())
        })
        .await
}

async fn update(cx: Cx, body: Body) -> Result<Json<Value>, Fault> {
    let body = body.validated(&UPDATE, cx.version)?["quota_set"].take();
    cx.require_admin("volume_extension:quotas:update")?;
    let project = cx.id::<Project>();
    write(&cx, Quota::id("volume", &project), body).await?;
    let view = cx.store().view();
    Ok(Json(json!({ "quota_set": set(&view, |name| json!(limit(&view, &project, name))) })))
}

async fn delete(cx: Cx) -> Result<Response, Fault> {
    cx.require_admin("volume_extension:quotas:delete")?;
    let id = Quota::id("volume", &cx.id::<Project>());
    cx.store()
        .transact(move |tx: &mut Tx| match tx.get(&id) {
            Some(_) => tx.delete(&id).map(drop),
            None => Ok(()),
        })
        .await?;
    Ok(StatusCode::OK.into_response())
}

/// Classes other than `default` limit nobody; they are kept beside it.
fn class(name: &str) -> Id<Quota> {
    if name == "default" { Id::new("volume/default") } else { Id::new(format!("volume-class/{name}")) }
}

fn render_class(view: &View, name: &str) -> Map<String, Value> {
    let quota = view.get(&class(name));
    let own = |name: &str| quota.as_ref().and_then(|quota| quota.limits.get(name).copied());
    set(view, |name| json!(own(name).unwrap_or_else(|| everybodys(view, name))))
}

async fn show_class(cx: Cx) -> Result<Json<Value>, Fault> {
    cx.require_admin("volume_extension:quota_classes:get")?;
    let mut shown = render_class(&cx.view().await?, cx.param("id"));
    shown.insert("id".into(), json!(cx.param("id")));
    Ok(Json(json!({ "quota_class_set": shown })))
}

async fn update_class(cx: Cx, body: Body) -> Result<Json<Value>, Fault> {
    let body = body.validated(&UPDATE_CLASS, cx.version)?["quota_class_set"].take();
    cx.require_admin("volume_extension:quota_classes:update")?;
    write(&cx, class(cx.param("id")), body).await?;
    Ok(Json(json!({ "quota_class_set": render_class(&cx.store().view(), cx.param("id")) })))
}
