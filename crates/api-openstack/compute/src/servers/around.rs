//! Small resources around a server: addresses, topology, passwords, diagnostics.

use axum::Json;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Map, Value, json};
use unkai_model::compute::VmState;
use unkai_openstack::Target;

use super::addresses::Addresses;
use super::console::{host_of, read_all};
use super::cx::Cx;
use super::perform::{Rule, find, look};
use super::renderer::{Renderer, ports_of};
use super::schemas;
use crate::Fault;
use crate::body::Body;

/// `GET /servers/{id}/ips`.
pub async fn ips(cx: Cx, Path(id): Path<String>) -> Result<Response, Fault> {
    let (view, server, _) = look(&cx, &id).await?;
    let renderer = Renderer::new(&cx, &view);
    let addresses = Addresses { renderer: &renderer, ports: &ports_of(&view, &server), extended: false };
    Ok(Json(json!({ "addresses": addresses })).into_response())
}

/// `GET /servers/{id}/ips/{network}`.
pub async fn ips_of(cx: Cx, Path((id, network)): Path<(String, String)>) -> Result<Response, Fault> {
    let (view, server, _) = look(&cx, &id).await?;
    let renderer = Renderer::new(&cx, &view);
    let all = Addresses { renderer: &renderer, ports: &ports_of(&view, &server), extended: false }.by_network();
    let found = all.into_iter().find(|(name, _)| **name == *network);
    let (name, list) = found.ok_or_else(|| Fault::not_found("Instance is not a member of specified network"))?;
    Ok(Json(json!({ &*name: list })).into_response())
}

/// `GET /servers/{id}/shares`, from 2.97 on: there is no service of shared file systems.
pub async fn shares(cx: Cx, Path(id): Path<String>) -> Result<Response, Fault> {
    cx.version.require(97..)?;
    look(&cx, &id).await?;
    Ok(Json(json!({ "shares": [] })).into_response())
}

pub async fn attach_share(cx: Cx, Path(id): Path<String>, body: Body) -> Result<Response, Fault> {
    cx.version.require(97..)?;
    let body = body.validated(&schemas::ATTACH_SHARE, cx.version)?;
    let view = cx.view().await?;
    let (server, state) = find(&view, &id)?;
    SHARE.check(&cx, &server, &state)?;
    let share = body["share"]["share_id"].as_str().unwrap_or_default();
    Err(Fault::not_found(format!("Share {share} could not be found.")))
}

static SHARE: Rule = Rule::note("create_share", "os_compute_api:os-server-shares:create", &[VmState::Stopped, VmState::Error]);

pub async fn no_share(cx: Cx, Path((id, share)): Path<(String, String)>) -> Result<Response, Fault> {
    cx.version.require(97..)?;
    look(&cx, &id).await?;
    Err(Fault::not_found(format!("Share {share} could not be found.")))
}

/// `GET /servers/{id}/topology`, from 2.78 on: guests have one node without pinning.
pub async fn topology(cx: Cx, Path(id): Path<String>) -> Result<Response, Fault> {
    cx.version.require(78..)?;
    look(&cx, &id).await?;
    Ok(Json(json!({ "nodes": [], "pagesize_kb": null })).into_response())
}

/// `GET /servers/{id}/os-server-password`: guests have no way to leave an encrypted one.
pub async fn password(cx: Cx, Path(id): Path<String>) -> Result<Response, Fault> {
    look(&cx, &id).await?;
    Ok(Json(json!({ "password": "" })).into_response())
}

static CLEAR: Rule = Rule::note("clear password", "os_compute_api:os-server-password:clear", &[]);

pub async fn clear_password(cx: Cx, Path(id): Path<String>) -> Result<StatusCode, Fault> {
    let view = cx.view().await?;
    let (server, state) = find(&view, &id)?;
    CLEAR.check(&cx, &server, &state)?;
    Ok(StatusCode::NO_CONTENT)
}

static DIAGNOSTICS: Rule = Rule {
    admin: true,
    lock: false,
    ..Rule::note(
        "get_diagnostics",
        "os_compute_api:os-server-diagnostics",
        &[VmState::Active, VmState::Paused, VmState::Stopped, VmState::Rescued, VmState::Resized, VmState::Suspended, VmState::Error],
    )
};

/// `GET /servers/{id}/diagnostics`: one form from 2.48 on, a flat one before.
pub async fn diagnostics(cx: Cx, Path(id): Path<String>) -> Result<Response, Fault> {
    let view = cx.view().await?;
    let (server, state) = find(&view, &id)?;
    DIAGNOSTICS.check(&cx, &server, &state)?;
    let host = host_of(&server, &state)?;
    let bytes = read_all(&cx, host, Target::Diagnostics { server: server.meta.id.clone() }).await?;
    let document: Value =
        serde_json::from_slice(&bytes).map_err(|e| unkai_model::Error::caused(format!("reading the diagnostics of server {id}"), e))?;
    Ok(Json(if cx.version.at_least(48) { document } else { flat(&document) }).into_response())
}

/// `cpu0_time`, `memory`, `vda_read` and so on, as libvirt's driver said it.
fn flat(document: &Value) -> Value {
    let mut flat = Map::new();
    let list = |key: &str| document[key].as_array().cloned().unwrap_or_default();
    for (no, cpu) in list("cpu_details").iter().enumerate() {
        flat.insert(format!("cpu{no}_time"), cpu["time"].clone());
    }
    if let Some(mebibytes) = document["memory_details"]["maximum"].as_i64() {
        flat.insert("memory".into(), (mebibytes * 1024).into());
    }
    for (no, disk) in list("disk_details").iter().enumerate() {
        let name = format!("vd{}", char::from(b'a' + (no % 26) as u8));
        for (short, long) in [
            ("read", "read_bytes"),
            ("read_req", "read_requests"),
            ("write", "write_bytes"),
            ("write_req", "write_requests"),
            ("errors", "errors_count"),
        ] {
            flat.insert(format!("{name}_{short}"), disk[long].clone());
        }
    }
    for (no, nic) in list("nic_details").iter().enumerate() {
        for (short, long) in [
            ("rx", "rx_octets"),
            ("rx_packets", "rx_packets"),
            ("rx_errors", "rx_errors"),
            ("rx_drop", "rx_drop"),
            ("tx", "tx_octets"),
            ("tx_packets", "tx_packets"),
            ("tx_errors", "tx_errors"),
            ("tx_drop", "tx_drop"),
        ] {
            flat.insert(format!("vnet{no}_{short}"), nic[long].clone());
        }
    }
    Value::Object(flat)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_diagnostics_are_flat() {
        let document = json!({
            "cpu_details": [{"id": 0, "time": 5, "utilisation": null}],
            "memory_details": {"maximum": 512, "used": null},
            "disk_details": [{"read_bytes": 1, "read_requests": 2, "write_bytes": 3, "write_requests": 4, "errors_count": null}],
            "nic_details": [],
        });
        let flat = flat(&document);
        assert_eq!((&flat["cpu0_time"], &flat["memory"], &flat["vda_write"]), (&json!(5), &json!(524_288), &json!(3)));
    }
}
