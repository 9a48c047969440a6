//! `/quotas`: what projects may have, and what they have.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Map, Value, json};
use unkai_model::identity::Project;
use unkai_model::quota::Quota;
use unkai_model::{Id, Meta};
use unkai_openstack::{Caller, CallerName, Cloud, Routes};
use unkai_store::View;

use crate::Refusal;
use crate::fields::{Fields, invalid};
use crate::resource::{answer, inner};
use crate::verbs::{LIMITS, limit_of};

const SERVICE: &str = "network";

pub fn routes() -> Routes {
    Routes::new()
        .get("/v2.0/quotas", list)
        .get("/v2.0/quotas/tenant", whose)
        .get("/v2.0/quotas/project", whose)
        .get("/v2.0/quotas/{project}", show)
        .put("/v2.0/quotas/{project}", update)
        .delete("/v2.0/quotas/{project}", reset)
        .get("/v2.0/quotas/{project}/default", defaults)
        .get("/v2.0/quotas/{project}/details", details)
        .get("/v2.0/quotas/{project}/details.json", details)
}

fn admin(who: &CallerName, rule: &str) -> Result<(), Refusal> {
    if who.is_admin() { Ok(()) } else { Err(Refusal::policy(rule)) }
}

/// A project may look at its own.
fn reader(who: &CallerName, project: &Id<Project>) -> Result<(), Refusal> {
    if who.may_read(Some(project)) { Ok(()) } else { Err(Refusal::policy("get_quota")) }
}

fn limits(view: &View, project: &Id<Project>) -> Map<String, Value> {
    LIMITS.iter().map(|limit| (limit.resource.to_owned(), json!(limit_of(view, project, limit)))).collect()
}

/// The projects for which something was set.
async fn list(State(cloud): State<Cloud>, Caller(who): Caller) -> Result<Response, Refusal> {
    admin(&who, "get_quota")?;
    let view = cloud.store.read().await?;
    let set = view.all::<Quota>().filter_map(|quota| {
        let project = quota.meta.id.as_str().strip_prefix("network/").filter(|p| *p != "default")?.to_owned();
        let mut shown = limits(&view, &Id::new(project.as_str()));
        shown.insert("tenant_id".into(), json!(project));
        shown.insert("project_id".into(), json!(project));
        Some(Value::Object(shown))
    });
    let set: Vec<Value> = set.collect();
    Ok(answer(StatusCode::OK, &json!({"quotas": set})))
}

/// Whose quota a caller without a project in the path would get.
async fn whose(Caller(who): Caller) -> Result<Response, Refusal> {
    let project = who.require_project()?;
    Ok(answer(StatusCode::OK, &json!({"tenant": {"tenant_id": project.as_str(), "project_id": project.as_str()}})))
}

async fn show(State(cloud): State<Cloud>, Caller(who): Caller, Path(project): Path<String>) -> Result<Response, Refusal> {
    let project = Id::new(project);
    reader(&who, &project)?;
    Ok(answer(StatusCode::OK, &json!({"quota": limits(&cloud.store.read().await?, &project)})))
}

async fn defaults(State(cloud): State<Cloud>, Caller(who): Caller, Path(project): Path<String>) -> Result<Response, Refusal> {
    reader(&who, &Id::new(project))?;
    Ok(answer(StatusCode::OK, &json!({"quota": limits(&cloud.store.read().await?, &Id::new("default"))})))
}

async fn details(State(cloud): State<Cloud>, Caller(who): Caller, Path(project): Path<String>) -> Result<Response, Refusal> {
    let project = Id::new(project);
    reader(&who, &project)?;
    let view = cloud.store.read().await?;
    let detail = |limit: &crate::verbs::Limit| json!({"limit": limit_of(&view, &project, limit), "used": view.tally(limit.tally, project.as_str()), "reserved": 0});
    let shown: Map<String, Value> = LIMITS.iter().map(|limit| (limit.resource.to_owned(), detail(limit))).collect();
    Ok(answer(StatusCode::OK, &json!({"quota": shown})))
}

fn read(bytes: &Bytes) -> Result<(BTreeMap<String, i64>, bool), Refusal> {
    let mut fields = Fields::new(inner(bytes, "quota")?, false);
    let mut set = BTreeMap::new();
    for limit in &LIMITS {
        let Some(value) = fields.take(limit.resource) else { continue };
        let number = value.as_i64().or_else(|| value.as_str().and_then(|t| t.parse().ok())).filter(|n| (-1..=0x7fff_ffff).contains(n));
        let bad = || invalid(limit.resource, format!("'{}' is not an integer of -1 to 2147483647", crate::fields::shown(&value)));
        set.insert(limit.resource.to_owned(), number.ok_or_else(bad)?);
    }
    fields.take("force");
    fields.take("tenant_id");
    fields.take("project_id");
    let checks_usage = fields.flag("check_limit")?.unwrap_or(false);
    fields.finish(&[])?;
    Ok((set, checks_usage))
}

async fn update(State(cloud): State<Cloud>, Caller(who): Caller, Path(project): Path<String>, bytes: Bytes) -> Result<Response, Refusal> {
    admin(&who, "update_quota")?;
    let project = Id::<Project>::new(project);
    let (set, checks_usage) = read(&bytes)?;
    let updated = cloud.store.transact(move |tx| {
        let used = |name: &str| LIMITS.iter().find(|l| l.resource == name).map_or(0, |l| tx.tally(l.tally, project.as_str()));
        if checks_usage && let Some((name, _)) = set.iter().find(|(name, most)| **most >= 0 && **most < used(name)) {
            let text = format!("Change would make usage less than 0 for the following resources: ['{name}'].");
            return Err(Refusal::conflict("InvalidQuotaValue", text));
        }
        let id = Quota::id(SERVICE, &project);
        if tx.get(&id).is_none() {
            tx.insert(Quota { meta: Meta::new(id.clone()), limits: BTreeMap::new() })?;
        }
        tx.update(&id, |quota: &mut Quota| {
            quota.limits.extend(set.clone());
            Ok::<_, Refusal>(())
        })?;
        Ok(json!({"quota": limits(&tx.view(), &project)}))
    });
    Ok(answer(StatusCode::OK, &updated.await?))
}

/// Back to the defaults.
async fn reset(State(cloud): State<Cloud>, Caller(who): Caller, Path(project): Path<String>) -> Result<StatusCode, Refusal> {
    admin(&who, "delete_quota")?;
    let removed = cloud.store.transact(move |tx| {
        let id = Quota::id(SERVICE, &Id::new(project.as_str()));
        if tx.get(&id).is_none() {
            let text = format!("Quota for project {project} could not be found.");
            return Err(Refusal::missing("TenantQuotaNotFound", text));
        }
        tx.delete(&id)?;
        Ok(())
    });
    removed.await?;
    Ok(StatusCode::NO_CONTENT)
}
