//! `POST /volumes`.

use std::sync::LazyLock;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};
use unkai_model::identity::Project;
use unkai_model::image::Image;
use unkai_model::volume::{Backup, Snapshot, Source, Volume};
use unkai_model::{Error, Id};
use unkai_openstack::web::schema::{Schema, as_bool, as_int, object};
use unkai_openstack::web::{Body, Fault};
use unkai_store::{Tx, View};

use super::view::Shown;
use super::{description, metadata, said};
use crate::cx::Cx;
use crate::verbs::{self, New};
use crate::{types, zones};

static CREATE: LazyLock<Schema> = LazyLock::new(|| {
    let id = || Schema::uuid().or_null();
    let volume = description()
        .optional("size", Schema::Integer { min: 1, max: i64::from(i32::MAX) }.or_null())
        .optional("volume_type", Schema::string(0, 255).or_null())
        .optional("metadata", metadata::schema().or_null())
        .optional("snapshot_id", id())
        .optional("source_volid", id())
        .optional("source_replica", id())
        .optional("consistencygroup_id", id())
        .optional_in(13.., "group_id", id())
        .optional_in(47.., "backup_id", id())
        .optional("imageRef", Schema::string(0, 255).or_null())
        .optional("image_id", Schema::string(0, 255).or_null())
        .optional("availability_zone", Schema::string(0, 255).or_null())
        .optional("multiattach", Schema::Boolean.or_null())
        .optional("user_id", Schema::Any)
        .optional("project_id", Schema::Any)
        .optional("status", Schema::Any)
        .optional("attach_status", Schema::Any);
    object().required("volume", volume).optional("OS-SCH-HNT:scheduler_hints", Schema::Any).into()
});

pub async fn create(cx: Cx, body: Body) -> Result<Response, Fault> {
    let body = body.validated(&CREATE, cx.version)?;
    if body["OS-SCH-HNT:scheduler_hints"].as_object().is_some_and(|hints| !hints.is_empty()) {
        return Err(Fault::bad_request("Invalid input received: Scheduler hints are not supported: types say where volumes go."));
    }
    let wish = body["volume"].clone();
    for group in ["consistencygroup_id", "group_id", "source_replica"] {
        if wish[group].is_string() {
            return Err(Fault::not_found(format!("{} {} could not be found.", "Group", wish[group].as_str().unwrap_or_default())));
        }
    }
    let project = cx.require_member("volume:create")?;
    let call = cx.clone();
    let volume = cx
        .store()
        .transact(move |tx: &mut Tx| {
            let new = read(&tx.view(), &call, &project, &wish)?;
            Ok::<_, Fault>(verbs::create(tx, new)?)
        })
        .await?;
    let shown = Shown { cx: &cx, view: &cx.store().view() }.changed(&volume);
    Ok((StatusCode::ACCEPTED, Json(json!({ "volume": shown }))).into_response())
}

fn read(view: &View, cx: &Cx, project: &Id<Project>, wish: &Value) -> Result<New, Fault> {
    let source = source(view, cx, wish)?;
    let volume_type = match text(wish, "volume_type") {
        Some(name) => Some(types::named(view, cx, name)?.meta.id.clone()),
        None => None,
    };
    let multi_attach = as_bool(&wish["multiattach"]);
    if multi_attach && cx.version.at_least(50) {
        let text = "Invalid volume: multiattach is a property of volume types: one with multiattach=\"<is> True\" is needed.";
        return Err(Fault::bad_request(text));
    }
    let zone = text(wish, "availability_zone").map(str::to_owned);
    if let Some(zone) = zone.as_ref().filter(|zone| !zones::exists(view, zone)) {
        return Err(Fault::bad_request(format!("Invalid input received: Availability zone '{zone}' is invalid.")));
    }
    Ok(New {
        name: said(wish, "name").unwrap_or_default().trim().to_owned(),
        description: said(wish, "description").map(str::to_owned),
        size_gib: as_int(&wish["size"]).and_then(|size| u64::try_from(size).ok()),
        source,
        volume_type,
        zone,
        metadata: metadata::read(&wish["metadata"]),
        multi_attach,
        ..New::blank(project.clone(), cx.caller.user.clone())
    })
}

/// A text that says something.
fn text<'a>(wish: &'a Value, key: &str) -> Option<&'a str> {
    wish[key].as_str().filter(|text| !text.is_empty())
}

fn source(view: &View, cx: &Cx, wish: &Value) -> Result<Source, Fault> {
    let image = text(wish, "imageRef").or(text(wish, "image_id"));
    let said = [text(wish, "snapshot_id"), text(wish, "source_volid"), image, text(wish, "backup_id")];
    if said.iter().flatten().count() > 1 {
        return Err(Fault::bad_request(
            "Invalid input received: A volume is made from one thing: a snapshot, a volume, an image or a backup.",
        ));
    }
    let [snapshot, volume, image, backup] = said;
    if let Some(id) = snapshot {
        let id = Id::<Snapshot>::new(id);
        return Ok(Source::Snapshot(cx.find_id(view, &id, "volume:create")?.meta.id.clone()));
    }
    if let Some(id) = volume {
        let id = Id::<Volume>::new(id);
        return Ok(Source::Volume(cx.find_id(view, &id, "volume:create")?.meta.id.clone()));
    }
    if let Some(id) = backup {
        let id = Id::<Backup>::new(id);
        return Ok(Source::Backup(cx.find_id(view, &id, "volume:create")?.meta.id.clone()));
    }
    let Some(reference) = image else { return Ok(Source::Blank) };
    let id = the_image(view, cx, reference)?;
    match root_snapshot(view, cx, &id) {
        Some(snapshot) => Ok(Source::Snapshot(snapshot)),
        None => Ok(Source::Image(id)),
    }
}

/// Images of servers that start from volumes have no bytes; from 3.46 on, a volume of one is made of the snapshot of the root disk.
fn root_snapshot(view: &View, cx: &Cx, id: &Id<Image>) -> Option<Id<Snapshot>> {
    let image = view.get(id).filter(|image| cx.version.at_least(46) && image.status.content.is_none())?;
    let disks: Vec<Value> = serde_json::from_str(image.spec.properties.get("block_device_mapping")?).ok()?;
    let root = disks.iter().find(|disk| as_int(&disk["boot_index"]) == Some(0))?;
    let snapshot = view.get(&Id::<Snapshot>::new(root["snapshot_id"].as_str()?))?;
    cx.sees(snapshot.meta.project.as_ref()).then(|| snapshot.meta.id.clone())
}

/// An image by its id, or by an address that ends with it.
pub fn the_image(view: &View, cx: &Cx, reference: &str) -> Result<Id<Image>, Fault> {
    let id = Id::<Image>::new(reference.rsplit('/').next().unwrap_or(reference));
    let visible = |image: &Image| cx.sees(image.meta.project.as_ref()) || image.is_visible_to(cx.caller.project.as_ref());
    let found = view.get(&id).filter(|image| visible(image));
    let missing = || Error::invalid("Invalid image identifier or unable to access requested image.");
    Ok(found.ok_or_else(missing)?.meta.id.clone())
}
