//! What later versions no longer have: search and servers by name (before 2.53), uptime and statistics (before 2.88).

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};
use unkai_model::Timestamp;
use unkai_openstack::{Caller, Cloud};

use super::render::{self, Usage};
use super::{find, matching};
use crate::admin::policy;
use crate::admin::services::hosts;
use crate::{Fault, Microversion};

pub async fn statistics(State(cloud): State<Cloud>, caller: Caller, version: Microversion) -> Result<Json<Value>, Fault> {
    version.require(..88)?;
    policy::admin(&caller, "os_compute_api:os-hypervisors:statistics")?;
    let view = cloud.store.read().await?;
    let enabled: Vec<_> = hosts(&view).into_iter().filter(|host| host.disabled.is_none()).collect();
    let mut sum = Usage::none();
    enabled.iter().for_each(|host| sum.add(&Usage::of(&view, host)));
    let mut shown = sum.render();
    shown["count"] = json!(enabled.len());
    Ok(Json(json!({ "hypervisor_statistics": shown })))
}

pub async fn uptime(
    State(cloud): State<Cloud>,
    caller: Caller,
    version: Microversion,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    version.require(..88)?;
    policy::admin(&caller, "os_compute_api:os-hypervisors:uptime")?;
    let view = cloud.store.read().await?;
    let host = find(&view, &id, version)?;
    let name = &host.meta.name;
    let Some(uptime) = render::uptime(&host, Timestamp::now()) else {
        return Err(Fault::bad_request(format!("Compute service of {name} is unavailable at this time.")));
    };
    let mut shown = render::brief(&view, &host, version);
    shown["uptime"] = json!(uptime);
    Ok(Json(json!({ "hypervisor": shown })))
}

pub async fn search(
    State(cloud): State<Cloud>,
    caller: Caller,
    version: Microversion,
    Path(pattern): Path<String>,
) -> Result<Json<Value>, Fault> {
    version.require(..53)?;
    policy::admin(&caller, "os_compute_api:os-hypervisors:search")?;
    let view = cloud.store.read().await?;
    let shown: Vec<_> = matching(&view, &pattern)?.iter().map(|host| render::brief(&view, host, version)).collect();
    Ok(Json(json!({ "hypervisors": shown })))
}

pub async fn servers(
    State(cloud): State<Cloud>,
    caller: Caller,
    version: Microversion,
    Path(pattern): Path<String>,
) -> Result<Json<Value>, Fault> {
    version.require(..53)?;
    policy::admin(&caller, "os_compute_api:os-hypervisors:servers")?;
    let view = cloud.store.read().await?;
    let mut shown = Vec::new();
    for host in matching(&view, &pattern)? {
        let mut item = render::brief(&view, &host, version);
        let servers = render::servers(&view, &host);
        if !servers.is_empty() {
            item["servers"] = json!(servers);
        }
        shown.push(item);
    }
    Ok(Json(json!({ "hypervisors": shown })))
}
