//! `os-networks` and `os-tenant-networks`.

use axum::Json;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use unkai_model::Id;
use unkai_model::network::{Network, Subnet};
use unkai_network::verbs;
use unkai_store::View;

use super::super::cx::Cx;
use super::still_there;
use crate::Fault;

/// What the old form has beside id and label; the network service has none of it here.
const UNKNOWN: [&str; 30] = [
    "bridge",
    "vpn_public_port",
    "dhcp_start",
    "bridge_interface",
    "share_address",
    "updated_at",
    "cidr_v6",
    "deleted_at",
    "gateway",
    "rxtx_base",
    "priority",
    "project_id",
    "vpn_private_address",
    "deleted",
    "vlan",
    "broadcast",
    "netmask",
    "injected",
    "cidr",
    "vpn_public_address",
    "multi_host",
    "enable_dhcp",
    "dns2",
    "created_at",
    "host",
    "mtu",
    "gateway_v6",
    "netmask_v6",
    "dhcp_server",
    "dns1",
];

fn old(network: &Network) -> Value {
    let mut body: serde_json::Map<String, Value> = UNKNOWN.iter().map(|key| ((*key).to_owned(), Value::Null)).collect();
    body.insert("id".into(), json!(network.meta.id));
    body.insert("label".into(), json!(network.meta.name));
    Value::Object(body)
}

fn tenants(view: &View, network: &Network) -> Value {
    let subnet = view.by_index::<Subnet>("network", network.meta.id.as_str()).next();
    let cidr = subnet.map_or_else(|| "None".to_owned(), |subnet| subnet.cidr.to_string());
    json!({ "id": network.meta.id, "cidr": cidr, "label": network.meta.name })
}

fn sees(cx: &Cx, view: &View, network: &Network) -> bool {
    cx.is_admin() || verbs::may_see_network(view, cx.caller.project.as_ref(), network)
}

async fn list(cx: Cx, render: fn(&View, &Network) -> Value) -> Result<Response, Fault> {
    still_there(&cx)?;
    let view = cx.view().await?;
    let list: Vec<Value> =
        view.all::<Network>().filter(|network| sees(&cx, &view, network)).map(|network| render(&view, &network)).collect();
    Ok(Json(json!({ "networks": list })).into_response())
}

async fn one(cx: Cx, id: String, render: fn(&View, &Network) -> Value) -> Result<Response, Fault> {
    still_there(&cx)?;
    let view = cx.view().await?;
    let found = view.get(&Id::<Network>::new(id)).filter(|network| sees(&cx, &view, network));
    let network = found.ok_or_else(|| Fault::not_found("Network not found"))?;
    Ok(Json(json!({ "network": render(&view, &network) })).into_response())
}

pub async fn index(cx: Cx) -> Result<Response, Fault> {
    list(cx, |_, network| old(network)).await
}

pub async fn show(cx: Cx, Path(id): Path<String>) -> Result<Response, Fault> {
    one(cx, id, |_, network| old(network)).await
}

pub async fn tenant_index(cx: Cx) -> Result<Response, Fault> {
    list(cx, tenants).await
}

pub async fn tenant_show(cx: Cx, Path(id): Path<String>) -> Result<Response, Fault> {
    one(cx, id, tenants).await
}
