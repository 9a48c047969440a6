//! `/os-quota-class-sets`: the class `default` is what every project has that was given nothing else.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Map, Value, json};
use unkai_model::Id;
use unkai_model::quota::Quota;
use unkai_openstack::{Caller, Cloud, Routes};
use unkai_store::{Tx, View};

use super::{Resource, default_limit, properties, set, shown};
use crate::admin::policy;
use crate::body::Body;
use crate::schema::{Schema, as_int};
use crate::{Fault, Microversion};

pub fn routes() -> Routes {
    Routes::new().get("/v2.1/os-quota-class-sets/{class}", show).put("/v2.1/os-quota-class-sets/{class}", update)
}

fn last(resource: &Resource) -> u16 {
    resource.last_in_class
}
static UPDATE: LazyLock<Schema> = LazyLock::new(|| Schema::wrapped("quota_class_set", properties(last)));

/// Groups of servers show from 2.50 on.
fn is_shown(resource: &Resource, version: Microversion) -> bool {
    version.at_least(50) || !matches!(resource.name, "server_groups" | "server_group_members")
}

/// Classes other than `default` limit nobody; they are kept beside it.
fn id(class: &str) -> Id<Quota> {
    if class == "default" { Id::new("compute/default") } else { Id::new(format!("compute-class/{class}")) }
}

fn render(view: &View, class: &str, version: Microversion) -> Map<String, Value> {
    let quota = view.get(&id(class));
    let limit = |resource: &Resource| {
        let own = quota.as_ref().and_then(|quota| quota.limits.get(resource.name).copied());
        own.unwrap_or_else(|| default_limit(view, resource))
    };
    let resources = shown(version, last).filter(|resource| is_shown(resource, version));
    resources.map(|resource| (resource.name.to_owned(), json!(limit(resource)))).collect()
}

async fn show(State(cloud): State<Cloud>, caller: Caller, version: Microversion, Path(class): Path<String>) -> Result<Json<Value>, Fault> {
    policy::admin(&caller, "os_compute_api:os-quota-class-sets:show")?;
    let mut set = render(&cloud.store.read().await?, &class, version);
    set.insert("id".into(), json!(class));
    Ok(Json(json!({ "quota_class_set": set })))
}

async fn update(
    State(cloud): State<Cloud>,
    caller: Caller,
    version: Microversion,
    Path(class): Path<String>,
    body: Body,
) -> Result<Json<Value>, Fault> {
    let body = body.validated(&UPDATE, version)?;
    policy::admin(&caller, "os_compute_api:os-quota-class-sets:update")?;
    let wanted = body["quota_class_set"].as_object().into_iter().flatten();
    let limits: BTreeMap<String, i64> = wanted.filter_map(|(name, limit)| Some((name.clone(), as_int(limit)?))).collect();
    let quota = id(&class);
    cloud.store.transact(move |tx: &mut Tx| set(tx, &quota, &limits)).await?;
    Ok(Json(json!({ "quota_class_set": render(&cloud.store.view(), &class, version) })))
}
