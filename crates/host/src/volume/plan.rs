//! The next step for a volume. Pure.

use std::collections::BTreeMap;

use unkai_driver_volume::Found;
use unkai_link::volume::{BackupWish, VolumeItem};

/// What became of a wish at a generation: none when it is done, else why not.
pub type Outcomes = BTreeMap<String, (u64, Option<String>)>;

/// The volume as it is.
#[derive(Debug, Clone, Default)]
pub struct Local {
    /// None: there is no trace of it in its pool.
    pub found: Option<Found>,
    pub outcomes: Outcomes,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// All that is its own goes.
    Remove,
    Create,
    /// It was whole and is not there.
    Lost,
    Grow,
    /// A snapshot, or what was begun of one.
    Forget(String),
    Snapshot(String),
    Restore,
    Backup(BackupWish),
    Upload,
}

/// Snapshots that are made for a wish about a volume that a server writes, and go with it.
pub fn temporary(wish: &str) -> String {
    format!("{TEMPORARY}{wish}")
}

const TEMPORARY: &str = "tmp-";

pub fn is_temporary(snapshot: &str) -> bool {
    snapshot.starts_with(TEMPORARY)
}

/// What to do next; none when all is as wanted, as far as it can be.
pub fn next(item: &VolumeItem, local: &Local) -> Option<Step> {
    if !item.present {
        return local.found.is_some().then_some(Step::Remove);
    }
    let Some((found, bytes)) = local.found.as_ref().and_then(|found| Some((found, found.bytes?))) else {
        return Some(if item.made { Step::Lost } else { Step::Create });
    };
    // A container is a little longer than its content.
    if bytes >> 30 < item.size_gib {
        return Some(Step::Grow);
    }
    unwanted(item, local, found)
        .or_else(|| missing(item, local, found))
        .or_else(|| item.restore.as_ref().filter(|restore| restore.number > found.notes.restored).map(|_| Step::Restore))
        .or_else(|| pending_backup(item, local).map(Step::Backup))
        .or_else(|| pending_upload(item, local).then_some(Step::Upload))
}

fn unwanted(item: &VolumeItem, local: &Local, found: &Found) -> Option<Step> {
    let all = found.snapshots.keys().chain(&found.drafts);
    let mut unwanted = all.filter(|id| !is_wanted(item, local, id) && !given_up(item, local, id));
    unwanted.next().map(|id| Step::Forget(id.clone()))
}

fn is_wanted(item: &VolumeItem, local: &Local, snapshot: &str) -> bool {
    let Some(wish) = snapshot.strip_prefix(TEMPORARY) else { return item.snapshots.iter().any(|id| id == snapshot) };
    let backup = item.backups.iter().any(|backup| backup.backup == wish);
    let upload = item.upload.as_ref().is_some_and(|upload| upload.image.as_str() == wish);
    (backup || upload) && !is_over(item, local, wish)
}

fn missing(item: &VolumeItem, local: &Local, found: &Found) -> Option<Step> {
    let mut missing = item.snapshots.iter().filter(|id| !found.snapshots.contains_key(*id) && !is_over(item, local, id));
    missing.next().map(|id| Step::Snapshot(id.clone()))
}

fn pending_backup(item: &VolumeItem, local: &Local) -> Option<BackupWish> {
    item.backups.iter().find(|wish| !is_over(item, local, &wish.backup)).cloned()
}

fn pending_upload(item: &VolumeItem, local: &Local) -> bool {
    item.upload.as_ref().is_some_and(|upload| !is_over(item, local, upload.image.as_str()))
}

/// Done, or given up at this generation: a newer one asks again.
fn is_over(item: &VolumeItem, local: &Local, wish: &str) -> bool {
    local.outcomes.get(wish).is_some_and(|(generation, failure)| failure.is_none() || *generation == item.generation)
}

fn given_up(item: &VolumeItem, local: &Local, wish: &str) -> bool {
    local.outcomes.get(wish).is_some_and(|(generation, failure)| failure.is_some() && *generation == item.generation)
}

/// Is a step that was begun still wanted?
pub fn is_still(item: &VolumeItem, step: &Step) -> bool {
    match step {
        Step::Remove => !item.present,
        _ if !item.present => false,
        Step::Snapshot(id) => item.snapshots.contains(id),
        Step::Restore => item.restore.is_some(),
        Step::Backup(wish) => item.backups.contains(wish),
        Step::Upload => item.upload.is_some(),
        Step::Create | Step::Lost | Step::Grow | Step::Forget(_) => true,
    }
}

/// The wish that a step is about, which may fail alone: the volume is well without it.
pub fn wish(item: &VolumeItem, step: &Step) -> Option<String> {
    match step {
        Step::Snapshot(id) | Step::Forget(id) => Some(id.clone()),
        Step::Backup(wish) => Some(wish.backup.clone()),
        Step::Upload => item.upload.as_ref().map(|upload| upload.image.to_string()),
        Step::Remove | Step::Create | Step::Lost | Step::Grow | Step::Restore => None,
    }
}

/// In a word, for those who wait.
pub fn says(step: &Step) -> &'static str {
    match step {
        Step::Remove => "removing",
        Step::Create => "creating",
        Step::Lost => "looking",
        Step::Grow => "extending",
        Step::Forget(_) => "removing a snapshot",
        Step::Snapshot(_) => "taking a snapshot",
        Step::Restore => "restoring",
        Step::Backup(_) => "backing up",
        Step::Upload => "uploading",
    }
}

#[cfg(test)]
mod tests;
