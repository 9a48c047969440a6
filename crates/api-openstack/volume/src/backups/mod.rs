//! Backups: `/backups`.

mod actions;
mod list;

use std::sync::LazyLock;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};
use unkai_model::Id;
use unkai_model::volume::{Backup, BackupPhase, Snapshot, Source, Volume};
use unkai_openstack::web::schema::{Schema, as_bool, object};
use unkai_openstack::web::{Body, Fault, policy};
use unkai_openstack::{Routes, iso};
use unkai_store::{Tx, View};

use crate::cx::Cx;
use crate::page::links;
use crate::verbs::{self, New, NewBackup};
use crate::volumes::metadata;

pub fn routes() -> Routes {
    Routes::new()
        .get("/backups", list::brief)
        .post("/backups", create)
        .get("/backups/detail", list::detail)
        .get("/backups/{id}", show)
        .put("/backups/{id}", update)
        .delete("/backups/{id}", delete)
        .post("/backups/{id}/restore", restore)
        .post("/backups/{id}/action", actions::act)
        .get("/backups/{id}/export_record", actions::export)
        .post("/backups/import_record", actions::import)
}

fn brief(cx: &Cx, backup: &Backup) -> Value {
    json!({ "id": backup.meta.id, "name": backup.meta.name, "links": links(cx, &format!("backups/{}", backup.meta.id)) })
}

fn with_metadata(cx: &Cx, backup: &Backup) -> Value {
    let mut body = brief(cx, backup);
    if cx.version.at_least(43) {
        body["metadata"] = json!(backup.metadata);
    }
    body
}

fn full(cx: &Cx, view: &View, backup: &Backup) -> Value {
    let mut body = with_metadata(cx, backup);
    let fail_reason = match &backup.phase {
        BackupPhase::Failed(reason) => Some(reason),
        _ => None,
    };
    for (key, value) in [
        ("status", json!(verbs::backup_state(view, backup))),
        ("size", json!(backup.size_gib)),
        ("object_count", json!(backup.facts.objects)),
        ("availability_zone", json!(backup.zone)),
        ("container", json!(backup.container)),
        ("created_at", json!(iso(backup.meta.created))),
        ("updated_at", json!(iso(backup.meta.updated))),
        ("data_timestamp", json!(iso(backup.data_timestamp))),
        ("description", json!(backup.description)),
        ("fail_reason", json!(fail_reason)),
        ("volume_id", json!(backup.volume)),
        ("snapshot_id", json!(backup.snapshot)),
        ("is_incremental", json!(backup.parent.is_some())),
        ("has_dependent_backups", json!(view.by_index::<Backup>("parent", backup.meta.id.as_str()).next().is_some())),
    ] {
        body[key] = value;
    }
    if cx.version.at_least(18) && cx.is_admin() {
        body["os-backup-project-attr:project_id"] = json!(backup.meta.project);
    }
    if cx.version.at_least(56) {
        body["user_id"] = json!(backup.user);
    }
    if let (Some(key), true) = (&backup.key, cx.version.at_least(64)) {
        body["encryption_key_id"] = json!(key);
    }
    body
}

async fn show(cx: Cx) -> Result<Json<Value>, Fault> {
    let view = cx.view().await?;
    let backup = cx.find::<Backup>(&view, "backup:get")?;
    Ok(Json(json!({ "backup": full(&cx, &view, &backup) })))
}

static CREATE: LazyLock<Schema> = LazyLock::new(|| {
    let text = || Schema::string(0, 255).or_null();
    let backup = object()
        .required("volume_id", Schema::uuid())
        .optional("container", text())
        .optional("description", text())
        .optional("incremental", Schema::Boolean.or_null())
        .optional("force", Schema::Boolean.or_null())
        .optional("name", text())
        .optional("snapshot_id", Schema::uuid().or_null())
        .optional_in(43.., "metadata", metadata::schema().or_null())
        .optional_in(51.., "availability_zone", text());
    Schema::wrapped("backup", backup)
});

