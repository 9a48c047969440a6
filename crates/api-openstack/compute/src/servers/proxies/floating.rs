//! `os-floating-ips`, their pools, and the actions that lead them to servers.

use std::sync::{Arc, LazyLock};

use axum::Json;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};
use unkai_model::Id;
use unkai_model::compute::Server;
use unkai_model::network::{FloatingIp, Network, Port};
use unkai_network::verbs::{self, FloatingRequest, TargetWish};
use unkai_store::{Tx, View};

use super::super::actions::{Action, accepted, no_longer};
use super::super::create::{address, text};
use super::super::cx::Cx;
use super::super::perform::{Rule, perform};
use super::{still_there, writer};
use crate::Fault;
use crate::body::Body;
use crate::schema::{IP, Schema, object};

static CREATE: LazyLock<Schema> = LazyLock::new(|| {
    let pool = object().optional("pool", Schema::string(1, 255).or_null());
    Schema::Union(vec![pool.into(), Schema::Null])
});
static ADD: LazyLock<Schema> = LazyLock::new(|| {
    Schema::wrapped("addFloatingIp", object().required("address", Schema::text(IP)).optional("fixed_address", Schema::text(IP)))
});
static REMOVE: LazyLock<Schema> = LazyLock::new(|| Schema::wrapped("removeFloatingIp", object().required("address", Schema::text(IP))));

static ADD_RULE: Rule = Rule::note("addFloatingIp", "os_compute_api:os-floating-ips:add", &[]);
static REMOVE_RULE: Rule = Rule::note("removeFloatingIp", "os_compute_api:os-floating-ips:remove", &[]);

fn body(view: &View, floating: &FloatingIp) -> Value {
    let target = floating.target.as_ref();
    let server = target.and_then(|target| view.get(&target.port)).map(|port| port.device_id.clone()).filter(|id| !id.is_empty());
    json!({
        "id": floating.meta.id,
        "ip": floating.address,
        "fixed_ip": target.map(|target| target.address),
        "instance_id": server,
        "pool": view.get(&floating.network).map(|network| network.meta.name.clone()),
    })
}

fn own<'v>(cx: &Cx, view: &'v View) -> impl Iterator<Item = Arc<FloatingIp>> + 'v {
    let project = cx.caller.project.as_ref().map_or("", |project| project.as_str()).to_owned();
    view.by_index::<FloatingIp>("project", &project).collect::<Vec<_>>().into_iter()
}

fn find(cx: &Cx, view: &View, id: &str) -> Result<Arc<FloatingIp>, Fault> {
    let found = view.get(&Id::<FloatingIp>::new(id)).filter(|floating| cx.sees(floating.meta.project.as_ref()));
    found.ok_or_else(|| Fault::not_found(format!("Floating IP not found for ID {id}")))
}

fn external(cx: &Cx, view: &View) -> Vec<Arc<Network>> {
    let networks = view.by_index::<Network>("external", "yes");
    networks.filter(|network| cx.is_admin() || verbs::may_see_network(view, cx.caller.project.as_ref(), network)).collect()
}

pub async fn pools(cx: Cx) -> Result<Response, Fault> {
    still_there(&cx)?;
    let view = cx.view().await?;
    let names: Vec<Value> = external(&cx, &view).iter().map(|network| json!({ "name": network.meta.name })).collect();
    Ok(Json(json!({ "floating_ip_pools": names })).into_response())
}

pub async fn index(cx: Cx) -> Result<Response, Fault> {
    still_there(&cx)?;
    let view = cx.view().await?;
    let list: Vec<Value> = own(&cx, &view).map(|floating| body(&view, &floating)).collect();
    Ok(Json(json!({ "floating_ips": list })).into_response())
}

pub async fn show(cx: Cx, Path(id): Path<String>) -> Result<Response, Fault> {
    still_there(&cx)?;
    let view = cx.view().await?;
    Ok(Json(json!({ "floating_ip": body(&view, &*find(&cx, &view, &id)?) })).into_response())
}

