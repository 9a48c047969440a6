//! The use of a volume, as block storage hears of it. Compute has verbs of its own; these are for those who call it by this road.
//!
//! A server of this cloud that is named here gets the volume, or loses it, in truth. Of others it is only noted.

use std::sync::Arc;

use serde_json::{Value, json};
use unkai_model::Id;
use unkai_model::compute::Server;
use unkai_model::volume::{AttachState, Attachment, Mode, Volume};
use unkai_openstack::web::schema::{Schema, object};
use unkai_openstack::web::{Fault, policy};
use unkai_store::Tx;

use super::change;
use crate::cx::Cx;
use crate::verbs::{self, How, State, state};

pub fn attach_schema() -> Schema {
    let word = || Schema::string(0, 255).or_null();
    object()
        .optional("instance_uuid", Schema::uuid().or_null())
        .optional("mountpoint", word())
        .optional("host_name", word())
        .optional("mode", Schema::one_of(["rw", "ro"]))
        .into()
}

pub fn attach(tx: &mut Tx, cx: &Cx, volume: &Arc<Volume>, body: &Value) -> Result<Value, Fault> {
    let server = body["instance_uuid"].as_str();
    let host = body["host_name"].as_str();
    if server.is_some() == host.is_some() {
        return Err(Fault::bad_request("Invalid request to attach volume to an instance and a host at the same time, or to neither."));
    }
    let mode = if body["mode"] == "ro" { Mode::ReadOnly } else { Mode::ReadWrite };
    if volume.spec.read_only && mode == Mode::ReadWrite && body["mode"].is_string() {
        return Err(Fault::bad_request("Invalid volume: The volume is read-only and cannot be attached for writing."));
    }
    let device = body["mountpoint"].as_str().filter(|device| !device.is_empty()).map(str::to_owned);
    let server = server.map(Id::<Server>::new);
    if let Some(found) = server.as_ref().and_then(|id| tx.get(id)) {
        give(tx, cx, volume, &found, How { device, mode, ..How::default() })?;
        return Ok(Value::Null);
    }
    let note = verbs::reserve(tx, &volume.meta.id, server.as_ref(), mode)?;
    let (now, host) = (tx.now(), host.map(|host| json!({ "host": host })));
    tx.update(&note.meta.id, |note: &mut Attachment| {
        note.state = AttachState::Attached;
        note.device = device;
        note.connector = host;
        note.attached_at = Some(now);
        Ok::<_, Fault>(())
    })?;
    change(tx, volume, false, |volume| volume.spec.reserved = false)?;
    Ok(Value::Null)
}

/// A server of this cloud gets the volume.
pub fn give(tx: &mut Tx, cx: &Cx, volume: &Volume, server: &Arc<Server>, how: How) -> Result<(), Fault> {
    policy::member(&cx.caller, server.meta.project.as_ref(), "os_compute_api:os-volumes-attachments:create")?;
    let mut changed = Server::clone(server);
    let made = verbs::attach(tx, &volume.meta.id, &mut changed, how)?;
    if server.status.host.is_none() {
        verbs::settle_off_host(tx, &made.meta.id)?;
    }
    store(tx, changed)
}

fn store(tx: &mut Tx, changed: Server) -> Result<(), Fault> {
    tx.update(&changed.meta.id.clone(), |server: &mut Server| {
        *server = changed;
        Ok::<_, Fault>(())
    })
    .map(drop)
}

pub fn detach_schema() -> Schema {
    object().optional("attachment_id", Schema::uuid().or_null()).into()
}

pub fn force_detach_schema() -> Schema {
    object().optional("attachment_id", Schema::uuid().or_null()).optional("connector", Schema::Any).into()
}