async fn create(cx: Cx, body: Body) -> Result<Response, Fault> {
    let body = body.validated(&CREATE, cx.version)?["backup"].take();
    let text = |key: &str| body[key].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let new = NewBackup {
        user: cx.caller.user.clone(),
        name: text("name").unwrap_or_default().trim().to_owned(),
        description: text("description"),
        container: text("container"),
        zone: text("availability_zone"),
        metadata: metadata::read(&body["metadata"]),
        snapshot: text("snapshot_id").map(|id| Id::<Snapshot>::new(id.as_str())),
        incremental: as_bool(&body["incremental"]),
        force: as_bool(&body["force"]),
    };
    let volume = Id::<Volume>::new(body["volume_id"].as_str().unwrap_or_default());
    let call = cx.clone();
    let backup = cx
        .store()
        .transact(move |tx: &mut Tx| {
            let found = call.find_id(&tx.view(), &volume, "backup:create")?;
            policy::member(&call.caller, found.meta.project.as_ref(), "backup:create")?;
            Ok::<_, Fault>(verbs::backup(tx, &volume, new.clone())?)
        })
        .await?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "backup": with_metadata(&cx, &backup) }))).into_response())
}

static UPDATE: LazyLock<Schema> = LazyLock::new(|| {
    let text = || Schema::string(0, 255).or_null();
    let backup =
        object().optional("name", text()).optional("description", text()).optional_in(43.., "metadata", metadata::schema().or_null());
    Schema::wrapped("backup", backup)
});

async fn update(cx: Cx, body: Body) -> Result<Json<Value>, Fault> {
    cx.version.require(9..)?;
    let body = body.validated(&UPDATE, cx.version)?["backup"].take();
    if body.as_object().is_none_or(|object| object.is_empty()) {
        return Err(Fault::bad_request("Invalid input received: Must specify at least one of name, description or metadata."));
    }
    let call = cx.clone();
    let backup = cx
        .store()
        .transact(move |tx: &mut Tx| {
            let found = call.find_to_change::<Backup>(tx, "backup:update")?;
            tx.update(&found.meta.id, |backup: &mut Backup| {
                if let Some(name) = body["name"].as_str() {
                    backup.meta.name = name.trim().to_owned();
                }
                if let Some(description) = body["description"].as_str() {
                    backup.description = Some(description.to_owned());
                }
                if body["metadata"].is_object() {
                    backup.metadata = metadata::read(&body["metadata"]);
                }
                Ok::<_, Fault>(())
            })
        })
        .await?;
    Ok(Json(json!({ "backup": with_metadata(&cx, &backup) })))
}

async fn delete(cx: Cx) -> Result<Response, Fault> {
    let call = cx.clone();
    cx.store()
        .transact(move |tx: &mut Tx| {
            let found = call.find_to_change::<Backup>(tx, "backup:delete")?;
            Ok::<_, Fault>(verbs::delete_backup(tx, &found.meta.id, false)?)
        })
        .await?;
    Ok(StatusCode::ACCEPTED.into_response())
}

static RESTORE: LazyLock<Schema> = LazyLock::new(|| {
    let restore = object().optional("name", Schema::string(0, 255).or_null()).optional("volume_id", Schema::uuid().or_null());
    Schema::wrapped("restore", Schema::from(restore).or_null())
});

async fn restore(cx: Cx, body: Body) -> Result<Response, Fault> {
    let body = body.validated(&RESTORE, cx.version)?["restore"].take();
    let project = cx.require_member("backup:restore")?;
    let into = body["volume_id"].as_str().filter(|id| !id.is_empty()).map(Id::<Volume>::new);
    let call = cx.clone();
    let id = cx.id::<Backup>();
    let name = body["name"].as_str().filter(|name| !name.is_empty()).map_or_else(|| format!("restore_backup_{id}"), str::to_owned);
    let volume = cx
        .store()
        .transact(move |tx: &mut Tx| {
            let backup = call.find_to_change::<Backup>(tx, "backup:restore")?;
            if let Some(into) = &into {
                let volume = call.find_id(&tx.view(), into, "backup:restore")?;
                policy::member(&call.caller, volume.meta.project.as_ref(), "backup:restore")?;
            }
            let new = New {
                name: name.clone(),
                size_gib: Some(backup.size_gib),
                source: Source::Backup(backup.meta.id.clone()),
                ..New::blank(project.clone(), call.caller.user.clone())
            };
            Ok::<_, Fault>(verbs::restore_backup(tx, &backup.meta.id, into.as_ref(), new)?)
        })
        .await?;
    let restore = json!({ "backup_id": id, "volume_id": volume.meta.id, "volume_name": volume.meta.name });
    Ok((StatusCode::ACCEPTED, Json(json!({ "restore": restore }))).into_response())
}
