//! The actions that led floating IPs to servers, until 2.43.

use std::sync::{Arc, LazyLock};

use axum::response::Response;
use serde_json::Value;
use unkai_model::compute::Server;
use unkai_model::network::{FloatingIp, Port};
use unkai_network::verbs::{self, TargetWish};
use unkai_store::{Tx, View};

use super::super::create::{address, text};
use super::super::cx::Cx;
use super::super::perform::{Rule, perform};
use super::{Action, accepted, no_longer};
use crate::Fault;
use crate::schema::{IP, Schema, object};

static ADD: LazyLock<Schema> = LazyLock::new(|| {
    Schema::wrapped("addFloatingIp", object().required("address", Schema::text(IP)).optional("fixed_address", Schema::text(IP)))
});
static REMOVE: LazyLock<Schema> = LazyLock::new(|| Schema::wrapped("removeFloatingIp", object().required("address", Schema::text(IP))));

static ADD_RULE: Rule = Rule::note("addFloatingIp", "os_compute_api:os-floating-ips:add", &[]);
static REMOVE_RULE: Rule = Rule::note("removeFloatingIp", "os_compute_api:os-floating-ips:remove", &[]);

/// The caller's floating IP of this address.
fn by_address(cx: &Cx, view: &View, wanted: &str) -> Result<Arc<FloatingIp>, Fault> {
    let project = cx.caller.project.as_ref().map_or("", |project| project.as_str());
    let mut own = view.by_index::<FloatingIp>("project", project);
    own.find(|floating| floating.address.to_string() == wanted).ok_or_else(|| Fault::not_found(format!("floating IP not found: {wanted}")))
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
