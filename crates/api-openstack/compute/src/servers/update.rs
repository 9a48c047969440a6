//! Changing what is said about a server.

use axum::Json;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use unkai_model::compute::Server;

use super::create::{address, text};
use super::cx::Cx;
use super::perform::{Rule, look, perform};
use super::renderer::Renderer;
use super::schemas;
use super::show::One;
use super::view::Extent;
use crate::Fault;
use crate::body::Body;

static UPDATE: Rule = Rule { lock: false, ..Rule::note("update", "os_compute_api:servers:update", &[]) };

pub async fn update(cx: Cx, Path(id): Path<String>, body: Body) -> Result<Response, Fault> {
    let body = body.validated(&schemas::UPDATE, cx.version)?;
    perform(&cx, &id, &UPDATE, move |_, server, _| {
        apply(server, &body["server"]);
        Ok(())
    })
    .await?;
    let (view, server, _) = look(&cx, &id).await?;
    let renderer = Renderer::new(&cx, &view);
    // From 2.75 on the answer is what a show answers.
    let extent = if cx.version.at_least(75) { Extent::Full } else { Extent::Core };
    Ok(Json(One { server: renderer.body(&server, extent) }).into_response())
}

/// The properties that update and rebuild share.
pub fn apply(server: &mut Server, wanted: &Value) {
    if let Some(name) = text(wanted, "name") {
        server.meta.name = name;
    }
    if let Some(hostname) = text(wanted, "hostname") {
        server.spec.launch.hostname = hostname;
    }
    if wanted.get("description").is_some() {
        server.spec.description = text(wanted, "description");
    }
    if let Some(disk) = text(wanted, "OS-DCF:diskConfig") {
        server.spec.launch.manual_disk = disk == "MANUAL";
    }
    if wanted.get("accessIPv4").is_some() {
        server.spec.access_ipv4 = address(wanted, "accessIPv4");
    }
    if wanted.get("accessIPv6").is_some() {
        server.spec.access_ipv6 = address(wanted, "accessIPv6");
    }
}
