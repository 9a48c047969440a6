//! Pools of Ceph RBD, through its command line programs and QEMU's own client.
//!
//! ```text
//! unkai-pool          tells the pool from others
//! unkai.VOLUME        its record: newest fencing generation, which image it is; and the lock of who works on it
//! VOLUME.N            an image; the record says which one is the volume, which is a draft, and which it was before it was put back
//! VOLUME.N@SNAPSHOT   a snapshot, RBD's own
//! ```
//!
//! Snapshots are taken at once, while a server writes too. Copies in the pool are copy-on-write clones; a chain of clones that is long
//! enough ends with a full copy. A snapshot or volume with clones can be removed: its image is put away until the last clone is gone.
//! A volume becomes whole, and is put back, by one write of its record. What it was before takes room until the last of its snapshots goes.
//!
//! **What the fence guarantees.** Nobody who was told of an older generation opens the image: it has another name. Every client that has
//! it open, or has written it and let nobody else, is refused by the OSDs from then on for 30 days, even when it slept or was cut off meanwhile.
//! What is left: a client that has the image open, never wrote, and was cut off for more than half a minute is not seen; should it come
//! back, it may ask for the lock and write. That is a host whose lease has run out, and its guard ends it. Volumes that
//! several servers share are not fenced.

mod cli;
#[cfg(test)]
mod cluster;
mod fence;
mod images;
mod lease;
mod mark;
mod record;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use serde::Deserialize;
use unkai_crashpoint::point;

use crate::driver::{Driver, Lock, Look};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::job::Job;
use crate::spec::{Found, Notes, Part, Spot, Status};
use crate::tool::Tools;
use cli::{Answer, Cluster, Program};
use lease::Valid;
pub(crate) use lease::random;
use record::Record;

pub struct Rbd {
    cluster: Arc<Cluster>,
    /// Of the locks that are held here.
    leases: Mutex<HashMap<String, Valid>>,
}

#[derive(Deserialize)]
struct Usage {
    pools: Vec<PoolUsage>,
}

#[derive(Deserialize)]
struct PoolUsage {
    name: String,
    stats: Stats,
}

#[derive(Deserialize)]
struct Stats {
    stored: u64,
    max_avail: u64,
}

impl Rbd {
    pub fn new(monitors: &[String], pool: &str, user: &str, key: &str, tools: Tools) -> Result<Rbd> {
        Ok(Rbd { cluster: Arc::new(Cluster::new(monitors, pool, user, key, tools)?), leases: Mutex::default() })
    }

    fn leases(&self) -> MutexGuard<'_, HashMap<String, Valid>> {
        self.leases.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn record(&self, volume: &str) -> Result<Record> {
        Ok(record::read(&self.cluster, volume)?.unwrap_or_default())
    }

    /// Only who still has the lock writes.
    fn write(&self, volume: &str, record: &Record) -> Result<()> {
        if let Some(valid) = self.leases().get(volume).cloned() {
            valid.check(volume)?;
        }
        record::write(&self.cluster, volume, record)
    }

    /// The image that the volume is. Who fences it may have died between renaming it and noting that.
    fn data(&self, record: &Record) -> Result<Option<(String, images::Info)>> {
        for name in record.data.iter().chain(&record.renaming) {
            if let Some(info) = images::info(&self.cluster, name)? {
                return Ok(Some((name.clone(), info)));
            }
        }
        Ok(None)
    }

    /// Snapshots of the volume, where they are, and their bytes.
    fn snapshots(&self, record: &Record) -> Result<BTreeMap<String, (String, u64)>> {
        let mut all = BTreeMap::new();
        for image in record.former.iter().chain(&record.data).chain(&record.renaming) {
            for (snapshot, bytes) in images::snapshots(&self.cluster, image)? {
                all.insert(snapshot, (image.clone(), bytes));
            }
        }
        all.retain(|snapshot, _| !snapshot.starts_with(BORROWED));
        Ok(all)
    }

    /// Image, snapshot of it, and bytes.
    fn place(&self, spot: &Spot, look: Look) -> Result<(String, Option<String>, u64)> {
        let record = self.record(&spot.volume)?;
        let missing = || Error::Missing(spot.to_string());
        match (&spot.part, look) {
            (Part::Data, Look::Draft) if record.draft.is_some() => {
                let image = record.draft.ok_or_else(missing)?;
                let info = images::info(&self.cluster, &image)?.ok_or_else(missing)?;
                Ok((image, None, info.size))
            }
            (Part::Data, _) => self.data(&record)?.map(|(image, info)| (image, None, info.size)).ok_or_else(missing),
            (Part::Snapshot(snapshot), _) => {
                let (image, bytes) = self.snapshots(&record)?.remove(snapshot).ok_or_else(missing)?;
                Ok((image, Some(snapshot.clone()), bytes))
            }
        }
    }

