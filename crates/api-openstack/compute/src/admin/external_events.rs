//! `/os-server-external-events`: what other services tell about a server. Networks and addresses are documents of this very store, so
//! there is nothing to learn from the news; whether the server exists is answered as the original does.

use std::sync::LazyLock;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};
use unkai_model::Id;
use unkai_model::compute::Server;
use unkai_openstack::{Caller, Cloud, Routes};
use unkai_store::View;

use super::policy;
use crate::body::Body;
use crate::schema::{Schema, object};
use crate::{Fault, Microversion};

pub fn routes() -> Routes {
    Routes::new().post("/v2.1/os-server-external-events", create)
}

/// The names of events, by the version that brought them.
const NAMES: [(&str, u16); 7] = [
    ("network-changed", 1),
    ("network-vif-plugged", 1),
    ("network-vif-unplugged", 1),
    ("network-vif-deleted", 1),
    ("volume-extended", 51),
    ("power-update", 76),
    ("accelerator-request-bound", 82),
];

fn schema(minor: u16) -> Schema {
    let names = NAMES.iter().filter(|(_, since)| *since <= minor).map(|(name, _)| json!(name)).collect();
    let event = object()
        .required("name", Schema::Enum(names))
        .required("server_uuid", Schema::uuid())
        .optional("status", Schema::one_of(["failed", "completed", "in-progress"]))
        .optional("tag", Schema::string(0, 255));
    let events = Schema::Array { items: Box::new(event.into()), min: 1, max: usize::MAX, unique: false };
    Schema::wrapped("events", events)
}
static SCHEMAS: LazyLock<[(u16, Schema); 4]> = LazyLock::new(|| [82, 76, 51, 1].map(|minor| (minor, schema(minor))));

async fn create(State(cloud): State<Cloud>, caller: Caller, version: Microversion, body: Body) -> Result<Response, Fault> {
    let (_, schema) = SCHEMAS.iter().find(|(since, _)| version.at_least(*since)).expect("the last one is of the first version");
    let body = body.validated(schema, version)?;
    let may = caller.is_admin() || caller.has_role("service");
    policy::allow(may, "os_compute_api:os-server-external-events:create")?;
    let view = cloud.store.read().await?;
    let events: Vec<Value> = body["events"].as_array().into_iter().flatten().map(|event| judge(&view, event)).collect();
    let good = events.iter().filter(|event| event["code"] == 200).count();
    if good == 0 {
        return Err(Fault::not_found("No instances found for any event"));
    }
    let status = if good == events.len() { StatusCode::OK } else { StatusCode::MULTI_STATUS };
    Ok((status, Json(json!({ "events": events }))).into_response())
}

/// The event with its outcome: 404 for a server that is not there, 422 for one that is on no host.
fn judge(view: &View, event: &Value) -> Value {
    let server = view.get::<Server>(&Id::new(event["server_uuid"].as_str().unwrap_or(""))).filter(|server| server.is_live());
    let (status, code) = match server {
        None => ("failed", 404),
        Some(server) if server.status.host.is_none() => ("failed", 422),
        Some(_) => (event["status"].as_str().unwrap_or("completed"), 200),
    };
    let mut shown = event.clone();
    shown["status"] = json!(status);
    shown["code"] = json!(code);
    shown
}
