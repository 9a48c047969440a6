//! Which host works on a volume: the one whose server uses it, else any that reaches its pool.
//!
//! A carrier stays while it may be at work: silence alone changes nothing before the host is lost or fenced. A takeover raises the fencing
//! generation, so that of two hosts that both believe to be the carrier only the newer one is let write. A volume that a server has stays
//! with the server's host, whatever becomes of that: its QEMU may go on writing. The volume follows the server when that is placed again.

use std::sync::Arc;

use unkai_model::compute::{Host, Reachability, Server};
use unkai_model::volume::{AttachState, Attachment, Backend, Backup, Pool, Volume, VolumePhase};
use unkai_model::{Error, Id};
use unkai_store::{Tx, View};

use super::sources;

/// Hosts that a pool is for.
pub fn reaching<'a>(view: &'a View, pool: &'a Pool) -> Box<dyn Iterator<Item = Arc<Host>> + 'a> {
    if pool.hosts.is_empty() { Box::new(view.all::<Host>()) } else { Box::new(pool.hosts.iter().filter_map(|id| view.get(id))) }
}

/// It can be given work.
pub fn is_up(host: &Host) -> bool {
    host.is_up() && host.fence.is_none() && host.status.admission.revoked.is_none()
}

/// Somebody else has to do its work.
pub fn is_lost(host: &Host) -> bool {
    host.forced_down || host.is_fenced() || host.status.admission.revoked.is_some() || host.status.reachability == Reachability::Lost
}

/// Who is to work on the volume now. None: nobody can, so it stays as it is.
pub fn whom(view: &View, volume: &Volume) -> Option<Id<Host>> {
    let pool = view.get(volume.status.pool.as_ref()?)?;
    let present = volume.status.carrier.as_ref();
    if let Some(target) = target_of(view, &pool, volume) {
        return Some(target);
    }
    let users: Vec<_> = users(view, volume).filter(|host| pool.is_reached_by(host)).collect();
    if !users.is_empty() {
        return present.filter(|host| users.contains(host)).or(users.first()).cloned();
    }
    if let Backend::Iscsi { target, .. } = &pool.backend {
        return view.get(&Id::<Host>::new(target.as_str())).map(|host| host.meta.id.clone());
    }
    let present = present.filter(|host| pool.is_reached_by(host) && view.get(*host).is_some_and(|host| !is_lost(&host)));
    let needs = needs(view, volume);
    let serves = |host: &Id<Host>| needs.iter().all(|pool| pool.is_reached_by(host));
    if present.is_some_and(serves) {
        return present.cloned();
    }
    let origin = sources::origin(view, volume).filter(|_| !volume.status.made).and_then(|origin| origin.status.carrier.clone());
    let best = best(view, &pool, origin.as_ref(), &needs);
    // One that is at work goes only for one that can do more.
    match present {
        Some(present) if !best.as_ref().is_some_and(serves) => Some(present.clone()),
        _ => best,
    }
}

/// LUNs are made, grown and removed where their target is.
fn target_of(view: &View, pool: &Pool, volume: &Volume) -> Option<Id<Host>> {
    let Backend::Iscsi { target, .. } = &pool.backend else { return None };
    let changes = !volume.status.made || volume.spec.deleted || volume.status.size_gib < volume.spec.size_gib;
    view.get(&Id::<Host>::new(target.as_str())).filter(|_| changes).map(|host| host.meta.id.clone())
}

/// Hosts of servers that have the volume, or are being given it, or may still have it.
fn users<'a>(view: &'a View, volume: &'a Volume) -> impl Iterator<Item = Id<Host>> + 'a {
    let attachments = view.by_index::<Attachment>("volume", volume.meta.id.as_str());
    let servers =
        attachments.filter(|attachment| attachment.state != AttachState::Reserved).filter_map(|attachment| attachment.server.clone());
    servers.filter_map(|id| view.get(&id)).filter(|server: &Arc<Server>| server.is_live()).filter_map(|server| server.status.host.clone())
}

/// Pools beside its own that the work on it reads or writes.
fn needs(view: &View, volume: &Volume) -> Vec<Arc<Pool>> {
    let mut backups: Vec<Arc<Backup>> = view.by_index("volume", volume.meta.id.as_str()).collect();
    backups.retain(|backup| backup.is_wished());
    backups.extend(volume.reads().filter_map(|id| view.get(&Id::new(id))));
    backups.iter().filter_map(|backup| view.get(&backup.repository)).collect()
}

