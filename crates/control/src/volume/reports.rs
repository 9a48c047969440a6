//! What carriers say about volumes and backups, and hosts about pools.

use std::collections::BTreeMap;

use unkai_link::item::HostId;
use unkai_link::volume::{BackupReport, PoolReport, VolumeReport};
use unkai_model::compute::{Fault, Outcome};
use unkai_model::image::Image;
use unkai_model::volume::{
    Attachment, Backup, BackupFacts, BackupPhase, Pool, Reached, Snapshot, SnapshotPhase, Transfer, Volume, VolumeKey, VolumePhase,
    VolumeStatus,
};
use unkai_model::{Error, Id, Timestamp};
use unkai_store::Tx;

use super::{carriers, items, sources};
use crate::actions;

pub fn volume(tx: &mut Tx, host: &HostId, report: &VolumeReport) -> Result<(), Error> {
    let id = Id::<Volume>::new(report.volume.as_str());
    let Some(present) = tx.get(&id) else { return Ok(()) };
    let stale = report.generation < present.status.generation || report.generation > present.meta.generation;
    if present.status.carrier.as_ref() != Some(host) || stale {
        return Ok(());
    }
    if report.phase == VolumePhase::Gone {
        let asked = present.spec.deleted && report.generation == present.meta.generation && !sources::is_read(&tx.view(), id.as_str());
        return if asked { forget(tx, &id) } else { Ok(()) };
    }
    let mut status = present.status.clone();
    observe(&mut status, report, tx.now());
    if status != present.status {
        tx.update(&id, |volume: &mut Volume| {
            volume.status = status;
            Ok::<_, Error>(())
        })?;
    }
    let settled = Settled::of(&present, report);
    if present.status.made && present.status.size_gib < present.spec.size_gib {
        match &settled {
            Settled::No => {}
            Settled::All => actions::settle_growth(tx, &id, &Outcome::Success)?,
            Settled::GivenUp(reason) => actions::settle_growth(tx, &id, &Outcome::Error(reason.clone()))?,
        }
    }
    snapshots(tx, &id, report, &settled)?;
    backups(tx, &id, report, &settled)?;
    upload(tx, &present, report, &settled)?;
    carriers::settle(tx, &id)
}

/// The pure part: what a report does to the volume's own status.
fn observe(status: &mut VolumeStatus, report: &VolumeReport, now: Timestamp) {
    status.generation = report.generation;
    status.phase = report.phase.clone();
    status.restored = status.restored.max(report.restored);
    match &report.phase {
        VolumePhase::Ready { size_gib } => {
            status.made = true;
            status.size_gib = *size_gib;
            status.since.get_or_insert(now);
            status.fault = None;
        }
        VolumePhase::Working { .. } => status.fault = None,
        VolumePhase::Failed(reason) => {
            let known = status.fault.as_ref().is_some_and(|fault| fault.message == *reason);
            if !known {
                status.fault = Some(Fault { code: 500, message: reason.clone(), details: String::new(), at: now });
            }
        }
        VolumePhase::Unknown | VolumePhase::Gone => {}
    }
}

/// How much of what was asked the report settles.
enum Settled {
    /// It is about an older generation, or still being worked on.
    No,
    All,
    /// The carrier has given up on what it says nothing else about.
    GivenUp(String),
}

impl Settled {
    fn of(volume: &Volume, report: &VolumeReport) -> Self {
        match &report.phase {
            _ if report.generation != volume.meta.generation => Settled::No,
            VolumePhase::Ready { .. } => Settled::All,
            VolumePhase::Failed(reason) => Settled::GivenUp(reason.clone()),
            VolumePhase::Unknown | VolumePhase::Working { .. } | VolumePhase::Gone => Settled::No,
        }
    }
}

/// What became of one wish: none while that is open.
fn outcome(report: &VolumeReport, settled: &Settled, wish: &str) -> Option<Result<(), String>> {
    match (report.outcomes.get(wish), settled) {
        (Some(None), _) => Some(Ok(())),
        (Some(Some(reason)), _) => Some(Err(reason.clone())),
        (None, Settled::GivenUp(reason)) => Some(Err(reason.clone())),
        (None, _) => None,
    }
}

