//! Snapshots: `/snapshots`.

mod actions;
mod list;

use std::sync::LazyLock;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};
use unkai_model::Id;
use unkai_model::volume::{Snapshot, SnapshotPhase, Volume};
use unkai_openstack::web::schema::{Schema, as_bool};
use unkai_openstack::web::{Body, Fault};
use unkai_openstack::{Routes, iso};
use unkai_store::{Tx, View};

use crate::cx::Cx;
use crate::verbs::{self, Wanted};
use crate::volumes::{description, metadata, said};

pub fn routes() -> Routes {
    Routes::new()
        .get("/snapshots", list::brief)
        .post("/snapshots", create)
        .get("/snapshots/detail", list::detail)
        .get("/snapshots/{id}", show)
        .put("/snapshots/{id}", update)
        .delete("/snapshots/{id}", delete)
        .post("/snapshots/{id}/action", actions::act)
        .merge(metadata::routes("/snapshots", "volume", metadata::of_snapshot()))
}

/// In percent: what somebody said of it, else all or nothing.
fn progress(snapshot: &Snapshot) -> &str {
    match (&snapshot.progress, &snapshot.phase) {
        (Some(said), _) => said,
        (None, SnapshotPhase::Creating) => "0%",
        (None, _) => "100%",
    }
}

fn render(cx: &Cx, view: &View, snapshot: &Snapshot, detail: bool) -> Value {
    let mut body = json!({
        "id": snapshot.meta.id,
        "name": snapshot.meta.name,
        "description": snapshot.description,
        "created_at": iso(snapshot.meta.created),
        "updated_at": iso(snapshot.meta.updated),
        "status": verbs::snapshot_state(view, snapshot),
        "size": snapshot.size_gib,
        "volume_id": snapshot.volume,
        "metadata": snapshot.metadata,
    });
    if detail {
        body["os-extended-snapshot-attributes:project_id"] = json!(snapshot.meta.project);
        body["os-extended-snapshot-attributes:progress"] = json!(progress(snapshot));
        if cx.version.at_least(14) {
            body["group_snapshot_id"] = Value::Null;
        }
        if cx.version.at_least(41) {
            body["user_id"] = json!(snapshot.user);
        }
        if cx.version.at_least(65) {
            body["consumes_quota"] = json!(true);
        }
    }
    body
}

async fn show(cx: Cx) -> Result<Json<Value>, Fault> {
    let view = cx.view().await?;
    let snapshot = cx.find::<Snapshot>(&view, "volume:get_snapshot")?;
    Ok(Json(json!({ "snapshot": render(&cx, &view, &snapshot, true) })))
}

static CREATE: LazyLock<Schema> = LazyLock::new(|| {
    let snapshot = description()
        .required("volume_id", Schema::uuid().or_null())
        .optional("force", Schema::Boolean)
        .optional("metadata", metadata::schema().or_null());
    Schema::wrapped("snapshot", snapshot)
});

async fn create(cx: Cx, body: Body) -> Result<Response, Fault> {
    let body = body.validated(&CREATE, cx.version)?["snapshot"].take();
    // From 3.66 on a snapshot of a volume that is used needs no word; a word against it is refused.
    let force = match (body.get("force").map(as_bool), cx.version.at_least(66)) {
        (Some(false), true) => {
            let text = "Invalid input received: Invalid value 'false' for 'force'. (Use of the 'force' flag is deprecated.)";
            return Err(Fault::bad_request(text));
        }
        (said, newer) => newer || said.unwrap_or(false),
    };
    let wanted = Wanted {
        user: cx.caller.user.clone(),
        name: said(&body, "name").unwrap_or_default().trim().to_owned(),
        description: said(&body, "description").map(str::to_owned),
        metadata: metadata::read(&body["metadata"]),
        force,
    };
    let volume = Id::<Volume>::new(body["volume_id"].as_str().unwrap_or("None"));
    let call = cx.clone();
    let snapshot = cx
        .store()
        .transact(move |tx: &mut Tx| {
            let rule = "volume:create_snapshot";
            let found = call.find_id(&tx.view(), &volume, rule)?;
            unkai_openstack::web::policy::member(&call.caller, found.meta.project.as_ref(), rule)?;
            Ok::<_, Fault>(verbs::snapshot(tx, &volume, wanted.clone())?)
        })
        .await?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "snapshot": render(&cx, &cx.store().view(), &snapshot, false) }))).into_response())
}

static UPDATE: LazyLock<Schema> = LazyLock::new(|| Schema::wrapped("snapshot", description()));

async fn update(cx: Cx, body: Body) -> Result<Json<Value>, Fault> {
    let body = body.validated(&UPDATE, cx.version)?["snapshot"].take();
    if body.as_object().is_none_or(|object| object.is_empty()) {
        return Err(Fault::bad_request("Invalid input received: Must specify at least one of name or description."));
    }
    let call = cx.clone();
    let snapshot = cx
        .store()
        .transact(move |tx: &mut Tx| {
            let found = call.find_to_change::<Snapshot>(tx, "volume:update_snapshot")?;
            tx.update(&found.meta.id, |snapshot: &mut Snapshot| {
                if let Some(name) = said(&body, "name") {
                    snapshot.meta.name = name.trim().to_owned();
                }
                if let Some(description) = said(&body, "description") {
                    snapshot.description = Some(description.to_owned());
                }
                Ok::<_, Fault>(())
            })
        })
        .await?;
    Ok(Json(json!({ "snapshot": render(&cx, &cx.store().view(), &snapshot, false) })))
}

async fn delete(cx: Cx) -> Result<Response, Fault> {
    let call = cx.clone();
    cx.store()
        .transact(move |tx: &mut Tx| {
            let found = call.find_to_change::<Snapshot>(tx, "volume:delete_snapshot")?;
            Ok::<_, Fault>(verbs::delete_snapshot(tx, &found.meta.id, false)?)
        })
        .await?;
    Ok(StatusCode::ACCEPTED.into_response())
}