    /// Shuts out who came before the newest generation.
    fn cut(&self, volume: &str, mut record: Record) -> Result<()> {
        if let (Some(old), Some(new)) = (record.data.clone(), record.renaming.clone()) {
            fence::rename(&self.cluster, &old, &new)?;
            point("volume: a fenced image has a new name");
            fence::shut_out(&self.cluster, &new)?;
        }
        if let Some(draft) = &record.draft {
            fence::shut_out(&self.cluster, draft)?;
        }
        point("volume: older generations are shut out");
        record.data = record.renaming.take().or(record.data);
        record.cutting = false;
        self.write(volume, &record)
    }

    /// Throws away what was begun, and says by which name it is begun anew.
    fn fresh_draft(&self, volume: &str) -> Result<(Record, String)> {
        let mut record = self.record(volume)?;
        if let Some(old) = record.draft.take() {
            fence::shut_out(&self.cluster, &old)?;
            images::dispose(&self.cluster, &old)?;
        }
        self.give_back(&mut record)?;
        let name = record.name(volume);
        record.draft = Some(name.clone());
        Ok((record, name))
    }

    fn give_back(&self, record: &mut Record) -> Result<()> {
        match record.borrowed.take() {
            Some(snapshot) => images::remove_snapshot(&self.cluster, &snapshot),
            None => Ok(()),
        }
    }

    fn draft_of_snapshot(spot: &Spot) -> Error {
        Error::Invalid(format!("{spot} cannot be made of bytes: the pool takes its snapshots itself"))
    }
}

/// No snapshot that a user asked for begins so.
const BORROWED: char = '+';

impl Driver for Rbd {
    fn status(&self, mark: Option<&str>) -> Result<Status> {
        let mark = mark::expect(&self.cluster, mark)?;
        let usage: Option<Usage> = self.cluster.json(Program::Ceph, ["df"])?;
        let pool = &self.cluster.pool;
        let ours = usage.into_iter().flat_map(|usage| usage.pools).find(|usage| usage.name == *pool);
        let stats = ours.ok_or_else(|| Error::Pool(format!("Ceph does not say how much room there is in pool {pool}")))?.stats;
        Ok(Status { mark, total: stats.stored + stats.max_avail, free: stats.max_avail })
    }

    fn lock(&self, volume: &str, shared: bool) -> Result<Lock> {
        let object = record::object(volume);
        if shared && record::read(&self.cluster, volume)?.is_none() {
            return Err(Error::Missing(format!("volume {volume}")));
        }
        let Some(lease) = lease::take(&self.cluster, &object, shared)? else {
            return Err(Error::Busy(format!("volume {volume}, which somebody works on,")));
        };
        if !shared {
            self.leases().insert(volume.to_owned(), lease.valid());
            if let Some(record) = record::read(&self.cluster, volume)?.filter(|record| record.cutting) {
                self.cut(volume, record)?;
            }
        }
        Ok(Lock::holding(lease))
    }

    fn look(&self, volume: &str) -> Result<Option<Found>> {
        let Some(record) = record::read(&self.cluster, volume)? else { return Ok(None) };
        let bytes = self.data(&record)?.map(|(_, info)| info.size);
        let snapshots = self.snapshots(&record)?.into_iter().map(|(snapshot, (_, bytes))| (snapshot, bytes)).collect();
        Ok(Some(Found { bytes, snapshots, drafts: Default::default(), notes: record.notes }))
    }

    fn note(&self, volume: &str, notes: &Notes) -> Result<()> {
        let mut record = self.record(volume)?;
        if notes.fence > record.notes.fence {
            record.cutting = true;
            if self.data(&record)?.is_some_and(|(_, info)| info.is_exclusive()) {
                record.renaming = Some(record.name(volume));
            }
        }
        record.notes = notes.clone();
        self.write(volume, &record)
    }

    fn image(&self, spot: &Spot, look: Look) -> Image {
        match self.place(spot, look) {
            Ok((image, snapshot, _)) => self.cluster.image(&spot.volume, &image, snapshot.as_deref()),
            // Whoever opens it is told that there is none.
            Err(_) => self.cluster.image(&spot.volume, &spot.volume, None),
        }
    }

    fn begin(&self, spot: &Spot, bytes: u64, shared: bool) -> Result<()> {
        if spot.part != Part::Data {
            return Err(Self::draft_of_snapshot(spot));
        }
        let (record, name) = self.fresh_draft(&spot.volume)?;
        self.write(&spot.volume, &record)?;
        images::create(&self.cluster, &name, bytes, shared)?;
        point("volume: a draft is begun");
        Ok(())
    }