fn snapshots(tx: &mut Tx, volume: &Id<Volume>, report: &VolumeReport, settled: &Settled) -> Result<(), Error> {
    let all: Vec<_> = tx.by_index::<Snapshot>("volume", volume.as_str()).collect();
    for snapshot in all {
        let id = snapshot.meta.id.as_str();
        let exists = report.snapshots.contains_key(id);
        let outcome = outcome(report, settled, id);
        if snapshot.deleted && !exists && !matches!(settled, Settled::No) && !sources::is_read(&tx.view(), id) {
            tx.delete(&snapshot.meta.id)?;
            continue;
        }
        let phase = match (outcome, snapshot.deleted) {
            (Some(Err(reason)), true) => SnapshotPhase::Failed(reason),
            (_, true) => continue,
            _ if snapshot.phase != SnapshotPhase::Creating => continue,
            _ if exists => SnapshotPhase::Available,
            (Some(Err(reason)), false) => SnapshotPhase::Failed(reason),
            _ => continue,
        };
        if snapshot.phase != phase {
            tx.update(&snapshot.meta.id, |snapshot: &mut Snapshot| {
                snapshot.phase = phase;
                Ok::<_, Error>(())
            })?;
        }
    }
    Ok(())
}

fn backups(tx: &mut Tx, volume: &Id<Volume>, report: &VolumeReport, settled: &Settled) -> Result<(), Error> {
    let wished: Vec<_> = tx.by_index::<Backup>("volume", volume.as_str()).filter(|backup| backup.is_wished()).collect();
    for backup in wished {
        let id = backup.meta.id.as_str();
        let Some(outcome) = outcome(report, settled, id) else { continue };
        end_backup(tx, &backup.meta.id, outcome.map(|()| report.backups.get(id).copied().unwrap_or_default()))?;
    }
    Ok(())
}

pub fn end_backup(tx: &mut Tx, id: &Id<Backup>, outcome: Result<BackupFacts, String>) -> Result<(), Error> {
    tx.update(id, |backup: &mut Backup| {
        backup.phase = match outcome {
            Ok(facts) => {
                backup.facts = facts;
                BackupPhase::Available
            }
            Err(reason) => BackupPhase::Failed(reason),
        };
        Ok::<_, Error>(())
    })
    .map(drop)
}

fn upload(tx: &mut Tx, volume: &Volume, report: &VolumeReport, settled: &Settled) -> Result<(), Error> {
    let Some(upload) = &volume.spec.upload else { return Ok(()) };
    match outcome(report, settled, upload.image.as_str()) {
        Some(outcome) => end_upload(tx, &upload.image, outcome),
        None => Ok(()),
    }
}

/// The image is safe, or will never have bytes: then it says why. The volume is no longer asked for it.
pub fn end_upload(tx: &mut Tx, image: &Id<Image>, outcome: Result<(), String>) -> Result<(), Error> {
    let volumes: Vec<_> = tx.by_index::<Volume>("upload", image.as_str()).map(|volume| volume.meta.id.clone()).collect();
    for volume in volumes {
        tx.update(&volume, |volume: &mut Volume| {
            volume.spec.upload = None;
            Ok::<_, Error>(())
        })?;
    }
    if let (Err(reason), true) = (outcome, tx.get(image).is_some_and(|image| image.status.content.is_none())) {
        tx.update(image, |image: &mut Image| {
            image.status.refusal = Some(reason);
            Ok::<_, Error>(())
        })?;
    }
    Ok(())
}

/// Nothing is left of a volume in its pool: its document goes, and what was only about it.
pub fn forget(tx: &mut Tx, id: &Id<Volume>) -> Result<(), Error> {
    let volume = tx.require(id)?;
    for attachment in tx.by_index::<Attachment>("volume", id.as_str()).collect::<Vec<_>>() {
        tx.delete(&attachment.meta.id)?;
    }
    for snapshot in tx.by_index::<Snapshot>("volume", id.as_str()).collect::<Vec<_>>() {
        tx.delete(&snapshot.meta.id)?;
    }
    for transfer in tx.by_index::<Transfer>("volume", id.as_str()).collect::<Vec<_>>() {
        tx.delete(&transfer.meta.id)?;
    }
    for backup in tx.by_index::<Backup>("volume", id.as_str()).filter(|backup| backup.is_wished()).collect::<Vec<_>>() {
        end_backup(tx, &backup.meta.id, Err("the volume is deleted".into()))?;
    }
    if let Some(upload) = &volume.spec.upload {
        end_upload(tx, &upload.image, Err("the volume is deleted".into()))?;
    }
    tx.delete(id)?;
    drop_key(tx, volume.spec.key.as_ref())
}

