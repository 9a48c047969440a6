//! Interfaces of a server: listed, attached and detached while it exists.

use std::net::IpAddr;

use axum::Json;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};
use unkai_model::Id;
use unkai_model::compute::{Server, VmState};
use unkai_model::network::Port;
use unkai_store::View;

use super::create::text;
use super::cx::Cx;
use super::perform::{Rule, look, perform};
use super::ports::{self, Networks, NicWish};
use super::schemas;
use crate::Fault;
use crate::body::Body;

const STATES: &[VmState] = &[VmState::Active, VmState::Paused, VmState::Stopped];
static ATTACH: Rule = Rule::verb("attach_interface", "os_compute_api:os-attach-interfaces:create", STATES, "compute_attach_interface");
static DETACH: Rule = Rule::verb("detach_interface", "os_compute_api:os-attach-interfaces:delete", STATES, "compute_detach_interface");

pub async fn index(cx: Cx, Path(id): Path<String>) -> Result<Response, Fault> {
    let (view, server, _) = look(&cx, &id).await?;
    let ports = server.spec.ports.iter().filter_map(|port| view.get(port));
    let list: Vec<Value> = ports.map(|port| body(&cx, &server, &port)).collect();
    Ok(Json(json!({ "interfaceAttachments": list })).into_response())
}

pub async fn show(cx: Cx, Path((id, port)): Path<(String, String)>) -> Result<Response, Fault> {
    let (view, server, _) = look(&cx, &id).await?;
    one(&cx, &view, &server, &Id::new(port))
}

fn one(cx: &Cx, view: &View, server: &Server, port: &Id<Port>) -> Result<Response, Fault> {
    let found = view.get(port).filter(|_| server.spec.ports.contains(port));
    let found = found.ok_or_else(|| Fault::not_found(format!("Port {port} could not be found.")))?;
    Ok(Json(json!({ "interfaceAttachment": body(cx, server, &found) })).into_response())
}

fn body(cx: &Cx, server: &Server, port: &Port) -> Value {
    let fixed: Vec<Value> = port.fixed_ips.iter().map(|ip| json!({ "subnet_id": ip.subnet, "ip_address": ip.address })).collect();
    let mut body = json!({
        "port_id": port.meta.id,
        "net_id": port.network,
        "mac_addr": port.mac,
        "port_state": if port.status.up { "ACTIVE" } else { "DOWN" },
        "fixed_ips": fixed,
    });
    if cx.version.at_least(70) {
        body["tag"] = json!(server.spec.port_tags.get(&port.meta.id));
    }
    body
}

pub async fn attach(cx: Cx, Path(id): Path<String>, body: Body) -> Result<Response, Fault> {
    let body = body.validated(&schemas::ATTACH_INTERFACE, cx.version)?;
    let wish = wish(&body["interfaceAttachment"])?;
    let caller = cx.clone();
    let port = perform(&cx, &id, &ATTACH, move |tx, server, _| {
        server.meta.generation += 1;
        if wish.network.is_none() && wish.port.is_none() {
            ports::plug(tx, &caller, server, &Networks::Unsaid, &[])?;
            return server.spec.ports.last().cloned().ok_or_else(|| Fault::bad_request("No suitable network to attach to was found."));
        }
        ports::add(tx, &caller, server, &wish, &[]).map_err(as_attach)
    })
    .await?;
    let (view, server, _) = look(&cx, &id).await?;
    one(&cx, &view, &server, &port)
}

/// What creation calls a conflict, attaching calls a bad request; what is not there is said to be so.
fn as_attach(fault: Fault) -> Fault {
    match fault.code {
        StatusCode::CONFLICT => Fault::bad_request(fault.message),
        StatusCode::BAD_REQUEST if fault.message.ends_with("could not be found.") => Fault::not_found(fault.message),
        _ => fault,
    }
}

fn wish(wanted: &Value) -> Result<NicWish, Fault> {
    let fixed_ip: Option<IpAddr> = wanted["fixed_ips"][0]["ip_address"].as_str().and_then(|text| text.parse().ok());
    let wish = NicWish { network: text(wanted, "net_id"), port: text(wanted, "port_id"), fixed_ip, tag: text(wanted, "tag") };
    match &wish {
        NicWish { network: Some(_), port: Some(_), .. } => Err(Fault::bad_request("Must not input both network_id and port_id")),
        NicWish { network: None, fixed_ip: Some(_), .. } => Err(Fault::bad_request("Must input network_id when request IP address")),
        _ => Ok(wish),
    }
}

pub async fn detach(cx: Cx, Path((id, port)): Path<(String, String)>) -> Result<StatusCode, Fault> {
    let port: Id<Port> = Id::new(port);
    perform(&cx, &id, &DETACH, move |tx, server, _| {
        if !server.spec.ports.contains(&port) {
            return Err(Fault::not_found(format!("Port id {port} could not be found.")));
        }
        server.meta.generation += 1;
        ports::release(tx, server, &port)
    })
    .await?;
    Ok(StatusCode::ACCEPTED)
}
