//! `/attachments`, since 3.27: the use of a volume in steps. It is reserved; with a connector, or when it is said to be complete, the server
//! has it.
//!
//! A server of this cloud gets the volume in truth, and is the one to lose it. Of others it is noted what was said.

use std::sync::{Arc, LazyLock};

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};
use unkai_model::Id;
use unkai_model::compute::Server;
use unkai_model::volume::{AttachState, Attachment, Mode, Volume};
use unkai_openstack::web::schema::{Schema, object};
use unkai_openstack::web::{Body, Fault, Query, policy};
use unkai_openstack::{Routes, iso};
use unkai_store::{Tx, View};

use crate::actions::attach::{give, take};
use crate::connection;
use crate::cx::Cx;
use crate::page::{self, Key};
use crate::verbs::{self, How};

pub fn routes() -> Routes {
    Routes::new()
        .get("/attachments", brief_list)
        .post("/attachments", create)
        .get("/attachments/detail", full_list)
        .get("/attachments/{id}", show)
        .put("/attachments/{id}", update)
        .delete("/attachments/{id}", delete)
        .post("/attachments/{id}/action", complete)
}

fn state(attachment: &Attachment) -> &'static str {
    match attachment.state {
        AttachState::Reserved => "reserved",
        AttachState::Attaching => "attaching",
        AttachState::Attached => "attached",
        AttachState::Detaching => "detaching",
    }
}

fn brief(attachment: &Attachment) -> Value {
    json!({ "id": attachment.meta.id, "status": state(attachment), "instance": attachment.server, "volume_id": attachment.volume })
}

fn full(view: &View, attachment: &Attachment) -> Value {
    let mut body = brief(attachment);
    body["attached_at"] = json!(attachment.attached_at.map_or_else(String::new, iso));
    body["detached_at"] = json!(attachment.detached_at.map_or_else(String::new, iso));
    body["attach_mode"] = json!(attachment.mode.as_str());
    // Hosts of this cloud are told by another road how they reach it.
    let foreign = attachment.connector.is_some() && !is_of_this_cloud(view, attachment);
    let volume = view.get(&attachment.volume).filter(|_| foreign);
    body["connection_info"] = volume.and_then(|volume| connection::info(view, &volume).ok()).unwrap_or_else(|| json!({}));
    body
}

fn is_of_this_cloud(view: &View, attachment: &Attachment) -> bool {
    attachment.server.as_ref().is_some_and(|server| view.get(server).is_some())
}

async fn brief_list(cx: Cx, query: Query) -> Result<Json<Value>, Fault> {
    list(&cx, &query, "attachments", |_, attachment| brief(attachment)).await
}

async fn full_list(cx: Cx, query: Query) -> Result<Json<Value>, Fault> {
    list(&cx, &query, "attachments/detail", full).await
}

async fn list(cx: &Cx, query: &Query, path: &str, render: fn(&View, &Attachment) -> Value) -> Result<Json<Value>, Fault> {
    cx.version.require(27..)?;
    let view = cx.view().await?;
    let mut all = page::visible::<Attachment>(&view, cx, query)?;
    for (name, value) in &query.0 {
        match name.as_str() {
            "volume_id" => all.retain(|one| one.volume.as_str() == value),
            "instance_id" => all.retain(|one| one.server.as_ref().is_some_and(|server| server.as_str() == value)),
            "status" | "attach_status" => all.retain(|one| state(one) == value),
            _ => {}
        }
    }
    page::sort(&view, &mut all, query, key)?;
    let page = page::cut(all, query)?;
    Ok(Json(page.body(cx, "attachments", path, |attachment| render(&view, attachment))))
}

fn key(name: &str) -> Option<Key<Attachment>> {
    Some(match name {
        "id" => |_, attachment| json!(attachment.meta.id),
        "volume_id" => |_, attachment| json!(attachment.volume),
        "instance_id" => |_, attachment| json!(attachment.server),
        "status" | "attach_status" => |_, attachment| json!(state(attachment)),
        "created_at" | "updated_at" => |_, attachment| json!(attachment.meta.created.as_nanosecond().to_string()),
        _ => return None,
    })
}

async fn show(cx: Cx) -> Result<Json<Value>, Fault> {
    cx.version.require(27..)?;
    let view = cx.view().await?;
    let attachment = cx.find::<Attachment>(&view, "volume:attachment_get")?;
    Ok(Json(json!({ "attachment": full(&view, &attachment) })))
}

fn connector() -> Schema {
    Schema::from(object().open()).or_null()
}