/// Of the hosts that are up and reach the pool: the preferred one, else the one with the least to carry where all works.
fn best(view: &View, pool: &Pool, preferred: Option<&Id<Host>>, needs: &[Arc<Pool>]) -> Option<Id<Host>> {
    let up = reaching(view, pool).filter(|host| is_up(host));
    let rank = |host: &Host| {
        let id = &host.meta.id;
        let works = pool.status.hosts.get(id).is_none_or(|reached| reached.fault.is_none());
        let reaches = needs.iter().all(|pool| pool.is_reached_by(id));
        (!works, !reaches, Some(id) != preferred, view.tally("carried", id.as_str()), id.clone())
    };
    up.map(|host| rank(&host)).min().map(|(.., id)| id)
}

/// Who is to remove a backup: the one that does, else the carrier of its volume, else any host that reaches its repository.
fn whom_backup(view: &View, backup: &Backup) -> Option<Id<Host>> {
    let pool = view.get(&backup.repository)?;
    let present = backup.carrier.as_ref().filter(|id| view.get(*id).is_some_and(|host| !is_lost(&host)));
    let of_volume = view.get(&backup.volume).and_then(|volume| volume.status.carrier.clone());
    present.cloned().or_else(|| best(view, &pool, of_volume.as_ref(), &[]))
}

pub fn is_due(view: &View) -> bool {
    !due(view).is_empty() || !due_backups(view).is_empty()
}

/// Volumes whose carrier is not who it should be.
fn due(view: &View) -> Vec<Id<Volume>> {
    let mut ids: Vec<Id<Volume>> = Vec::new();
    for index in ["adrift", "deleting", "growing", "restoring"] {
        ids.extend(view.by_index::<Volume>(index, "yes").map(|volume| volume.meta.id.clone()));
    }
    for host in view.all::<Host>().filter(|host| is_lost(host)) {
        ids.extend(view.by_index::<Volume>("carrier", host.meta.id.as_str()).map(|volume| volume.meta.id.clone()));
    }
    ids.extend(view.by_index::<Attachment>("moving", "yes").map(|attachment| attachment.volume.clone()));
    ids.extend(view.by_index::<Backup>("wished", "yes").map(|backup| backup.volume.clone()));
    ids.sort();
    ids.dedup();
    ids.retain(|id| view.get(id).is_some_and(|volume| moves(view, &volume).is_some()));
    ids
}

/// Backups that are to go and whose carrier is not who it should be.
fn due_backups(view: &View) -> Vec<Id<Backup>> {
    let deleting = view.by_index::<Backup>("deleting", "yes");
    let moves = |backup: &Arc<Backup>| whom_backup(view, backup).is_some_and(|to| backup.carrier.as_ref() != Some(&to));
    deleting.filter(moves).map(|backup| backup.meta.id.clone()).collect()
}

/// The new carrier, when there is to be another.
fn moves(view: &View, volume: &Volume) -> Option<Id<Host>> {
    whom(view, volume).filter(|to| volume.status.carrier.as_ref() != Some(to))
}

pub fn act(tx: &mut Tx) -> Result<(), Error> {
    for id in due(&tx.view()) {
        settle(tx, &id)?;
    }
    for id in due_backups(&tx.view()) {
        let to = tx.get(&id).and_then(|backup| whom_backup(&tx.view(), &backup));
        tx.update(&id, |backup: &mut Backup| {
            backup.carrier = to;
            Ok::<_, Error>(())
        })?;
    }
    Ok(())
}

/// Gives a volume to whoever is to work on it.
pub fn settle(tx: &mut Tx, id: &Id<Volume>) -> Result<(), Error> {
    let view = tx.view();
    let Some(volume) = view.get(id) else { return Ok(()) };
    let Some(to) = moves(&view, &volume) else { return Ok(()) };
    // A server's use has a fencing generation of its own.
    let used = users(&view, &volume).next().is_some();
    tracing::info!(volume = %id, from = ?volume.status.carrier.as_ref().map(Id::as_str), %to, "carrier");
    tx.update(id, |volume: &mut Volume| {
        volume.status.carrier = Some(to);
        volume.status.phase = VolumePhase::Unknown;
        volume.spec.fence += u64::from(!used);
        Ok::<_, Error>(())
    })
    .map(drop)
}
