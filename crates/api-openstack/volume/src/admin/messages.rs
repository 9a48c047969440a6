//! `/messages`: why a volume is in error, in words for its owner. A message is the volume's own fault, so it has the volume's id; to delete
//! it is to put it away.

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use jiff::SignedDuration;
use serde_json::{Value, json};
use unkai_model::volume::Volume;
use unkai_openstack::web::{Fault, Query, policy};
use unkai_openstack::{Routes, iso};
use unkai_store::Tx;

use crate::cx::Cx;
use crate::page::{self, Key, links};

pub fn routes() -> Routes {
    Routes::new().get("/messages", list).get("/messages/{id}", show).delete("/messages/{id}", delete)
}

fn has_one(volume: &Volume) -> bool {
    volume.status.fault.as_ref().is_some_and(|fault| Some(fault.at) != volume.spec.put_away)
}

/// How long a message is at least kept: as long as its volume.
const KEPT: SignedDuration = SignedDuration::from_hours(24 * 30);

fn render(cx: &Cx, volume: &Volume) -> Value {
    let Some(fault) = &volume.status.fault else { return Value::Null };
    let none = volume.status.pool.is_none();
    json!({
        "id": volume.meta.id,
        "request_id": "",
        "event_id": if none { "VOLUME_VOLUME_001_003" } else { "VOLUME_VOLUME_001_001" },
        "message_level": "ERROR",
        "resource_type": "VOLUME",
        "resource_uuid": volume.meta.id,
        "user_message": fault.message,
        "created_at": iso(fault.at),
        "guaranteed_until": iso(fault.at.checked_add(KEPT).unwrap_or(fault.at)),
        "links": links(cx, &format!("messages/{}", volume.meta.id)),
    })
}

async fn list(cx: Cx, query: Query) -> Result<Json<Value>, Fault> {
    cx.version.require(3..)?;
    let view = cx.view().await?;
    let mut volumes = page::visible::<Volume>(&view, &cx, &query)?;
    let is = |key: &str, value: &str| query.get(key).is_none_or(|wanted| wanted == value);
    volumes.retain(|volume| {
        has_one(volume) && is("resource_uuid", volume.meta.id.as_str()) && is("resource_type", "VOLUME") && is("message_level", "ERROR")
    });
    page::sort(&view, &mut volumes, &query, key)?;
    let page = page::cut(volumes, &query)?;
    Ok(Json(page.body(&cx, "messages", "messages", |volume| render(&cx, volume))))
}

fn key(name: &str) -> Option<Key<Volume>> {
    Some(match name {
        "id" | "resource_uuid" => |_, volume| json!(volume.meta.id),
        "created_at" => |_, volume| json!(volume.status.fault.as_ref().map(|fault| fault.at.as_nanosecond().to_string())),
        "event_id" | "message_level" | "resource_type" | "request_id" => |_, _| Value::Null,
        _ => return None,
    })
}

fn missing(id: &str) -> Fault {
    Fault::not_found(format!("Message {id} could not be found."))
}

fn found(cx: &Cx, volume: Option<Arc<Volume>>) -> Result<Arc<Volume>, Fault> {
    let seen = volume.filter(|volume| cx.sees(volume.meta.project.as_ref()) && has_one(volume));
    seen.ok_or_else(|| missing(cx.param("id")))
}

async fn show(cx: Cx) -> Result<Json<Value>, Fault> {
    cx.version.require(3..)?;
    let volume = found(&cx, cx.view().await?.get(&cx.id()))?;
    policy::reader(&cx.caller, volume.meta.project.as_ref(), "message:get")?;
    Ok(Json(json!({ "message": render(&cx, &volume) })))
}

async fn delete(cx: Cx) -> Result<Response, Fault> {
    cx.version.require(3..)?;
    let call = cx.clone();
    cx.store()
        .transact(move |tx: &mut Tx| {
            let volume = found(&call, tx.get(&call.id()))?;
            policy::member(&call.caller, volume.meta.project.as_ref(), "message:delete")?;
            tx.update(&volume.meta.id, |volume: &mut Volume| {
                volume.spec.put_away = volume.status.fault.as_ref().map(|fault| fault.at);
                Ok::<_, Fault>(())
            })
        })
        .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