/// Ends the use that is named, or the only one.
pub fn detach(tx: &mut Tx, cx: &Cx, volume: &Arc<Volume>, body: &Value) -> Result<Value, Fault> {
    let all: Vec<_> = tx.by_index::<Attachment>("volume", volume.meta.id.as_str()).collect();
    let found = match body["attachment_id"].as_str() {
        Some(id) => all.iter().find(|one| one.meta.id.as_str() == id),
        None if all.len() > 1 => {
            return Err(Fault::bad_request("Invalid volume: Volume is attached to multiple instances, please specify the attachment_id."));
        }
        None => all.first(),
    };
    let Some(found) = found else {
        return match body["attachment_id"].as_str() {
            Some(id) => Err(Fault::not_found(format!("Volume attachment could not be found with filter: attachment_id = {id}."))),
            // As in the original, who lets go of what nobody has is told that it is done.
            None => Ok(Value::Null),
        };
    };
    take(tx, cx, found)?;
    Ok(Value::Null)
}

/// A server of this cloud loses the volume; of others it is noted no more.
pub fn take(tx: &mut Tx, cx: &Cx, found: &Attachment) -> Result<(), Fault> {
    let server = found.server.as_ref().and_then(|id| tx.get(id));
    let Some(server) = server.filter(|_| found.state != AttachState::Reserved) else {
        return Ok(tx.delete(&found.meta.id).map(drop)?);
    };
    policy::member(&cx.caller, server.meta.project.as_ref(), "os_compute_api:os-volumes-attachments:delete")?;
    if found.is_root() && server.is_live() {
        return Err(Fault::bad_request("Cannot detach a root device volume"));
    }
    let mut changed = Server::clone(&server);
    verbs::detach(tx, &found.meta.id, &mut changed)?;
    store(tx, changed)
}

/// Nobody else may attach it until it is attached or let go.
pub fn reserve(tx: &mut Tx, _: &Cx, volume: &Arc<Volume>, _: &Value) -> Result<Value, Fault> {
    let now = state(&tx.view(), volume);
    if now != State::Available && !(now == State::InUse && volume.spec.multi_attach) {
        let id = &volume.meta.id;
        return Err(Fault::bad_request(format!(
            "Invalid volume: Volume {id} status must be available to reserve, but is {}.",
            now.as_str()
        )));
    }
    change(tx, volume, false, |volume| volume.spec.reserved = true)?;
    Ok(Value::Null)
}

pub fn unreserve(tx: &mut Tx, _: &Cx, volume: &Arc<Volume>, _: &Value) -> Result<Value, Fault> {
    if !volume.spec.reserved {
        return Err(Fault::bad_request("Invalid volume: Volume is not reserved."));
    }
    change(tx, volume, false, |volume| volume.spec.reserved = false)?;
    Ok(Value::Null)
}

/// Compute says that it will take the volume from a server. Here that is one with taking it, so only the state is checked.
pub fn begin_detaching(tx: &mut Tx, _: &Cx, volume: &Arc<Volume>, _: &Value) -> Result<Value, Fault> {
    if state(&tx.view(), volume) != State::InUse {
        return Err(Fault::bad_request(
            "Invalid volume: Unable to detach volume. Volume status must be 'in-use' and attach_status must be 'attached' to detach.",
        ));
    }
    change(tx, volume, false, |volume| volume.spec.reset = Some((State::Detaching.as_str().into(), volume.meta.generation)))?;
    Ok(Value::Null)
}

pub fn roll_detaching(tx: &mut Tx, _: &Cx, volume: &Arc<Volume>, _: &Value) -> Result<Value, Fault> {
    change(tx, volume, false, |volume| {
        let said = volume.spec.reset.as_ref().is_some_and(|(word, _)| word == State::Detaching.as_str());
        volume.spec.reset = volume.spec.reset.take().filter(|_| !said);
    })?;
    Ok(Value::Null)
}

pub fn connector() -> Schema {
    Schema::wrapped("connector", object().open())
}

/// How somebody outside of this cloud's hosts would reach the volume.
pub fn connect(tx: &mut Tx, _: &Cx, volume: &Arc<Volume>, _: &Value) -> Result<Value, Fault> {
    crate::connection::info(&tx.view(), volume).map(|info| json!({ "connection_info": info }))
}

/// Nothing was set up for it, so nothing is to be taken down.
pub fn disconnect(_: &mut Tx, _: &Cx, _: &Arc<Volume>, _: &Value) -> Result<Value, Fault> {
    Ok(Value::Null)
}
