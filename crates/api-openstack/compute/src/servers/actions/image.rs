//! Images of a server: snapshots and rotating backups.

use std::collections::BTreeMap;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde_json::json;
use unkai_model::Id;
use unkai_model::compute::{BootDisk, Server, VmState};
use unkai_model::image::Image;
use unkai_store::Tx;

use super::super::create::{check_metadata, strings, text};
use super::super::cx::Cx;
use super::super::perform::{Rule, look, perform};
use super::super::{schemas, snapshot, volume_image};
use super::Action;
use crate::Fault;
use crate::schema::as_int;

const STATES: &[VmState] = &[VmState::Active, VmState::Stopped, VmState::Paused, VmState::Suspended];
static CREATE_IMAGE: Rule =
    Rule { lasting: true, ..Rule::verb("createImage", "os_compute_api:servers:create_image", STATES, "compute_snapshot_instance") };
/// Hosts take the snapshots of volumes; the image is there at once.
static CREATE_IMAGE_OF_VOLUMES: Rule =
    Rule { hosted: false, ..Rule::verb("createImage", "os_compute_api:servers:create_image", STATES, "api_snapshot_instance") };
static CREATE_BACKUP: Rule =
    Rule { lasting: true, ..Rule::verb("createBackup", "os_compute_api:os-create-backup", STATES, "compute_backup_instance") };
/// A rotation of none: older backups go and no new one is made.
static PRUNE_BACKUPS: Rule =
    Rule { lasting: false, ..Rule::verb("createBackup", "os_compute_api:os-create-backup", STATES, "compute_backup_instance") };

pub async fn create_image(request: Action) -> Result<Response, Fault> {
    request.check(&schemas::CREATE_IMAGE)?;
    let wanted = &request.body["createImage"];
    let (name, said) = (text(wanted, "name").unwrap_or_default(), strings(wanted, "metadata"));
    let cx = request.cx.clone();
    let (_, server, _) = look(&cx, &request.id).await?;
    // Where a server starts from never changes.
    let rule = if server.spec.launch.boot == BootDisk::Volume { &CREATE_IMAGE_OF_VOLUMES } else { &CREATE_IMAGE };
    let image = perform(&request.cx, &request.id, rule, move |tx, server, _| {
        if !cx.version.at_least(39) {
            check_metadata(&tx.view(), &cx, said.len())?;
        }
        match server.spec.launch.boot {
            BootDisk::Local => snapshot::take(tx, server, &name, said.clone()),
            BootDisk::Volume => volume_image::take(tx, server, &name, &said),
        }
    })
    .await?;
    Ok(answer(&request.cx, Some(image)))
}

/// From 2.45 on the body names the image; before, the location does.
fn answer(cx: &Cx, image: Option<Id<Image>>) -> Response {
    match image {
        None => StatusCode::ACCEPTED.into_response(),
        Some(image) if cx.version.at_least(45) => (StatusCode::ACCEPTED, Json(json!({ "image_id": image }))).into_response(),
        Some(image) => {
            let link = format!("{}/compute/images/{image}", cx.cloud.url);
            (StatusCode::ACCEPTED, [(header::LOCATION, link)]).into_response()
        }
    }
}

pub async fn create_backup(request: Action) -> Result<Response, Fault> {
    request.check(&schemas::CREATE_BACKUP)?;
    let wanted = &request.body["createBackup"];
    let (name, kind) = (text(wanted, "name").unwrap_or_default(), text(wanted, "backup_type").unwrap_or_default());
    let rotation = as_int(&wanted["rotation"]).and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
    let mut said = strings(wanted, "metadata");
    said.insert("image_type".into(), "backup".into());
    said.insert("backup_type".into(), kind.clone());
    let rule = if rotation == 0 { &PRUNE_BACKUPS } else { &CREATE_BACKUP };
    let image = perform(&request.cx, &request.id, rule, move |tx, server, _| back_up(tx, server, &name, &kind, rotation, &said)).await?;
    Ok(answer(&request.cx, image))
}

/// Makes a backup and removes the oldest of its kind, so that as many stay as were asked for.
fn back_up(
    tx: &mut Tx,
    server: &Server,
    name: &str,
    kind: &str,
    rotation: usize,
    said: &BTreeMap<String, String>,
) -> Result<Option<Id<Image>>, Fault> {
    if server.spec.launch.boot == BootDisk::Volume {
        return Err(Fault::bad_request("Backup is not supported for volume-backed instances."));
    }
    let project = server.meta.project.as_ref().map_or("", |p| p.as_str()).to_owned();
    let is = |image: &Image, key: &str, value: &str| image.spec.properties.get(key).is_some_and(|found| found == value);
    let of_kind = |image: &Image| {
        is(image, "instance_uuid", server.meta.id.as_str()) && is(image, "image_type", "backup") && is(image, "backup_type", kind)
    };
    let mut older: Vec<_> = tx.by_index::<Image>("project", &project).filter(|image| of_kind(image)).collect();
    older.sort_by(|a, b| (b.meta.created, &b.meta.id).cmp(&(a.meta.created, &a.meta.id)));
    for image in older.iter().skip(rotation.saturating_sub(1)) {
        tx.delete(&image.meta.id)?;
    }
    if rotation == 0 {
        return Ok(None);
    }
    snapshot::take(tx, server, name, said.clone()).map(Some)
}
