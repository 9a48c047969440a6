//! What administrators may do to a volume whatever state it is in.

use std::sync::Arc;

use serde_json::Value;
use unkai_model::volume::{Attachment, Volume};
use unkai_openstack::web::Fault;
use unkai_openstack::web::schema::{Schema, object};
use unkai_store::Tx;

use super::change;
use crate::cx::Cx;
use crate::verbs::{self, Going, State, state};

pub fn reset_schema() -> Schema {
    let word = || Schema::string(0, 255).or_null();
    object().optional("status", word()).optional("attach_status", word()).optional("migration_status", word()).into()
}

/// An administrator's word about its state, until the next change of it.
pub fn reset(tx: &mut Tx, _: &Cx, volume: &Arc<Volume>, body: &Value) -> Result<Value, Fault> {
    let said = |key: &str| body[key].as_str().map(str::to_lowercase);
    let (status, attach, migration) = (said("status"), said("attach_status"), said("migration_status"));
    if status.is_none() && attach.is_none() && migration.is_none() {
        return Err(Fault::bad_request("Must specify 'status', 'attach_status', or 'migration_status' for update."));
    }
    if let Some(word) = &migration
        && word != "none"
    {
        return Err(Fault::bad_request(format!("Must specify a valid migration status, not '{word}': volumes do not migrate here.")));
    }
    match attach.as_deref() {
        None | Some("attached") => {}
        Some("detached") => forget_foreign(tx, volume)?,
        Some(word) => return Err(Fault::bad_request(format!("Must specify a valid attach status, not '{word}'."))),
    }
    let Some(word) = status else { return Ok(Value::Null) };
    if State::parse(&word).is_none() {
        return Err(Fault::bad_request(format!("Must specify a valid status, not '{word}'.")));
    }
    let changed = change(tx, volume, false, |volume| volume.spec.reset = None)?;
    if state(&tx.view(), &changed).as_str() != word {
        change(tx, volume, false, |volume| volume.spec.reset = Some((word, volume.meta.generation)))?;
    }
    Ok(Value::Null)
}

/// Notes of uses by servers of other clouds go; what a server here has, it keeps.
fn forget_foreign(tx: &mut Tx, volume: &Volume) -> Result<(), Fault> {
    let all: Vec<_> = tx.by_index::<Attachment>("volume", volume.meta.id.as_str()).collect();
    for attachment in all {
        if attachment.server.as_ref().is_some_and(|server| tx.get(server).is_some()) {
            return Err(Fault::bad_request("Invalid volume: a server of this cloud has the volume; detach it from that."));
        }
        tx.delete(&attachment.meta.id)?;
    }
    Ok(())
}

pub fn force_delete(tx: &mut Tx, _: &Cx, volume: &Arc<Volume>, _: &Value) -> Result<Value, Fault> {
    verbs::delete(tx, &volume.meta.id, Going { force: true, cascade: false })?;
    Ok(Value::Null)
}

pub fn migrate(_: &mut Tx, _: &Cx, _: &Arc<Volume>, _: &Value) -> Result<Value, Fault> {
    Err(Fault::bad_request("Invalid volume: volumes do not move between pools; a copy can be made of a backup of them."))
}

pub fn unmanage(_: &mut Tx, _: &Cx, _: &Arc<Volume>, _: &Value) -> Result<Value, Fault> {
    Err(Fault::bad_request("Invalid volume: what a pool holds is managed by this cloud."))
}
