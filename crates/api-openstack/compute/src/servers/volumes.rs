//! The volumes of a server: `/servers/{id}/os-volume_attachments`.

use std::sync::Arc;

use axum::Json;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Map, Value, json};
use unkai_model::Id;
use unkai_model::compute::{Server, VmState};
use unkai_model::volume::{AttachState, Attachment, Volume};
use unkai_store::View;
use unkai_volume::verbs::{self, How};

use super::create::text;
use super::cx::Cx;
use super::perform::{Rule, look, perform};
use super::schemas;
use super::state::State;
use crate::body::Body;
use crate::query::Query;
use crate::schema::as_bool;
use crate::{Fault, Microversion};

const STATES: &[VmState] =
    &[VmState::Active, VmState::Paused, VmState::Stopped, VmState::Resized, VmState::Shelved, VmState::ShelvedOffloaded];
static ATTACH: Rule =
    Rule { hosted: false, ..Rule::verb("attach_volume", "os_compute_api:os-volumes-attachments:create", STATES, "compute_attach_volume") };
static DETACH: Rule =
    Rule { hosted: false, ..Rule::verb("detach_volume", "os_compute_api:os-volumes-attachments:delete", STATES, "compute_detach_volume") };
static UPDATE: Rule = Rule { lock: false, ..Rule::note("update_attachment", "os_compute_api:os-volumes-attachments:update", &[]) };

/// The volumes that a server has or is about to have, root first.
pub fn attached(view: &View, server: &Id<Server>) -> impl Iterator<Item = Arc<Attachment>> {
    verbs::attachments(view, server).into_iter().filter(|attachment| attachment.state != AttachState::Reserved)
}

/// The volume, when the caller may know of it.
pub fn find(view: &View, cx: &Cx, id: &str) -> Result<Arc<Volume>, Fault> {
    let volume = view.get(&Id::<Volume>::new(id)).filter(|volume| cx.sees(volume.meta.project.as_ref()));
    volume.ok_or_else(|| Fault::not_found(format!("Volume {id} could not be found.")))
}

/// The volume that a server starts from.
pub fn root(view: &View, server: &Id<Server>) -> Option<Arc<Volume>> {
    attached(view, server).find(|attachment| attachment.is_root()).and_then(|root| view.get(&root.volume))
}

fn attachment(view: &View, server: &Id<Server>, volume: &str) -> Result<Arc<Attachment>, Fault> {
    let mut all = attached(view, server);
    let found = all.find(|attachment| attachment.volume.as_str() == volume);
    found.ok_or_else(|| Fault::not_found(format!("Instance {server} is not attached to volume {volume}")))
}

fn body(attachment: &Attachment, server: &Id<Server>, version: Microversion) -> Value {
    let mut body = Map::from_iter([("volumeId".to_owned(), json!(attachment.volume)), ("serverId".to_owned(), json!(server))]);
    let mut say = |key: &str, value: Value| body.insert(key.to_owned(), value);
    if let Some(device) = &attachment.device {
        say("device", json!(device));
    }
    if version.at_least(70) {
        say("tag", json!(attachment.tag));
    }
    if version.at_least(79) {
        say("delete_on_termination", json!(attachment.delete_on_termination));
    }
    if version.at_least(89) {
        say("attachment_id", json!(attachment.meta.id));
        say("bdm_uuid", json!(attachment.meta.id));
    } else {
        say("id", json!(attachment.volume));
    }
    Value::Object(body)
}

pub async fn index(cx: Cx, Path(id): Path<String>, query: Query) -> Result<Response, Fault> {
    query.check(&schemas::LIST_ATTACHMENTS, cx.version)?;
    let (view, server, _) = look(&cx, &id).await?;
    let offset = query.get("offset").and_then(|offset| offset.parse().ok()).unwrap_or(0);
    let limit = query.limit()?;
    let all = attached(&view, &server.meta.id).skip(offset).take(if limit == 0 { usize::MAX } else { limit });
    let list: Vec<Value> = all.map(|attachment| body(&attachment, &server.meta.id, cx.version)).collect();
    Ok(Json(json!({ "volumeAttachments": list })).into_response())
}

pub async fn show(cx: Cx, Path((id, volume)): Path<(String, String)>) -> Result<Response, Fault> {
    let (view, server, _) = look(&cx, &id).await?;
    let attachment = attachment(&view, &server.meta.id, &volume)?;
    Ok(Json(json!({ "volumeAttachment": body(&attachment, &server.meta.id, cx.version) })).into_response())
}

/// Before 2.20 a shelved server is left alone.
fn check_shelved(cx: &Cx, rule: &Rule, server: &Server, state: &State) -> Result<(), Fault> {
    match state.vm {
        VmState::Shelved | VmState::ShelvedOffloaded if !cx.version.at_least(20) => Err(rule.illegal(server, "vm_state", state.vm_name())),
        _ => Ok(()),
    }
}