    fn copy(&self, from: &Spot, to: &Spot, shared: bool, _job: &Job) -> Result<bool> {
        let (source, snapshot, _) = self.place(from, Look::Whole)?;
        if let Part::Snapshot(name) = &to.part {
            if *from != Spot::data(&to.volume) {
                return Err(Self::draft_of_snapshot(to));
            }
            images::take_snapshot(&self.cluster, &source, name)?;
            return Ok(true);
        }
        if images::depth(&self.cluster, &source)? >= images::DEEPEST {
            return Ok(false);
        }
        let (mut record, name) = self.fresh_draft(&to.volume)?;
        let origin = match &snapshot {
            Some(snapshot) => format!("{source}@{snapshot}"),
            None => format!("{source}@{BORROWED}{name}"),
        };
        record.borrowed = snapshot.is_none().then(|| origin.clone());
        self.write(&to.volume, &record)?;
        if snapshot.is_none() {
            images::take_snapshot(&self.cluster, &source, &format!("{BORROWED}{name}"))?;
        }
        images::clone(&self.cluster, &origin, &name, shared)?;
        point("volume: a draft is copied");
        self.give_back(&mut record)?;
        Ok(true)
    }

    fn bytes(&self, spot: &Spot, look: Look) -> Result<u64> {
        self.place(spot, look).map(|(.., bytes)| bytes)
    }

    fn grow(&self, spot: &Spot, look: Look, bytes: u64) -> Result<()> {
        let (image, _, now) = self.place(spot, look)?;
        if look == Look::Whole && !fence::users(&self.cluster, &image)?.is_empty() {
            return Err(Error::Busy(format!("{spot}, which a server has open,")));
        }
        if now < bytes { images::resize(&self.cluster, &image, bytes) } else { Ok(()) }
    }

    fn publish(&self, spot: &Spot) -> Result<()> {
        if spot.part != Part::Data {
            return Ok(());
        }
        let mut record = self.record(&spot.volume)?;
        let Some(draft) = record.draft.take() else { return Ok(()) };
        if images::info(&self.cluster, &draft)?.is_none() {
            return Err(Error::Missing(format!("the draft of {spot}")));
        }
        let old = record.data.replace(draft);
        record.former.extend(old.clone());
        record.borrowed = None;
        self.write(&spot.volume, &record)?;
        point("volume: a draft is published");
        if old.is_some() { self.tidy(&spot.volume) } else { Ok(()) }
    }

    fn remove(&self, spot: &Spot) -> Result<()> {
        let mut record = self.record(&spot.volume)?;
        if let Part::Snapshot(snapshot) = &spot.part {
            for image in record.former.iter().chain(&record.data) {
                images::remove_snapshot(&self.cluster, &format!("{image}@{snapshot}"))?;
            }
            return self.tidy(&spot.volume);
        }
        record.former.extend(record.data.take());
        record.former.extend(record.draft.take());
        self.write(&spot.volume, &record)?;
        self.tidy(&spot.volume)
    }

    /// First the record says that nothing is whole any more, at last it goes.
    fn remove_volume(&self, volume: &str) -> Result<()> {
        let mut record = self.record(volume)?;
        let images: Vec<String> = record.images().cloned().collect();
        (record.data, record.renaming, record.draft, record.former) = (None, None, None, images.clone());
        self.write(volume, &record)?;
        point("volume: a volume has no name any more");
        self.give_back(&mut record)?;
        images.iter().try_for_each(|image| images::dispose(&self.cluster, image))?;
        images::reap(&self.cluster)?;
        match self.cluster.ask(Program::Rados, ["rm", &record::object(volume)])? {
            Answer::Done(_) | Answer::Absent => Ok(()),
            other => Err(Error::tool("rados", format!("removing the record of volume {volume}: {other:?}"))),
        }
    }

    fn fence(&self, volume: &str, _notes: &Notes) -> Result<()> {
        match record::read(&self.cluster, volume)?.filter(|record| record.cutting) {
            Some(record) => self.cut(volume, record),
            None => Ok(()),
        }
    }

    fn snapshots_live(&self) -> bool {
        true
    }

    fn is_shared(&self, volume: &str) -> Result<bool> {
        Ok(self.data(&self.record(volume)?)?.is_some_and(|(_, info)| !info.is_exclusive()))
    }

    fn at_rest(&self, volume: &str) -> Result<Lock> {
        if let Some((image, _)) = self.data(&self.record(volume)?)?
            && !fence::users(&self.cluster, &image)?.is_empty()
        {
            return Err(Error::Busy(format!("volume {volume}, which a server has open,")));
        }
        Ok(Lock::none())
    }
}

impl Rbd {
    /// Removes what the volume was and no snapshot of a user needs.
    fn tidy(&self, volume: &str) -> Result<()> {
        let mut record = self.record(volume)?;
        let mut kept = Vec::new();
        for image in std::mem::take(&mut record.former) {
            if images::snapshots(&self.cluster, &image)?.keys().any(|snapshot| !snapshot.starts_with(BORROWED)) {
                kept.push(image);
            } else {
                images::dispose(&self.cluster, &image)?;
            }
        }
        record.former = kept;
        self.write(volume, &record)
    }
}

#[cfg(test)]
mod tests;
