//! Storage that outlives machines: volumes, snapshots and backups, of which only the newest content is remembered, as a number.
//!
//! It refuses whoever comes with an older fencing generation than it has seen, as real pools do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use unkai_link::volume::{
    BackupFacts, BackupItem, BackupReport, PoolItem, PoolReport, RestoreFrom, Source, VolumeItem, VolumePhase, VolumeReport, VolumeUse,
};

/// GiB that a simulated pool has.
pub const TOTAL_GIB: u64 = 10_000;

/// Cheap to clone; all clones are one. Ids are unique in a cloud, so one storage does for all its pools.
#[derive(Clone, Default)]
pub struct Storage(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    volumes: BTreeMap<String, Stored>,
    backups: BTreeMap<String, u64>,
    /// Why nothing works.
    fault: Option<String>,
}

/// A volume as it is in the pool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    pub size_gib: u64,
    /// The newest fencing generation seen.
    pub fence: u64,
    pub content: u64,
    /// Size and content of each.
    pub snapshots: BTreeMap<String, (u64, u64)>,
    pub restored: u64,
}

impl Storage {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn volumes(&self) -> BTreeMap<String, Stored> {
        self.lock().volumes.clone()
    }

    pub fn backups(&self) -> BTreeMap<String, u64> {
        self.lock().backups.clone()
    }

    /// From now on everything fails so, or nothing does.
    pub fn set_fault(&self, fault: Option<&str>) {
        self.lock().fault = fault.map(str::to_owned);
    }

    /// A guest writes. False: it is fenced off, or the volume is gone.
    pub fn write(&self, volume: &str, fence: u64, content: Option<u64>) -> bool {
        let mut state = self.lock();
        let Some(stored) = state.volumes.get_mut(volume).filter(|stored| fence >= stored.fence) else { return false };
        stored.fence = fence;
        stored.content = content.unwrap_or(stored.content);
        true
    }

    /// A server is to use it from now on.
    pub fn open(&self, use_: &VolumeUse) -> Result<(), String> {
        let mut state = self.lock();
        let volume = &use_.volume;
        let stored = state.volumes.get_mut(volume).ok_or_else(|| format!("volume {volume} is not there"))?;
        if use_.shared { Ok(()) } else { stored.pass(use_.generation) }
    }

    pub fn pool(&self, item: &PoolItem) -> PoolReport {
        let state = self.lock();
        let used: u64 = state.volumes.values().map(|stored| stored.size_gib).sum();
        PoolReport {
            pool: item.id.clone(),
            fault: state.fault.clone(),
            total_gib: TOTAL_GIB,
            free_gib: TOTAL_GIB.saturating_sub(used),
            mark: state.fault.is_none().then(|| item.id.clone()),
        }
    }

    /// Makes the volume as the item says.
    pub fn volume(&self, item: &VolumeItem) -> VolumeReport {
        let (snapshots, outcomes, backups) = Default::default();
        let phase = VolumePhase::Gone;
        let mut report =
            VolumeReport { volume: item.id.clone(), generation: item.generation, phase, snapshots, outcomes, restored: 0, backups };
        if let Err(reason) = self.lock().reach(item, &mut report) {
            report.phase = VolumePhase::Failed(reason);
        }
        report
    }

    pub fn backup(&self, item: &BackupItem) -> BackupReport {
        let mut state = self.lock();
        let fault = state.fault.clone();
        if fault.is_none() && !item.present {
            state.backups.remove(&item.id);
        }
        BackupReport { backup: item.id.clone(), generation: item.generation, fault }
    }
}

impl Stored {
    fn pass(&mut self, fence: u64) -> Result<(), String> {
        if fence < self.fence {
            return Err(format!("fencing generation {fence} is over: {} has it", self.fence));
        }
        self.fence = fence;
        Ok(())
    }
}

impl State {
    fn reach(&mut self, item: &VolumeItem, report: &mut VolumeReport) -> Result<(), String> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        if !item.present {
            if let Some(stored) = self.volumes.get_mut(&item.id) {
                stored.pass(item.fence)?;
                self.volumes.remove(&item.id);
            }
            return Ok(());
        }
        if !self.volumes.contains_key(&item.id) {
            if item.made {
                return Err(format!("volume {} is not there any more", item.id));
            }
            let content = self.begin(&item.source)?;
            self.volumes.insert(item.id.clone(), Stored { content, ..Stored::default() });
        }
        let State { volumes, backups, .. } = self;
        let stored = volumes.get_mut(&item.id).ok_or("it was made above")?;
        stored.pass(item.fence)?;
        stored.size_gib = stored.size_gib.max(item.size_gib);
        stored.snapshots.retain(|id, _| item.snapshots.contains(id));
        for id in &item.snapshots {
            stored.snapshots.entry(id.clone()).or_insert((stored.size_gib, stored.content));
        }
        if let Some(restore) = item.restore.as_ref().filter(|restore| restore.number > stored.restored) {
            let content = match &restore.from {
                RestoreFrom::Snapshot(id) => stored.snapshots.get(id).map(|(_, content)| *content),
                RestoreFrom::Backup { backup, .. } => backups.get(backup).copied(),
                RestoreFrom::Image(_) => Some(0),
            };
            stored.content = content.ok_or("what it is to be put back to is not there")?;
            stored.restored = restore.number;
        }
        for wish in &item.backups {
            let whole = wish.parent.as_ref().is_none_or(|parent| backups.contains_key(parent));
            let content = match &wish.snapshot {
                Some(snapshot) => stored.snapshots.get(snapshot).map(|(_, content)| *content),
                None => Some(stored.content),
            };
            let outcome = match content.filter(|_| whole) {
                Some(content) => {
                    backups.insert(wish.backup.clone(), content);
                    report.backups.insert(wish.backup.clone(), BackupFacts { stored: stored.size_gib << 30, objects: stored.size_gib });
                    None
                }
                None => Some("what it is of, or its parent, is not there".to_owned()),
            };
            report.outcomes.insert(wish.backup.clone(), outcome);
        }
        if let Some(upload) = &item.upload {
            report.outcomes.insert(upload.image.to_string(), Some("a simulated host has no bytes".into()));
        }
        report.snapshots = stored.snapshots.iter().map(|(id, (size, _))| (id.clone(), *size)).collect();
        report.restored = stored.restored;
        report.phase = VolumePhase::Ready { size_gib: stored.size_gib };
        Ok(())
    }

    fn begin(&self, source: &Source) -> Result<u64, String> {
        let content = match source {
            Source::Blank => Some(0),
            Source::Image(image) => Some(image.size),
            Source::Snapshot { volume, snapshot, .. } => {
                self.volumes.get(volume).and_then(|stored| stored.snapshots.get(snapshot)).map(|(_, content)| *content)
            }
            Source::Volume { volume, .. } => self.volumes.get(volume).map(|stored| stored.content),
            Source::Backup { backup, .. } => self.backups.get(backup).copied(),
        };
        content.ok_or_else(|| "what it is to be made from is not there".into())
    }
}