pub async fn attach(cx: Cx, Path(id): Path<String>, body: Body) -> Result<Response, Fault> {
    let wanted = body.validated(&schemas::ATTACH_VOLUME, cx.version)?["volumeAttachment"].take();
    let caller = cx.clone();
    let made = perform(&cx, &id, &ATTACH, move |tx, server, state| {
        check_shelved(&caller, &ATTACH, server, state)?;
        let volume = find(&tx.view(), &caller, wanted["volumeId"].as_str().unwrap_or_default())?;
        let tag = text(&wanted, "tag");
        check_multi_attach(&caller, &volume)?;
        if state.vm == VmState::ShelvedOffloaded {
            check_offloaded(&volume, tag.as_deref())?;
        }
        let delete_on_termination = as_bool(&wanted["delete_on_termination"]);
        let how = How { tag, delete_on_termination, ..How::default() };
        let made = verbs::attach(tx, &volume.meta.id, server, how)?;
        if server.status.host.is_none() {
            return Ok(verbs::settle_off_host(tx, &made.meta.id)?);
        }
        Ok(made)
    })
    .await?;
    Ok(Json(json!({ "volumeAttachment": created(&made, &id, cx.version) })).into_response())
}

/// What creation answers: 2.89 changed the other answers only.
fn created(made: &Attachment, server: &str, version: Microversion) -> Value {
    body(made, &Id::new(server), version.min(Microversion(88)))
}

pub fn check_multi_attach(cx: &Cx, volume: &Volume) -> Result<(), Fault> {
    match volume.spec.multi_attach && !cx.version.at_least(60) {
        true => Err(Fault::bad_request("Multiattach volumes are only supported starting with compute API version 2.60.")),
        false => Ok(()),
    }
}

fn check_offloaded(volume: &Volume, tag: Option<&str>) -> Result<(), Fault> {
    match tag {
        Some(_) => Err(Fault::bad_request("Tagged volume attachment is not supported for shelved-offloaded instances.")),
        None if volume.spec.multi_attach => {
            Err(Fault::bad_request("Attaching multiattach volumes is not supported for shelved-offloaded instances."))
        }
        None => Ok(()),
    }
}

/// Until 2.84 this asked for another volume in the place of this one, which only a migrating volume may; since then it changes what happens
/// to the volume when the server ends.
pub async fn update(cx: Cx, Path((id, volume)): Path<(String, String)>, body: Body) -> Result<Response, Fault> {
    let wanted = body.validated(&schemas::UPDATE_ATTACHMENT, cx.version)?["volumeAttachment"].take();
    let swaps = !cx.version.at_least(85) || wanted["volumeId"] != volume.as_str();
    if swaps {
        look(&cx, &id).await?;
        cx.require_admin("os_compute_api:os-volumes-attachments:swap")?;
    }
    let caller = cx.clone();
    perform(&cx, &id, &UPDATE, move |tx, server, _| {
        if caller.version.at_least(85) {
            let found = attachment(&tx.view(), &server.meta.id, &volume)?;
            immutable(&found, &server.meta.id, &wanted)?;
            if let Some(value) = wanted.get("delete_on_termination") {
                tx.update(&found.meta.id, |attachment: &mut Attachment| {
                    attachment.delete_on_termination = as_bool(value);
                    Ok::<_, Fault>(())
                })?;
            }
        }
        match swaps {
            true => Err(swap(&tx.view(), &caller, &volume)),
            false => Ok(()),
        }
    })
    .await?;
    Ok(StatusCode::ACCEPTED.into_response())
}

fn immutable(attachment: &Attachment, server: &Id<Server>, wanted: &Value) -> Result<(), Fault> {
    let present = [
        ("id", json!(attachment.volume)),
        ("serverId", json!(server)),
        ("device", json!(attachment.device)),
        ("tag", json!(attachment.tag)),
    ];
    match present.into_iter().find(|(key, value)| wanted.get(*key).is_some_and(|wanted| wanted != value)) {
        Some((key, _)) => Err(Fault::bad_request(format!("The {key} property is not mutable"))),
        None => Ok(()),
    }
}

/// Volumes do not migrate here.
fn swap(view: &View, cx: &Cx, volume: &str) -> Fault {
    let refuse = |_| Fault::conflict(format!("volume {volume} is not migrating; this API should only be called by Cinder"));
    find(view, cx, volume).map_or_else(|missing| missing, refuse)
}

pub async fn detach(cx: Cx, Path((id, volume)): Path<(String, String)>) -> Result<StatusCode, Fault> {
    let caller = cx.clone();
    perform(&cx, &id, &DETACH, move |tx, server, state| {
        check_shelved(&caller, &DETACH, server, state)?;
        let view = tx.view();
        find(&view, &caller, &volume)?;
        let found = attachment(&view, &server.meta.id, &volume)?;
        if found.is_root() {
            return Err(Fault::bad_request("Cannot detach a root device volume"));
        }
        Ok(verbs::detach(tx, &found.meta.id, server)?)
    })
    .await?;
    Ok(StatusCode::ACCEPTED)
}