/// A key that opens nothing any more goes.
fn drop_key(tx: &mut Tx, key: Option<&Id<VolumeKey>>) -> Result<(), Error> {
    let Some(key) = key else { return Ok(()) };
    let used = tx.by_index::<Volume>("key", key.as_str()).next().is_some() || tx.by_index::<Backup>("key", key.as_str()).next().is_some();
    if used { Ok(()) } else { tx.delete(key).map(drop) }
}

pub fn pool(tx: &mut Tx, host: &HostId, report: &PoolReport) -> Result<(), Error> {
    let id = Id::<Pool>::new(report.pool.as_str());
    let Some(pool) = tx.get(&id).filter(|pool| pool.is_reached_by(host)) else { return Ok(()) };
    let mut now = Reached { fault: report.fault.clone(), total_gib: report.total_gib, free_gib: report.free_gib };
    if now.fault.is_some() && now.total_gib == 0 {
        // It is as large as it was, for those that can use it.
        (now.total_gib, now.free_gib) = pool.space();
    }
    let lost = |id: &HostId| tx.get(id).is_none_or(|host| carriers::is_lost(&host));
    let hosts = heard(&pool.status.hosts, host, &now, lost);
    let mark = pool.status.mark.clone().or_else(|| report.mark.clone());
    if hosts.is_none() && mark == pool.status.mark {
        return Ok(());
    }
    if let Some(fault) = &now.fault {
        tracing::warn!(%host, pool = pool.meta.name, fault, "a storage pool does not work");
    }
    tx.update(&id, |pool: &mut Pool| {
        pool.status.hosts = hosts.unwrap_or_else(|| pool.status.hosts.clone());
        pool.status.mark = mark;
        Ok::<_, Error>(())
    })
    .map(drop)
}

type Views = BTreeMap<HostId, Reached>;

/// What is known of a pool after a host's words. None: they are no news. Of hosts that work only the one that sees it best is kept, so that a
/// pool of thousands of hosts is not written thousands of times.
fn heard(known: &Views, host: &HostId, now: &Reached, lost: impl Fn(&HostId) -> bool) -> Option<Views> {
    let works = |reached: &Reached| reached.fault.is_none();
    let said = |(other, reached): &(&HostId, &Reached)| {
        let sees_more = reached.total_gib > now.total_gib || !matters(reached, now);
        *other != host && works(reached) && sees_more && !lost(other)
    };
    let news = match known.get(host) {
        Some(before) => matters(before, now),
        None => !works(now) || !known.iter().any(|view| said(&view)),
    };
    let superseded =
        |other: &HostId, reached: &Reached| works(now) && works(reached) && (reached.total_gib <= now.total_gib || lost(other));
    news.then(|| {
        let others = known.iter().filter(|(other, reached)| *other != host && !superseded(other, reached));
        let others = others.map(|(other, reached)| (other.clone(), reached.clone()));
        others.chain([(host.clone(), now.clone())]).collect()
    })
}

/// Free space changes all the time: it is written when it differs by more than 1 GiB or 1 % of the whole.
fn matters(known: &Reached, now: &Reached) -> bool {
    let difference = known.free_gib.abs_diff(now.free_gib);
    known.fault != now.fault || known.total_gib != now.total_gib || difference > 1 && difference > now.total_gib / 100
}