pub async fn create(cx: Cx, request: Body) -> Result<Response, Fault> {
    still_there(&cx)?;
    let request = request.validated(&CREATE, cx.version)?;
    let project = writer(&cx, "os_compute_api:os-floating-ips:create")?;
    let (caller, pool) = (cx.clone(), text(&request, "pool"));
    let made = cx
        .cloud
        .store
        .transact(move |tx| {
            let missing = || Fault::not_found("Floating IP pool not found.");
            let pools = external(&caller, &tx.view());
            let named =
                |network: &&Arc<Network>| pool.as_ref().is_none_or(|pool| network.meta.name == *pool || network.meta.id.as_str() == pool);
            let network = pools.iter().find(named).ok_or_else(missing)?;
            let request = FloatingRequest {
                project: Some(project.clone()),
                standard: Default::default(),
                network: network.meta.id.clone(),
                subnet: None,
                address: None,
                target: None,
                dns_name: String::new(),
                dns_domain: String::new(),
            };
            let floating = verbs::create_floating_ip(tx, &request)?;
            Ok::<_, Fault>(body(&tx.view(), &floating))
        })
        .await?;
    Ok(Json(json!({ "floating_ip": made })).into_response())
}

pub async fn delete(cx: Cx, Path(id): Path<String>) -> Result<StatusCode, Fault> {
    still_there(&cx)?;
    writer(&cx, "os_compute_api:os-floating-ips:delete")?;
    let caller = cx.clone();
    cx.cloud
        .store
        .transact(move |tx| {
            let floating = find(&caller, &tx.view(), &id)?;
            Ok::<_, Fault>(verbs::delete_floating_ip(tx, &floating.meta.id)?)
        })
        .await?;
    Ok(StatusCode::ACCEPTED)
}

/// The caller's floating IP of this address.
fn by_address(cx: &Cx, view: &View, wanted: &str) -> Result<Arc<FloatingIp>, Fault> {
    let mut all = own(cx, view);
    all.find(|floating| floating.address.to_string() == wanted).ok_or_else(|| Fault::not_found(format!("floating IP not found: {wanted}")))
}

pub async fn add(request: Action) -> Result<Response, Fault> {
    if request.cx.version.at_least(44) {
        return Err(no_longer());
    }
    request.check(&ADD)?;
    let wanted = request.body["addFloatingIp"].clone();
    let cx = request.cx.clone();
    perform(&request.cx, &request.id, &ADD_RULE, move |tx, server, _| {
        let floating = by_address(&cx, &tx.view(), &text(&wanted, "address").unwrap_or_default())?;
        let target = target(tx, server, &wanted)?;
        verbs::associate(tx, &floating.meta.id, &target)?;
        Ok(())
    })
    .await?;
    Ok(accepted())
}

/// The port that has the fixed address, or the first that has any.
fn target(tx: &Tx, server: &Server, wanted: &Value) -> Result<TargetWish, Fault> {
    let ports = || server.spec.ports.iter().filter_map(|port| tx.get(port));
    if let Some(fixed) = address(wanted, "fixed_address") {
        let port = ports().find(|port: &Arc<Port>| port.has_address(fixed));
        let port = port.ok_or_else(|| Fault::bad_request("Specified fixed address not assigned to instance"))?;
        return Ok(TargetWish { port: port.meta.id.clone(), address: Some(fixed) });
    }
    let v4 = |port: &Arc<Port>| port.addresses().find(|address| address.is_ipv4());
    let found = ports().find_map(|port| v4(&port).map(|address| (port.meta.id.clone(), address)));
    let (port, address) = found.ok_or_else(|| Fault::bad_request("No fixed IPs associated to instance"))?;
    Ok(TargetWish { port, address: Some(address) })
}

pub async fn remove(request: Action) -> Result<Response, Fault> {
    if request.cx.version.at_least(44) {
        return Err(no_longer());
    }
    request.check(&REMOVE)?;
    let wanted = text(&request.body["removeFloatingIp"], "address").unwrap_or_default();
    let cx = request.cx.clone();
    perform(&request.cx, &request.id, &REMOVE_RULE, move |tx, server, _| {
        let floating = by_address(&cx, &tx.view(), &wanted)?;
        if !floating.target.as_ref().is_some_and(|target| server.spec.ports.contains(&target.port)) {
            let message = format!("Floating IP {wanted} is not associated with instance {}.", server.meta.id);
            return Err(Fault::conflict(message));
        }
        verbs::dissociate(tx, &floating.meta.id)?;
        Ok(())
    })
    .await?;
    Ok(accepted())
}
