//! Which projects may use a flavor that is not public.

use std::sync::LazyLock;

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};
use unkai_model::compute::Flavor;
use unkai_openstack::{Caller, Cloud};

use crate::admin::policy;
use crate::body::Body;
use crate::schema::{Schema, object};
use crate::{Fault, Microversion};

fn tenant() -> Schema {
    object().required("tenant", Schema::string(1, 255)).into()
}
static ADD: LazyLock<Schema> = LazyLock::new(|| Schema::wrapped("addTenantAccess", tenant()));
static REMOVE: LazyLock<Schema> = LazyLock::new(|| Schema::wrapped("removeTenantAccess", tenant()));

fn render(flavor: &Flavor) -> Json<Value> {
    let list = flavor.access.iter().map(|project| json!({ "flavor_id": flavor.meta.id, "tenant_id": project }));
    Json(json!({ "flavor_access": list.collect::<Vec<_>>() }))
}

pub async fn index(State(cloud): State<Cloud>, caller: Caller, Path(id): Path<String>) -> Result<Json<Value>, Fault> {
    policy::admin(&caller, "os_compute_api:os-flavor-access")?;
    let flavor = super::find(&cloud.store.read().await?, &caller, &id)?;
    if flavor.public {
        return Err(Fault::not_found("Access list not available for public flavors."));
    }
    Ok(render(&flavor))
}

pub async fn action(
    State(cloud): State<Cloud>,
    caller: Caller,
    version: Microversion,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Value>, Fault> {
    let body = body.unchecked();
    match body.as_object().and_then(|map| map.keys().next()).map(String::as_str) {
        Some("addTenantAccess") => add(&cloud, &caller, version, id, &body).await,
        Some("removeTenantAccess") => remove(&cloud, &caller, version, id, &body).await,
        Some(name) => Err(Fault::bad_request(format!("There is no such action: {name}"))),
        None => Err(Fault::bad_request("Malformed request body")),
    }
}

async fn add(cloud: &Cloud, caller: &Caller, version: Microversion, id: String, body: &Value) -> Result<Json<Value>, Fault> {
    ADD.check_body(body, version)?;
    policy::admin(caller, "os_compute_api:os-flavor-access:add_tenant_access")?;
    let project = policy::known_project(&cloud.store.read().await?, body["addTenantAccess"]["tenant"].as_str().unwrap_or(""))?;
    let change = move |flavor: &mut Flavor| {
        if flavor.public && version.at_least(7) {
            return Err(Fault::conflict("Can not add access to a public flavor."));
        }
        if !flavor.access.insert(project.clone()) {
            let id = &flavor.meta.id;
            return Err(Fault::conflict(format!("Flavor access already exists for flavor {id} and project {project} combination.")));
        }
        Ok(())
    };
    super::change_flavor(cloud, id, change).await.map(|flavor| render(&flavor))
}

async fn remove(cloud: &Cloud, caller: &Caller, version: Microversion, id: String, body: &Value) -> Result<Json<Value>, Fault> {
    REMOVE.check_body(body, version)?;
    policy::admin(caller, "os_compute_api:os-flavor-access:remove_tenant_access")?;
    let project = policy::known_project(&cloud.store.read().await?, body["removeTenantAccess"]["tenant"].as_str().unwrap_or(""))?;
    let change = move |flavor: &mut Flavor| {
        if !flavor.access.remove(&project) {
            return Err(Fault::not_found(format!("Flavor access not found for {} / {project} combination.", flavor.meta.id)));
        }
        Ok(())
    };
    super::change_flavor(cloud, id, change).await.map(|flavor| render(&flavor))
}
