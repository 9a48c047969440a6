//! `/os-floating-ips` and `/os-floating-ip-pools`. A pool is an external network.

use std::sync::{Arc, LazyLock};

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use serde_json::{Value, json};
use unkai_model::Id;
use unkai_model::identity::Project;
use unkai_model::network::{FloatingIp, Network, Port, Standard};
use unkai_network::verbs::{self, FloatingRequest};
use unkai_openstack::{Caller, Cloud, Routes};
use unkai_store::{Tx, View};

use super::refused;
use crate::admin::policy;
use crate::body::Body;
use crate::schema::{Schema, object};
use crate::{Fault, Microversion};

pub fn routes() -> Routes {
    Routes::new()
        .get("/v2.1/os-floating-ip-pools", pools)
        .get("/v2.1/os-floating-ips", index)
        .post("/v2.1/os-floating-ips", create)
        .get("/v2.1/os-floating-ips/{id}", show)
        .delete("/v2.1/os-floating-ips/{id}", delete)
}

static BODY: LazyLock<Schema> =
    LazyLock::new(|| Schema::Union(vec![Schema::Null, object().optional("pool", Schema::string(0, 255).or_null()).open().into()]));

/// External networks that the project may take addresses from.
fn external(view: &View, project: &Id<Project>) -> Vec<Arc<Network>> {
    view.by_index::<Network>("external", "yes").filter(|network| verbs::is_external_for(view, network, Some(project))).collect()
}

fn render(view: &View, floating: &FloatingIp) -> Value {
    let target = floating.target.as_ref();
    let port = target.and_then(|target| view.get::<Port>(&target.port));
    let server = port.filter(|port| port.device_owner.starts_with("compute:")).map(|port| port.device_id.clone());
    json!({
        "id": floating.meta.id,
        "ip": floating.address,
        "pool": view.get(&floating.network).map(|network| network.meta.name.clone()),
        "fixed_ip": target.map(|target| target.address),
        "instance_id": server,
    })
}

async fn pools(State(cloud): State<Cloud>, caller: Caller, version: Microversion) -> Result<Json<Value>, Fault> {
    version.require(..36)?;
    policy::reader(&caller, caller.project.as_ref(), "os_compute_api:os-floating-ip-pools")?;
    let view = cloud.store.read().await?;
    let names = external(&view, caller.require_project()?).into_iter().map(|network| json!({ "name": network.meta.name }));
    Ok(Json(json!({ "floating_ip_pools": names.collect::<Vec<_>>() })))
}

async fn index(State(cloud): State<Cloud>, caller: Caller, version: Microversion) -> Result<Json<Value>, Fault> {
    version.require(..36)?;
    policy::reader(&caller, caller.project.as_ref(), "os_compute_api:os-floating-ips:list")?;
    let view = cloud.store.read().await?;
    let own = view.by_index::<FloatingIp>("project", caller.require_project()?.as_str());
    Ok(Json(json!({ "floating_ips": own.map(|floating| render(&view, &floating)).collect::<Vec<_>>() })))
}

fn find(view: &View, caller: &Caller, id: &str) -> Result<Arc<FloatingIp>, Fault> {
    let floating = view.get::<FloatingIp>(&Id::new(id)).filter(|ip| caller.is_admin() || caller.owns(ip.meta.project.as_ref()));
    floating.ok_or_else(|| Fault::not_found(format!("Floating IP not found for ID {id}")))
}

async fn show(State(cloud): State<Cloud>, caller: Caller, version: Microversion, Path(id): Path<String>) -> Result<Json<Value>, Fault> {
    version.require(..36)?;
    let view = cloud.store.read().await?;
    let floating = find(&view, &caller, &id)?;
    policy::reader(&caller, floating.meta.project.as_ref(), "os_compute_api:os-floating-ips:show")?;
    Ok(Json(json!({ "floating_ip": render(&view, &floating) })))
}

async fn create(State(cloud): State<Cloud>, caller: Caller, version: Microversion, body: Body) -> Result<Json<Value>, Fault> {
    version.require(..36)?;
    let body = body.validated(&BODY, version)?;
    let project = caller.require_project()?.clone();
    policy::member(&caller, Some(&project), "os_compute_api:os-floating-ips:create")?;
    let pool = body["pool"].as_str().filter(|pool| !pool.is_empty()).map(str::to_owned);
    let transaction = move |tx: &mut Tx| {
        let network = choose(&external(&tx.view(), &project), pool.as_deref())?;
        let request = FloatingRequest {
            project: Some(project.clone()),
            standard: Standard::default(),
            network,
            subnet: None,
            address: None,
            target: None,
            dns_name: String::new(),
            dns_domain: String::new(),
        };
        let floating = verbs::create_floating_ip(tx, &request).map_err(refused)?;
        Ok::<_, Fault>(json!({ "floating_ip": render(&tx.view(), &floating) }))
    };
    cloud.store.transact(transaction).await.map(Json)
}

/// The pool of that name or id; without one, the default external network or the only one.
fn choose(networks: &[Arc<Network>], pool: Option<&str>) -> Result<Id<Network>, Fault> {
    let found = match (pool, networks) {
        (Some(pool), _) => networks.iter().find(|network| network.meta.id.as_str() == pool || network.meta.name == pool),
        (None, [only]) => Some(only),
        (None, several) => several.iter().find(|network| network.is_default),
    };
    found.map(|network| network.meta.id.clone()).ok_or_else(|| match pool {
        Some(pool) => Fault::not_found(format!("Floating IP pool {pool} not found.")),
        None => Fault::not_found("Floating IP pool not found."),
    })
}

async fn delete(State(cloud): State<Cloud>, caller: Caller, version: Microversion, Path(id): Path<String>) -> Result<StatusCode, Fault> {
    version.require(..36)?;
    let transaction = move |tx: &mut Tx| {
        let floating = find(&tx.view(), &caller, &id)?;
        policy::member(&caller, floating.meta.project.as_ref(), "os_compute_api:os-floating-ips:delete")?;
        verbs::delete_floating_ip(tx, &floating.meta.id).map_err(refused)?;
        Ok::<_, Fault>(StatusCode::ACCEPTED)
    };
    cloud.store.transact(transaction).await
}
