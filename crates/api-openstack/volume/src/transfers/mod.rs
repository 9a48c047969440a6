//! Volumes offered to other projects: `/os-volume-transfer`, and since 3.55 `/volume-transfers`.

use std::sync::LazyLock;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};
use unkai_model::volume::{Transfer, Volume};
use unkai_model::{Error, Id};
use unkai_openstack::web::schema::{Schema, as_bool, object};
use unkai_openstack::web::{Body, Fault, Query, policy};
use unkai_openstack::{Routes, iso};
use unkai_store::Tx;

use crate::cx::Cx;
use crate::page::{self, Key, links};
use crate::verbs;

pub fn routes() -> Routes {
    at("/os-volume-transfer").merge(at("/volume-transfers"))
}

fn at(path: &str) -> Routes {
    let one = format!("{path}/{{id}}");
    Routes::new()
        .get(path, brief_list)
        .post(path, create)
        .get(&format!("{path}/detail"), full_list)
        .get(&one, show)
        .delete(&one, delete)
        .post(&format!("{one}/accept"), accept)
}

fn brief(cx: &Cx, transfer: &Transfer) -> Value {
    let id = &transfer.meta.id;
    let links = links(cx, &format!("os-volume-transfer/{id}"));
    json!({ "id": id, "volume_id": transfer.volume, "name": transfer.meta.name, "links": links })
}

fn full(cx: &Cx, transfer: &Transfer) -> Value {
    let mut body = brief(cx, transfer);
    body["created_at"] = json!(iso(transfer.meta.created));
    if cx.version.at_least(55) {
        body["no_snapshots"] = json!(transfer.no_snapshots);
    }
    if cx.version.at_least(57) {
        body["source_project_id"] = json!(transfer.meta.project);
        body["destination_project_id"] = json!(transfer.destination);
        // One that was accepted is gone.
        body["accepted"] = json!(false);
    }
    body
}

async fn brief_list(cx: Cx, query: Query) -> Result<Json<Value>, Fault> {
    list(&cx, &query, "os-volume-transfer", brief).await
}

async fn full_list(cx: Cx, query: Query) -> Result<Json<Value>, Fault> {
    list(&cx, &query, "os-volume-transfer/detail", full).await
}

async fn list(cx: &Cx, query: &Query, path: &str, render: fn(&Cx, &Transfer) -> Value) -> Result<Json<Value>, Fault> {
    let view = cx.view().await?;
    let mut transfers = page::visible::<Transfer>(&view, cx, query)?;
    transfers.retain(|transfer| query.get("name").is_none_or(|name| transfer.meta.name == name));
    page::sort(&view, &mut transfers, query, key)?;
    let page = page::cut(transfers, query)?;
    Ok(Json(page.body(cx, "transfers", path, |transfer| render(cx, transfer))))
}

fn key(name: &str) -> Option<Key<Transfer>> {
    Some(match name {
        "id" => |_, transfer| json!(transfer.meta.id),
        "name" | "display_name" => |_, transfer| json!(transfer.meta.name),
        "created_at" | "updated_at" => |_, transfer| json!(transfer.meta.created.as_nanosecond().to_string()),
        _ => return None,
    })
}

async fn show(cx: Cx) -> Result<Json<Value>, Fault> {
    let view = cx.view().await?;
    let transfer = cx.find::<Transfer>(&view, "volume:get_transfer")?;
    Ok(Json(json!({ "transfer": full(&cx, &transfer) })))
}

static CREATE: LazyLock<Schema> = LazyLock::new(|| {
    let transfer = object().required("volume_id", Schema::uuid()).optional("name", Schema::string(0, 255).or_null()).optional_in(
        55..,
        "no_snapshots",
        Schema::Boolean,
    );
    Schema::wrapped("transfer", transfer)
});

async fn create(cx: Cx, body: Body) -> Result<Response, Fault> {
    let body = body.validated(&CREATE, cx.version)?["transfer"].take();
    let volume = Id::<Volume>::new(body["volume_id"].as_str().unwrap_or_default());
    let name = body["name"].as_str().unwrap_or_default().trim().to_owned();
    let no_snapshots = as_bool(&body["no_snapshots"]);
    let call = cx.clone();
    let (transfer, key) = cx
        .store()
        .transact(move |tx: &mut Tx| {
            let found = call.find_id(&tx.view(), &volume, "volume:create_transfer")?;
            policy::member(&call.caller, found.meta.project.as_ref(), "volume:create_transfer")?;
            if found.spec.key.is_some() && !call.version.at_least(70) {
                return Err(Fault::bad_request("Invalid volume: transferring encrypted volume is not supported"));
            }
            Ok(verbs::offer(tx, &volume, &name, no_snapshots)?)
        })
        .await?;
    let mut shown = full(&cx, &transfer);
    shown["auth_key"] = json!(key);
    Ok((StatusCode::ACCEPTED, Json(json!({ "transfer": shown }))).into_response())
}

static ACCEPT: LazyLock<Schema> = LazyLock::new(|| Schema::wrapped("accept", object().required("auth_key", Schema::string(0, 255))));

/// By whoever knows the key.
async fn accept(cx: Cx, body: Body) -> Result<Response, Fault> {
    let key = body.validated(&ACCEPT, cx.version)?["accept"]["auth_key"].as_str().unwrap_or_default().to_owned();
    let project = cx.require_member("volume:accept_transfer")?;
    let (id, user) = (cx.id::<Transfer>(), cx.caller.user.clone());
    let transfer = cx
        .store()
        .transact(move |tx: &mut Tx| {
            if tx.get(&id).is_none() {
                return Err(Error::not_found::<Transfer>(&id));
            }
            verbs::accept(tx, &id, &key, &project, &user)
        })
        .await?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "transfer": brief(&cx, &transfer) }))).into_response())
}

async fn delete(cx: Cx) -> Result<Response, Fault> {
    let call = cx.clone();
    cx.store()
        .transact(move |tx: &mut Tx| {
            let found = call.find_to_change::<Transfer>(tx, "volume:delete_transfer")?;
            Ok::<_, Fault>(tx.delete(&found.meta.id).map(drop)?)
        })
        .await?;
    Ok(StatusCode::ACCEPTED.into_response())
}
