//! Changes of a volume: larger, another type, read-only, bootable, back to its newest snapshot.

use std::sync::Arc;

use serde_json::Value;
use unkai_model::compute::ServerAction;
use unkai_model::volume::{Attachment, RestoreFrom, Snapshot, SnapshotPhase, Volume, VolumeType, unmet};
use unkai_model::{Error, Id, Meta};
use unkai_openstack::web::Fault;
use unkai_openstack::web::schema::{Schema, as_bool, as_int, object};
use unkai_store::Tx;

use super::change;
use crate::cx::Cx;
use crate::types;
use crate::verbs::{self, State, limits, state};

pub fn extend_schema() -> Schema {
    object().required("new_size", Schema::Integer { min: 1, max: i64::from(i32::MAX) }).into()
}

/// Larger, while a server has it too (from 3.42 on).
pub fn extend(tx: &mut Tx, cx: &Cx, volume: &Arc<Volume>, body: &Value) -> Result<Value, Fault> {
    let (id, present) = (&volume.meta.id, volume.spec.size_gib);
    let wanted = as_int(&body["new_size"]).and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
    let now = state(&tx.view(), volume);
    let live = cx.version.at_least(42);
    if !(now == State::Available || live && now == State::InUse) {
        let states = if live { "available or in-use" } else { "available" };
        return Err(Fault::bad_request(format!(
            "Invalid volume: Volume {id} status must be {states} to extend, but current status is {}.",
            now.as_str()
        )));
    }
    if wanted <= present {
        return Err(Fault::bad_request(format!(
            "Invalid input received: New size for extend must be greater than current size. (current: {present}, extended: {wanted})."
        )));
    }
    if let Some(project) = &volume.meta.project {
        let largest = limits::limit(&tx.view(), project, "per_volume_gigabytes");
        if largest >= 0 && wanted as i64 > largest {
            return Err(Fault::bad_request(format!("Requested size {wanted} is larger than maximum allowed limit {largest}.")));
        }
        limits::check(tx, project, &["gigabytes"]);
        if let Some(kind) = tx.get(&volume.spec.volume_type) {
            limits::check_type(tx, project, &kind, &["gigabytes"]);
        }
    }
    room(tx, volume, wanted - present)?;
    change(tx, volume, true, |volume| volume.spec.size_gib = wanted)?;
    note(tx, cx, id)
}

/// Servers that have the volume say in their actions that it grows, and when it has.
fn note(tx: &mut Tx, cx: &Cx, volume: &Id<Volume>) -> Result<Value, Fault> {
    let users: Vec<_> = tx.by_index::<Attachment>("volume", volume.as_str()).filter(|one| one.is_wanted()).collect();
    for server in
        users.iter().filter_map(|one| tx.get(one.server.as_ref()?)).filter(|server| server.status.host.is_some()).collect::<Vec<_>>()
    {
        let mut action = ServerAction {
            meta: Meta::new(ServerAction::id(&server.meta.id, &cx.request)).named("extend_volume"),
            server: server.meta.id.clone(),
            request: cx.request.clone(),
            user: cx.caller.user.clone(),
            project: cx.caller.project.clone(),
            started: tx.now(),
            generation: None,
            message: None,
            events: Vec::new(),
        };
        action.start("compute_extend_volume", server.status.host.clone(), tx.now());
        tx.insert(action)?;
    }
    Ok(Value::Null)
}

/// What its pool may still promise must be enough.
fn room(tx: &Tx, volume: &Volume, more: u64) -> Result<(), Fault> {
    let Some(pool) = volume.status.pool.as_ref().and_then(|id| tx.get(id)) else { return Ok(()) };
    let whole = (pool.space().0 as f64 * pool.overcommit) as i64;
    let free = (whole - tx.tally("pool_gib", pool.meta.id.as_str())).max(0);
    match more as i64 > free {
        true => Err(Fault::bad_request(format!(
            "Invalid volume: pool {} has {free} of {whole} GiB free, {more} more are wanted.",
            pool.meta.name
        ))),
        false => Ok(()),
    }
}

pub fn read_only_schema() -> Schema {
    object().required("readonly", Schema::Boolean).into()
}

pub fn read_only(tx: &mut Tx, _: &Cx, volume: &Arc<Volume>, body: &Value) -> Result<Value, Fault> {
    if state(&tx.view(), volume) != State::Available {
        let id = &volume.meta.id;
        return Err(Fault::bad_request(format!("Invalid volume: Volume {id} status must be available to update readonly flag.")));
    }
    let said = as_bool(&body["readonly"]);
    change(tx, volume, false, |volume| {
        volume.spec.read_only = said;
        volume.spec.metadata.insert("readonly".into(), if said { "True" } else { "False" }.into());
    })?;
    Ok(Value::Null)
}

