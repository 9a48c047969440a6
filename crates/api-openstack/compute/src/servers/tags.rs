//! Tags of a server, from 2.26 on.

use axum::Json;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde_json::{Value, json};
use unkai_model::compute::VmState;

use super::cx::Cx;
use super::perform::{Rule, look, perform};
use super::schemas;
use crate::Fault;
use crate::body::Body;

/// The most a server can have.
const MOST: usize = 50;
const STATES: &[VmState] = &[VmState::Active, VmState::Paused, VmState::Suspended, VmState::Stopped];
static UPDATE: Rule = Rule { lock: false, ..Rule::note("update tags", "os_compute_api:os-server-tags:update", STATES) };
static DELETE: Rule = Rule { lock: false, ..Rule::note("delete tags", "os_compute_api:os-server-tags:delete", STATES) };

pub async fn index(cx: Cx, Path(id): Path<String>) -> Result<Response, Fault> {
    cx.version.require(26..)?;
    let (_, server, _) = look(&cx, &id).await?;
    Ok(Json(json!({ "tags": server.spec.tags })).into_response())
}

pub async fn show(cx: Cx, Path((id, tag)): Path<(String, String)>) -> Result<StatusCode, Fault> {
    cx.version.require(26..)?;
    let (_, server, _) = look(&cx, &id).await?;
    if server.spec.tags.contains(&tag) { Ok(StatusCode::NO_CONTENT) } else { Err(absent(&id, &tag)) }
}

fn absent(id: &str, tag: &str) -> Fault {
    Fault::not_found(format!("Server {id} has no tag '{tag}'"))
}

pub async fn replace(cx: Cx, Path(id): Path<String>, body: Body) -> Result<Response, Fault> {
    cx.version.require(26..)?;
    let body = body.validated(&schemas::TAGS, cx.version)?;
    let tags = perform(&cx, &id, &UPDATE, move |_, server, _| {
        let said = body["tags"].as_array().into_iter().flatten();
        server.spec.tags = said.filter_map(|tag| tag.as_str().map(str::to_owned)).collect();
        Ok(server.spec.tags.clone())
    })
    .await?;
    Ok(Json(json!({ "tags": tags })).into_response())
}

pub async fn add(cx: Cx, Path((id, tag)): Path<(String, String)>) -> Result<Response, Fault> {
    cx.version.require(26..)?;
    let said = Value::String(tag.clone());
    if let Err(fault) = schemas::ONE_TAG.check_body(&said, cx.version) {
        return Err(Fault::bad_request(format!(
            "Tag '{tag}' is invalid. It must be a non empty string without characters '/' and ','. Validation error message: {}",
            fault.message
        )));
    }
    let name = tag.clone();
    let new = perform(&cx, &id, &UPDATE, move |_, server, _| {
        let new = server.spec.tags.insert(name.clone());
        if server.spec.tags.len() > MOST {
            return Err(Fault::bad_request(format!("The number of tags exceeded the per-server limit {MOST}")));
        }
        Ok(new)
    })
    .await?;
    if !new {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let link = format!("{}/compute/v2.1/servers/{id}/tags/{tag}", cx.cloud.url);
    let location = http::HeaderValue::from_str(&link).unwrap_or_else(|_| http::HeaderValue::from_static(""));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)]).into_response())
}

pub async fn delete(cx: Cx, Path((id, tag)): Path<(String, String)>) -> Result<StatusCode, Fault> {
    cx.version.require(26..)?;
    let server_id = id.clone();
    perform(&cx, &id, &DELETE, move |_, server, _| if server.spec.tags.remove(&tag) { Ok(()) } else { Err(absent(&server_id, &tag)) })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn clear(cx: Cx, Path(id): Path<String>) -> Result<StatusCode, Fault> {
    cx.version.require(26..)?;
    perform(&cx, &id, &DELETE, |_, server, _| {
        server.spec.tags.clear();
        Ok(())
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}