static CREATE: LazyLock<Schema> = LazyLock::new(|| {
    let attachment = object()
        .required("volume_uuid", Schema::uuid())
        .optional("instance_uuid", Schema::uuid().or_null())
        .optional("connector", connector())
        .optional_in(54.., "mode", Schema::one_of(["rw", "ro", "null"]).or_null());
    Schema::wrapped("attachment", attachment)
});

/// What a caller says about its own initiator, when it says anything.
fn said(body: &Value) -> Option<Value> {
    body["connector"].as_object().filter(|said| !said.is_empty()).map(|said| json!(said))
}

async fn create(cx: Cx, body: Body) -> Result<Json<Value>, Fault> {
    cx.version.require(27..)?;
    let body = body.validated(&CREATE, cx.version)?["attachment"].take();
    let volume = Id::<Volume>::new(body["volume_uuid"].as_str().unwrap_or_default());
    let server = body["instance_uuid"].as_str().map(Id::<Server>::new);
    let mode = if body["mode"] == "ro" { Mode::ReadOnly } else { Mode::ReadWrite };
    let (call, connector) = (cx.clone(), said(&body));
    let made = cx
        .store()
        .transact(move |tx: &mut Tx| {
            let found = call.find_id(&tx.view(), &volume, "volume:attachment_create")?;
            policy::member(&call.caller, found.meta.project.as_ref(), "volume:attachment_create")?;
            let made = verbs::reserve(tx, &volume, server.as_ref(), mode)?;
            match &connector {
                Some(connector) => connect(tx, &call, &made, connector),
                None => Ok(made),
            }
        })
        .await?;
    Ok(Json(json!({ "attachment": full(&cx.store().view(), &made) })))
}

/// A server of this cloud gets the volume; whoever else asks is told how it is reached.
fn connect(tx: &mut Tx, cx: &Cx, attachment: &Attachment, connector: &Value) -> Result<Arc<Attachment>, Fault> {
    let volume = tx.require(&attachment.volume)?;
    let server = attachment.server.as_ref().and_then(|id| tx.get(id));
    match server {
        Some(_) if attachment.state != AttachState::Reserved => {}
        Some(server) => give(tx, cx, &volume, &server, How { mode: attachment.mode, ..How::default() })?,
        None => drop(connection::info(&tx.view(), &volume)?),
    }
    tx.update(&attachment.meta.id, |attachment: &mut Attachment| {
        attachment.connector = Some(connector.clone());
        Ok(())
    })
}

static UPDATE: LazyLock<Schema> = LazyLock::new(|| Schema::wrapped("attachment", object().required("connector", object().open())));

async fn update(cx: Cx, body: Body) -> Result<Json<Value>, Fault> {
    cx.version.require(27..)?;
    let body = body.validated(&UPDATE, cx.version)?["attachment"].take();
    let (call, connector) = (cx.clone(), body["connector"].clone());
    let changed = cx
        .store()
        .transact(move |tx: &mut Tx| {
            let found = call.find_to_change::<Attachment>(tx, "volume:attachment_update")?;
            connect(tx, &call, &found, &connector)
        })
        .await?;
    Ok(Json(json!({ "attachment": full(&cx.store().view(), &changed) })))
}

/// What is reserved or noted goes at once; a server of this cloud lets go first.
async fn delete(cx: Cx) -> Result<Json<Value>, Fault> {
    cx.version.require(27..)?;
    let call = cx.clone();
    let left = cx
        .store()
        .transact(move |tx: &mut Tx| {
            let found = call.find_to_change::<Attachment>(tx, "volume:attachment_delete")?;
            take(tx, &call, &found)?;
            let left: Vec<Value> = tx.by_index::<Attachment>("volume", found.volume.as_str()).map(|one| brief(&one)).collect();
            Ok::<_, Fault>(left)
        })
        .await?;
    Ok(Json(json!({ "attachments": left })))
}

async fn complete(cx: Cx, body: Body) -> Result<Response, Fault> {
    cx.version.require(44..)?;
    if body.unchecked().get("os-complete").is_none() {
        return Err(Fault::bad_request("There is no such action."));
    }
    let call = cx.clone();
    cx.store()
        .transact(move |tx: &mut Tx| {
            let found = call.find_to_change::<Attachment>(tx, "volume:attachment_complete")?;
            if is_of_this_cloud(&tx.view(), &found) {
                return connect(tx, &call, &found, &found.connector.clone().unwrap_or_else(|| json!({}))).map(drop);
            }
            let now = tx.now();
            tx.update(&found.meta.id, |attachment: &mut Attachment| {
                attachment.state = AttachState::Attached;
                attachment.attached_at.get_or_insert(now);
                Ok(())
            })
            .map(drop)
        })
        .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
