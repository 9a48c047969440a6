//! `/os-networks` and `/os-tenant-networks`, to look at: networks are made and changed by the network service.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Map, Value, json};
use unkai_model::Id;
use unkai_model::network::Network;
use unkai_network::verbs;
use unkai_openstack::{Caller, Cloud, Routes, iso};
use unkai_store::View;

use crate::admin::policy;
use crate::{Fault, Microversion};

pub fn routes() -> Routes {
    Routes::new()
        .get("/v2.1/os-networks", index)
        .post("/v2.1/os-networks", elsewhere)
        .get("/v2.1/os-networks/{id}", show)
        .delete("/v2.1/os-networks/{id}", elsewhere)
        .get("/v2.1/os-tenant-networks", tenant_index)
        .post("/v2.1/os-tenant-networks", elsewhere)
        .get("/v2.1/os-tenant-networks/{id}", tenant_show)
        .delete("/v2.1/os-tenant-networks/{id}", elsewhere)
}

/// What the first networks had and these have not.
const NULLS: [&str; 27] = [
    "bridge",
    "bridge_interface",
    "broadcast",
    "cidr",
    "cidr_v6",
    "deleted",
    "deleted_at",
    "dhcp_server",
    "dhcp_start",
    "dns1",
    "dns2",
    "enable_dhcp",
    "gateway",
    "gateway_v6",
    "host",
    "injected",
    "multi_host",
    "netmask",
    "netmask_v6",
    "priority",
    "rxtx_base",
    "share_address",
    "vlan",
    "vpn_private_address",
    "vpn_public_address",
    "vpn_public_port",
    "project_id",
];

fn render(network: &Network) -> Value {
    let mut shown: Map<String, Value> = NULLS.iter().map(|name| (name.to_string(), Value::Null)).collect();
    shown.insert("id".into(), json!(network.meta.id));
    shown.insert("label".into(), json!(network.meta.name));
    shown.insert("mtu".into(), json!(network.mtu));
    shown.insert("project_id".into(), json!(network.meta.project));
    shown.insert("created_at".into(), json!(iso(network.meta.created)));
    shown.insert("updated_at".into(), json!(iso(network.meta.updated)));
    Value::Object(shown)
}

/// The form for tenants. Its `cidr` was never known to a network of several subnets.
fn brief(network: &Network) -> Value {
    json!({ "id": network.meta.id, "label": network.meta.name, "cidr": "None" })
}

fn visible(view: &View, caller: &Caller) -> Vec<Arc<Network>> {
    let sees = |network: &Arc<Network>| caller.is_admin() || verbs::may_see_network(view, caller.project.as_ref(), network);
    view.all::<Network>().filter(sees).collect()
}

fn find(view: &View, caller: &Caller, id: &str) -> Result<Arc<Network>, Fault> {
    let network = view.get::<Network>(&Id::new(id));
    let network = network.filter(|network| caller.is_admin() || verbs::may_see_network(view, caller.project.as_ref(), network));
    network.ok_or_else(|| Fault::not_found("Network not found"))
}

async fn index(State(cloud): State<Cloud>, caller: Caller, version: Microversion) -> Result<Json<Value>, Fault> {
    version.require(..36)?;
    policy::reader(&caller, caller.project.as_ref(), "os_compute_api:os-networks:list")?;
    let view = cloud.store.read().await?;
    Ok(Json(json!({ "networks": visible(&view, &caller).iter().map(|network| render(network)).collect::<Vec<_>>() })))
}

async fn show(State(cloud): State<Cloud>, caller: Caller, version: Microversion, Path(id): Path<String>) -> Result<Json<Value>, Fault> {
    version.require(..36)?;
    policy::reader(&caller, caller.project.as_ref(), "os_compute_api:os-networks:show")?;
    let network = find(&cloud.store.read().await?, &caller, &id)?;
    Ok(Json(json!({ "network": render(&network) })))
}

async fn tenant_index(State(cloud): State<Cloud>, caller: Caller, version: Microversion) -> Result<Json<Value>, Fault> {
    version.require(..36)?;
    policy::reader(&caller, caller.project.as_ref(), "os_compute_api:os-tenant-networks:list")?;
    let view = cloud.store.read().await?;
    Ok(Json(json!({ "networks": visible(&view, &caller).iter().map(|network| brief(network)).collect::<Vec<_>>() })))
}

async fn tenant_show(
    State(cloud): State<Cloud>,
    caller: Caller,
    version: Microversion,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    version.require(..36)?;
    policy::reader(&caller, caller.project.as_ref(), "os_compute_api:os-tenant-networks:show")?;
    let network = find(&cloud.store.read().await?, &caller, &id)?;
    Ok(Json(json!({ "network": brief(&network) })))
}

async fn elsewhere(_: Caller) -> Fault {
    Fault::new(http::StatusCode::GONE, "This resource has been removed.")
}