pub fn backup(tx: &mut Tx, host: &HostId, report: &BackupReport) -> Result<(), Error> {
    let id = Id::<Backup>::new(report.backup.as_str());
    let Some(backup) = tx.get(&id) else { return Ok(()) };
    let due = backup.deleted && backup.carrier.as_ref() == Some(host) && report.generation == backup.meta.generation;
    if !due || items::backup(&tx.view(), &backup).is_none() {
        return Ok(());
    }
    match &report.fault {
        None => {
            tx.delete(&id)?;
            drop_key(tx, backup.key.as_ref())
        }
        Some(reason) => end_backup(tx, &id, Err(reason.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(total_gib: u64, free_gib: u64, fault: Option<&str>) -> Reached {
        Reached { fault: fault.map(str::to_owned), total_gib, free_gib }
    }

    #[test]
    fn changes_of_a_pool_that_are_written() {
        let known = reached(1000, 500, None);
        for (now, written) in [
            (reached(1000, 500, None), false),
            (reached(1000, 499, None), false),
            (reached(1000, 490, None), false),
            (reached(1000, 489, None), true),
            (reached(1001, 500, None), true),
            (reached(1000, 500, Some("gone")), true),
        ] {
            assert_eq!(matters(&known, &now), written, "{now:?}");
        }
        assert!(!matters(&reached(10, 5, None), &reached(10, 4, None)));
        assert!(matters(&reached(10, 5, None), &reached(10, 3, None)));
    }

    /// Hosts `a`, `b` and so on speak one after the other; `x` is lost.
    #[test]
    fn of_hosts_that_see_the_same_one_is_kept() {
        let full = || reached(1000, 500, None);
        let broken = || reached(0, 0, Some("gone"));
        for (words, kept) in [
            (vec![("a", full()), ("b", full()), ("c", full())], "a"),
            (vec![("a", full()), ("b", reached(1000, 400, None))], "b"),
            (vec![("a", full()), ("b", reached(0, 0, None))], "a"),
            (vec![("a", reached(0, 0, None)), ("b", full())], "b"),
            (vec![("a", full()), ("b", broken())], "ab"),
            (vec![("a", broken()), ("b", full()), ("a", full())], "a"),
            (vec![("a", full()), ("a", broken()), ("b", full())], "ab"),
            (vec![("x", reached(2000, 9, None)), ("a", full())], "a"),
        ] {
            let mut known = Views::new();
            for (host, now) in &words {
                if let Some(after) = heard(&known, &Id::new(*host), now, |host| host.as_str() == "x") {
                    known = after;
                }
            }
            assert_eq!(known.keys().map(Id::as_str).collect::<String>(), kept, "{words:?}");
        }
    }

    fn report(generation: u64, phase: VolumePhase) -> VolumeReport {
        let (snapshots, outcomes, backups) = Default::default();
        VolumeReport { volume: "v".into(), generation, phase, snapshots, outcomes, restored: 0, backups }
    }

    #[test]
    fn what_a_report_does_to_a_volume() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut status = VolumeStatus::default();
        observe(&mut status, &report(1, VolumePhase::Failed("no space".into())), at(1));
        assert_eq!(
            (status.made, status.fault.as_ref().map(|fault| (fault.message.as_str(), fault.at))),
            (false, Some(("no space", at(1))))
        );
        observe(&mut status, &report(1, VolumePhase::Failed("no space".into())), at(2));
        assert_eq!(status.fault.as_ref().map(|fault| fault.at), Some(at(1)), "it is the same failure");
        observe(&mut status, &report(2, VolumePhase::Working { step: "copying".into(), percent: Some(3) }), at(3));
        assert_eq!((status.made, status.fault.clone()), (false, None), "it is tried again");
        observe(&mut status, &VolumeReport { restored: 4, ..report(2, VolumePhase::Ready { size_gib: 7 }) }, at(4));
        assert_eq!((status.made, status.size_gib, status.since, status.restored), (true, 7, Some(at(4)), 4));
        observe(&mut status, &report(3, VolumePhase::Ready { size_gib: 9 }), at(5));
        assert_eq!((status.size_gib, status.since, status.restored), (9, Some(at(4)), 4), "another carrier knows of no restore");
    }

    #[test]
    fn a_wish_ends_by_its_own_outcome_or_with_all() {
        let mut done = report(1, VolumePhase::Ready { size_gib: 1 });
        done.outcomes.insert("good".into(), None);
        done.outcomes.insert("bad".into(), Some("full".into()));
        let given_up = Settled::GivenUp("no pool".into());
        assert_eq!(outcome(&done, &Settled::All, "good"), Some(Ok(())));
        assert_eq!(outcome(&done, &Settled::No, "bad"), Some(Err("full".into())));
        assert_eq!(outcome(&done, &Settled::All, "other"), None);
        assert_eq!(outcome(&done, &given_up, "good"), Some(Ok(())));
        assert_eq!(outcome(&done, &given_up, "other"), Some(Err("no pool".into())));
    }
}
