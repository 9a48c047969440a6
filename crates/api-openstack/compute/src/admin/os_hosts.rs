//! `/os-hosts`: the oldest view of hosts, gone from version 2.43 on.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};
use unkai_model::Id;
use unkai_model::compute::{Host, Server};
use unkai_openstack::{Caller, Cloud, Routes};
use unkai_store::{Tx, View};

use super::policy;
use super::services::services;
use crate::body::Body;
use crate::query::Query;
use crate::schema::{Schema, object};
use crate::{Fault, Microversion};

pub fn routes() -> Routes {
    Routes::new()
        .get("/v2.1/os-hosts", index)
        .get("/v2.1/os-hosts/{name}", show)
        .put("/v2.1/os-hosts/{name}", update)
        .get("/v2.1/os-hosts/{name}/startup", power)
        .get("/v2.1/os-hosts/{name}/shutdown", power)
        .get("/v2.1/os-hosts/{name}/reboot", power)
}

static UPDATE: LazyLock<Schema> = LazyLock::new(|| {
    let switch = || Schema::one_of(["enable", "disable"]);
    object().optional("status", switch()).optional("maintenance_mode", switch()).sizes(1, Some(2)).into()
});

fn find(view: &View, name: &str) -> Result<Id<Host>, Fault> {
    let id = view.holder::<Host>("host-name", name);
    id.ok_or_else(|| Fault::not_found(format!("Compute host {name} could not be found.")))
}

async fn index(State(cloud): State<Cloud>, caller: Caller, version: Microversion, query: Query) -> Result<Json<Value>, Fault> {
    version.require(..43)?;
    policy::admin(&caller, "os_compute_api:os-hosts:list")?;
    let view = cloud.store.read().await?;
    let shown: Vec<_> = services(&view)
        .into_iter()
        .filter(|service| query.get("zone").is_none_or(|zone| zone.is_empty() || zone == service.zone))
        .map(|service| {
            let what = service.binary.trim_start_matches("nova-");
            json!({ "host_name": service.host, "service": what, "zone": service.zone })
        })
        .collect();
    Ok(Json(json!({ "hosts": shown })))
}

async fn show(State(cloud): State<Cloud>, caller: Caller, version: Microversion, Path(name): Path<String>) -> Result<Json<Value>, Fault> {
    version.require(..43)?;
    policy::admin(&caller, "os_compute_api:os-hosts:show")?;
    let view = cloud.store.read().await?;
    let host = view.require(&find(&view, &name)?)?;
    let resources: Vec<_> = rows(&view, &host).into_iter().map(|row| json!({ "resource": row })).collect();
    Ok(Json(json!({ "host": resources })))
}

/// What there is, what is taken, the sum of what servers may take, and that for every project.
fn rows(view: &View, host: &Host) -> Vec<Value> {
    let row = |project: &str, [cpu, memory_mb, disk_gb]: [i64; 3]| json!({ "host": host.meta.name, "project": project, "cpu": cpu, "memory_mb": memory_mb, "disk_gb": disk_gb });
    const CLASSES: [&str; 3] = ["VCPU", "MEMORY_MB", "DISK_GB"];
    let total = CLASSES.map(|class| host.capacity.get(class).map_or(0, |capacity| capacity.total));
    let used = CLASSES.map(|class| view.tally(class, host.meta.id.as_str()));
    let mut projects: BTreeMap<String, [i64; 3]> = BTreeMap::new();
    for server in view.by_index::<Server>("host", host.meta.id.as_str()) {
        let project = server.meta.project.as_ref().map_or("", |id| id.as_str());
        let sum = projects.entry(project.to_owned()).or_default();
        for (at, (_, amount)) in server.spec.launch.resources().into_iter().enumerate() {
            sum[at] += amount;
        }
    }
    let all = [row("(total)", total), row("(used_now)", used), row("(used_max)", used)];
    all.into_iter().chain(projects.iter().map(|(project, sum)| row(project, *sum))).collect()
}

async fn update(
    State(cloud): State<Cloud>,
    caller: Caller,
    version: Microversion,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<Value>, Fault> {
    version.require(..43)?;
    let body = body.validated(&UPDATE, version)?;
    policy::admin(&caller, "os_compute_api:os-hosts:update")?;
    let maintenance = body.get("maintenance_mode").is_some();
    let enable = body["status"].as_str().map(|status| status == "enable");
    let host = name.clone();
    let transaction = move |tx: &mut Tx| {
        let id = find(&tx.view(), &host)?;
        if maintenance {
            return Err(Fault::not_implemented("Virt driver does not implement host maintenance mode."));
        }
        tx.update(&id, |host: &mut Host| {
            match enable {
                Some(true) => host.disabled = None,
                Some(false) => host.disabled = Some(host.disabled.take().unwrap_or_default()),
                None => {}
            }
            Ok(())
        })
    };
    let host = cloud.store.transact(transaction).await?;
    let status = if host.disabled.is_none() { "enabled" } else { "disabled" };
    Ok(Json(json!({ "host": name, "status": status })))
}

/// Turning machines on and off is not what the agent on them can do.
async fn power(State(cloud): State<Cloud>, caller: Caller, version: Microversion, Path(name): Path<String>) -> Result<Json<Value>, Fault> {
    version.require(..43)?;
    policy::admin(&caller, "os_compute_api:os-hosts:power")?;
    find(&cloud.store.read().await?, &name)?;
    Err(Fault::not_implemented("Virt driver does not implement host power management."))
}
