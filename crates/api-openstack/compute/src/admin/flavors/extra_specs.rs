//! Extra specs of a flavor: words to the scheduler and the hypervisor.

use std::sync::LazyLock;

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use serde_json::{Map, Value, json};
use unkai_model::compute::Flavor;
use unkai_openstack::{Caller, Cloud, Routes};

use crate::admin::policy;
use crate::body::Body;
use crate::schema::{Schema, object};
use crate::{Fault, Microversion};

pub fn routes() -> Routes {
    Routes::new()
        .get("/v2.1/flavors/{id}/os-extra_specs", index)
        .post("/v2.1/flavors/{id}/os-extra_specs", create)
        .get("/v2.1/flavors/{id}/os-extra_specs/{key}", show)
        .put("/v2.1/flavors/{id}/os-extra_specs/{key}", update)
        .delete("/v2.1/flavors/{id}/os-extra_specs/{key}", delete)
}

/// Values are texts; numbers are taken as such.
fn value() -> Schema {
    Schema::Union(vec![Schema::string(0, 255), Schema::Integer { min: i64::MIN, max: i64::MAX }])
}
static CREATE: LazyLock<Schema> = LazyLock::new(|| Schema::wrapped("extra_specs", object().others(is_key, value())));
static UPDATE: LazyLock<Schema> = LazyLock::new(|| object().others(is_key, value()).sizes(1, Some(1)).into());

fn is_key(key: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':' | '.' | ' ');
    (1..=255).contains(&key.len()) && key.chars().all(allowed)
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

async fn index(State(cloud): State<Cloud>, caller: Caller, Path(id): Path<String>) -> Result<Json<Value>, Fault> {
    policy::reader(&caller, caller.project.as_ref(), "os_compute_api:os-flavor-extra-specs:index")?;
    let flavor = super::find(&cloud.store.read().await?, &caller, &id)?;
    Ok(Json(json!({ "extra_specs": flavor.extra_specs })))
}

async fn show(State(cloud): State<Cloud>, caller: Caller, Path((id, key)): Path<(String, String)>) -> Result<Json<Value>, Fault> {
    policy::reader(&caller, caller.project.as_ref(), "os_compute_api:os-flavor-extra-specs:show")?;
    let flavor = super::find(&cloud.store.read().await?, &caller, &id)?;
    let value = flavor.extra_specs.get(&key).ok_or_else(|| absent(&id, &key))?;
    Ok(Json(json!({ key: value })))
}

async fn create(
    State(cloud): State<Cloud>,
    caller: Caller,
    version: Microversion,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Value>, Fault> {
    let body = body.validated(&CREATE, version)?;
    policy::admin(&caller, "os_compute_api:os-flavor-extra-specs:create")?;
    let specs = body["extra_specs"].as_object().cloned().unwrap_or_default();
    merge(&cloud, version, id, specs).await?;
    Ok(Json(body))
}

async fn update(
    State(cloud): State<Cloud>,
    caller: Caller,
    version: Microversion,
    Path((id, key)): Path<(String, String)>,
    body: Body,
) -> Result<Json<Value>, Fault> {
    let body = body.validated(&UPDATE, version)?;
    policy::admin(&caller, "os_compute_api:os-flavor-extra-specs:update")?;
    let specs = body.as_object().cloned().unwrap_or_default();
    if !specs.contains_key(&key) {
        return Err(Fault::bad_request("Request body and URI mismatch"));
    }
    merge(&cloud, version, id, specs).await?;
    Ok(Json(body))
}

async fn delete(State(cloud): State<Cloud>, caller: Caller, Path((id, key)): Path<(String, String)>) -> Result<StatusCode, Fault> {
    policy::admin(&caller, "os_compute_api:os-flavor-extra-specs:delete")?;
    let change = move |flavor: &mut Flavor| match flavor.extra_specs.remove(&key) {
        Some(_) => Ok(()),
        None => Err(absent(flavor.meta.id.as_str(), &key)),
    };
    super::change_flavor(&cloud, id, change).await?;
    Ok(StatusCode::OK)
}

async fn merge(cloud: &Cloud, version: Microversion, id: String, specs: Map<String, Value>) -> Result<(), Fault> {
    if version.at_least(86) {
        for (key, value) in &specs {
            super::known_specs::check(key, &text(value)).map_err(Fault::bad_request)?;
        }
    }
    let change = move |flavor: &mut Flavor| {
        flavor.extra_specs.extend(specs.iter().map(|(key, value)| (key.clone(), text(value))));
        Ok(())
    };
    super::change_flavor(cloud, id, change).await.map(drop)
}

fn absent(id: &str, key: &str) -> Fault {
    Fault::not_found(format!("Flavor {id} has no extra specs with key {key}."))
}