pub fn bootable_schema() -> Schema {
    object().required("bootable", Schema::Boolean).into()
}

pub fn bootable(tx: &mut Tx, _: &Cx, volume: &Arc<Volume>, body: &Value) -> Result<Value, Fault> {
    let said = as_bool(&body["bootable"]);
    change(tx, volume, false, |volume| volume.spec.bootable = said)?;
    Ok(Value::Null)
}

pub fn retype_schema() -> Schema {
    object()
        .required("new_type", Schema::string(1, 255))
        .optional("migration_policy", Schema::one_of(["on-demand", "never"]).or_null())
        .into()
}

/// Another type, where the volume is already what that wants.
pub fn retype(tx: &mut Tx, cx: &Cx, volume: &Arc<Volume>, body: &Value) -> Result<Value, Fault> {
    let view = tx.view();
    let wanted = types::named(&view, cx, body["new_type"].as_str().unwrap_or_default())?;
    let id = &volume.meta.id;
    let refuse = |why: &str| Err(Fault::bad_request(format!("Invalid volume: Volume {id} cannot be of type {}: {why}.", wanted.meta.name)));
    if volume.spec.volume_type == wanted.meta.id {
        return Err(Fault::bad_request(format!("Invalid input received: New volume_type same as original: {}.", wanted.meta.name)));
    }
    let now = state(&view, volume);
    if !matches!(now, State::Available | State::InUse) {
        return Err(Fault::bad_request(format!(
            "Invalid volume: Volume {id} status must be available or in-use to retype, but is {}.",
            now.as_str()
        )));
    }
    let present = view.get::<VolumeType>(&volume.spec.volume_type);
    if present.and_then(|kind| kind.encryption.clone()) != wanted.encryption {
        return refuse("it is encrypted otherwise, and would have to be written anew");
    }
    if let Some(pool) = volume.status.pool.as_ref().and_then(|id| view.get(id))
        && let Some(spec) = unmet(&wanted.extra_specs, &pool.offers())
    {
        return refuse(&format!("its pool {} does not have {spec}", pool.meta.name));
    }
    if volume.spec.multi_attach != wanted.allows_multi_attach() && now == State::InUse {
        return refuse("whether several servers may have it cannot change while one has it");
    }
    if let Some(project) = &volume.meta.project {
        limits::check_type(tx, project, &wanted, &["volumes", "gigabytes", "snapshots"]);
    }
    for snapshot in tx.by_index::<Snapshot>("volume", id.as_str()).collect::<Vec<_>>() {
        tx.update(&snapshot.meta.id, |snapshot: &mut Snapshot| {
            snapshot.volume_type = Some(wanted.meta.id.clone());
            Ok::<_, Fault>(())
        })?;
    }
    change(tx, volume, true, |volume| {
        volume.spec.volume_type = wanted.meta.id.clone();
        volume.spec.multi_attach = wanted.allows_multi_attach();
    })?;
    Ok(Value::Null)
}

pub fn revert_schema() -> Schema {
    object().required("snapshot_id", Schema::uuid()).into()
}

pub fn revert(tx: &mut Tx, _: &Cx, volume: &Arc<Volume>, body: &Value) -> Result<Value, Fault> {
    let id = Id::<Snapshot>::new(body["snapshot_id"].as_str().unwrap_or_default());
    let snapshot = tx.get(&id).filter(|snapshot| snapshot.volume == volume.meta.id).ok_or_else(|| Error::not_found::<Snapshot>(&id))?;
    let (view, of) = (tx.view(), &volume.meta.id);
    let newest = view.by_index::<Snapshot>("volume", of.as_str()).max_by_key(|one| (one.meta.created, one.meta.id.clone()));
    if newest.is_some_and(|newest| newest.meta.id != id) {
        return Err(Fault::bad_request(format!("Invalid input received: Specified snapshot_id={id} isn't the latest one of volume {of}.")));
    }
    if snapshot.size_gib != volume.spec.size_gib {
        return Err(Fault::bad_request(format!(
            "Invalid volume: Can't revert volume {of} to its latest snapshot {id}. The volume size must be equal to the snapshot size."
        )));
    }
    let now = state(&view, volume);
    if now != State::Available || view.by_index::<Attachment>("volume", of.as_str()).next().is_some() {
        return Err(Fault::bad_request(format!(
            "Invalid volume: Can't revert volume {of}. Its status must be 'available', not {}.",
            now.as_str()
        )));
    }
    if snapshot.deleted || snapshot.phase != SnapshotPhase::Available {
        return Err(Fault::bad_request(format!("Invalid snapshot: Can't revert volume to snapshot {id}. Its status must be 'available'.")));
    }
    verbs::put_back(tx, of, RestoreFrom::Snapshot(id))?;
    Ok(Value::Null)
}
