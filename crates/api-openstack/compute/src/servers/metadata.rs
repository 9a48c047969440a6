//! Metadata of a server, as a whole and by key.

use axum::Json;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};
use unkai_model::compute::{Server, VmState};
use unkai_store::Tx;

use super::availability;
use super::create::{check_metadata, strings};
use super::cx::Cx;
use super::perform::{Rule, look, perform};
use super::schemas;
use crate::Fault;
use crate::body::Body;

const STATES: &[VmState] = &[VmState::Active, VmState::Paused, VmState::Suspended, VmState::Stopped];
static UPDATE: Rule = Rule::note("update metadata", "os_compute_api:server-metadata:update", STATES);
static DELETE: Rule = Rule::note("delete metadata", "os_compute_api:server-metadata:delete", STATES);

pub async fn index(cx: Cx, Path(id): Path<String>) -> Result<Response, Fault> {
    let (_, server, _) = look(&cx, &id).await?;
    Ok(all(&server))
}

fn all(server: &Server) -> Response {
    Json(json!({ "metadata": server.spec.metadata })).into_response()
}

fn absent() -> Fault {
    Fault::not_found("Metadata item was not found")
}

pub async fn show(cx: Cx, Path((id, key)): Path<(String, String)>) -> Result<Response, Fault> {
    let (_, server, _) = look(&cx, &id).await?;
    let value = server.spec.metadata.get(&key).ok_or_else(absent)?;
    Ok(Json(json!({ "meta": { key: value } })).into_response())
}

/// PUT on the whole: what is not said is gone.
pub async fn replace(cx: Cx, Path(id): Path<String>, body: Body) -> Result<Response, Fault> {
    let body = body.validated(&schemas::METADATA, cx.version)?;
    write(cx, id, body, true).await
}

/// POST on the whole: what is not said stays.
pub async fn merge(cx: Cx, Path(id): Path<String>, body: Body) -> Result<Response, Fault> {
    let body = body.validated(&schemas::METADATA, cx.version)?;
    write(cx, id, body, false).await
}

async fn write(cx: Cx, id: String, body: Value, afresh: bool) -> Result<Response, Fault> {
    let said = strings(&body, "metadata");
    let caller = cx.clone();
    let metadata = perform(&cx, &id, &UPDATE, move |tx, server, _| {
        if afresh {
            server.spec.metadata.clear();
        }
        server.spec.metadata.extend(said.clone());
        changed(tx, &caller, server)?;
        Ok(server.spec.metadata.clone())
    })
    .await?;
    Ok(Json(json!({ "metadata": metadata })).into_response())
}

fn changed(tx: &Tx, cx: &Cx, server: &mut Server) -> Result<(), Fault> {
    check_metadata(&tx.view(), cx, server.spec.metadata.len())?;
    availability::turn(server)
}

pub async fn set(cx: Cx, Path((id, key)): Path<(String, String)>, body: Body) -> Result<Response, Fault> {
    let body = body.validated(&schemas::METADATA_ITEM, cx.version)?;
    let said = strings(&body, "meta");
    let Some(value) = said.get(&key).cloned() else {
        return Err(Fault::bad_request("Request body and URI mismatch"));
    };
    let (caller, name) = (cx.clone(), key.clone());
    let stored = value.clone();
    perform(&cx, &id, &UPDATE, move |tx, server, _| {
        server.spec.metadata.insert(name.clone(), stored.clone());
        changed(tx, &caller, server)
    })
    .await?;
    Ok(Json(json!({ "meta": { key: value } })).into_response())
}

pub async fn delete(cx: Cx, Path((id, key)): Path<(String, String)>) -> Result<StatusCode, Fault> {
    perform(&cx, &id, &DELETE, move |_, server, _| {
        server.spec.metadata.remove(&key).ok_or_else(absent)?;
        availability::turn(server)
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}
