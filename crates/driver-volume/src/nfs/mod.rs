//! Pools on an NFS server, which every host reaches through QEMU's own client and none mounts. The export must let root be root
//! (`no_root_squash`) and clients use any port (`insecure`).
//!
//! ```text
//! EXPORT/.unkai-pool               tells this pool from others
//!        locks/VOLUME.{w,r}.ID     somebody works on, or reads, the volume
//!        volumes/VOLUME/data       its content, as it is: what is zero takes no room
//!                       snap-ID    its content at one moment: a file of its own that nothing else needs
//!                       *.draft    being made
//!                       several    there when several servers may write it
//!                       notes.json newest fencing generation, newest restore
//! ```
//!
//! A server of version 3 keeps no file open: it looks at who asks with every write. So each fencing generation has a user of its own, and a
//! newer one takes the volume by giving its files to that user: whoever still writes as the older one is refused from that moment on.

mod client;
mod lease;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;
use unkai_crashpoint::point;

use self::client::Client;
use self::lease::Valid;
use crate::driver::{Driver, Lock, Look, present};
use crate::error::{Error, Result};
use crate::image::{Format, Image, Storage};
use crate::job::Job;
use crate::spec::{Found, Notes, Part, Spot, Status};

const MARK: &str = ".unkai-pool";
const SEVERAL: &str = "several";
const VOLUMES: &str = "volumes";
/// Users of generations follow the pool's; after so many the first comes again.
const USERS: u64 = 1 << 16;

pub struct Nfs {
    client: Arc<Client>,
    /// Of generation 0.
    uid: u32,
    gid: u32,
    /// Volumes that are worked on here.
    held: Arc<Mutex<HashMap<String, Valid>>>,
}

impl Nfs {
    pub fn new(server: &str, export: &str, uid: u32, gid: u32) -> Result<Nfs> {
        if uid == 0 || uid.checked_add(USERS as u32).is_none() {
            return Err(Error::Invalid(format!(
                "files of user {uid} cannot be kept from anybody: take another than root, below 2^32 - 2^16"
            )));
        }
        if !export.starts_with('/') {
            return Err(Error::Invalid(format!("the export {export:?} is no path from the root")));
        }
        Ok(Nfs { client: Arc::new(Client::new(server, export)), uid, gid, held: Arc::default() })
    }

    fn owner(&self, fence: u64) -> u32 {
        self.uid + (fence % USERS) as u32
    }

    /// The directory of a volume, in a pool that is there.
    fn volume(&self, volume: &str) -> Result<String> {
        self.mark()?.ok_or_else(|| self.no_mark())?;
        if let Some(valid) = self.held.lock().unwrap_or_else(PoisonError::into_inner).get(volume) {
            valid.check(volume)?;
        }
        Ok(dir(volume))
    }

    fn mark(&self) -> Result<Option<String>> {
        let found = self.client.read(MARK, 128)?.filter(|mark| !mark.is_empty());
        Ok(found.map(|mark| String::from_utf8_lossy(&mark).trim().to_owned()))
    }

    fn no_mark(&self) -> Error {
        let (server, export) = (self.client.server(), self.client.full(""));
        Error::Pool(format!("`{export}` of NFS server {server} has no mark of a pool: something else is exported there"))
    }

    /// Hosts find a new pool at the same time; the first whose mark has the name marks it, and the others take that.
    fn make(&self) -> Result<String> {
        let ours = |name: &str| name == "lost+found" || name.starts_with(MARK);
        if let Some(stranger) = self.client.list("")?.unwrap_or_default().iter().find(|name| !ours(name)) {
            if let Some(mark) = self.mark()? {
                return Ok(mark);
            }
            let (server, export) = (self.client.server(), self.client.full(""));
            return Err(Error::Pool(format!("`{export}` of NFS server {server} is no pool, and not empty: there is {stranger:?}")));
        }
        let mark = random()?;
        let draft = format!("{MARK}-{mark}");
        self.client.create(&draft, 0, 0, 0)?;
        self.client.write(&draft, mark.as_bytes())?;
        let first = self.client.link(&draft, MARK);
        self.client.remove(&draft)?;
        if first? { Ok(mark) } else { self.mark()?.ok_or_else(|| self.no_mark()) }
    }

    fn notes(&self, volume: &str) -> Result<Notes> {
        let path = format!("{}/notes.json", dir(volume));
        match self.client.read(&path, 1 << 12)? {
            None => Ok(Notes::default()),
            Some(bytes) => {
                serde_json::from_slice(&bytes).map_err(|e| Error::Damaged(format!("`{}`", self.client.full(&path)), e.to_string()))
            }
        }
    }
}

pub(crate) fn random() -> Result<String> {
    const RANDOM: &str = "/proc/sys/kernel/random/uuid";
    Ok(std::fs::read_to_string(RANDOM).map_err(Error::io("read", RANDOM))?.trim().to_owned())
}

fn dir(volume: &str) -> String {
    format!("{VOLUMES}/{volume}")
}

fn path(spot: &Spot, look: Look) -> String {
    let draft = if look == Look::Draft { ".draft" } else { "" };
    match &spot.part {
        Part::Data => format!("{}/data{draft}", dir(&spot.volume)),
        Part::Snapshot(id) => format!("{}/snap-{id}{draft}", dir(&spot.volume)),
    }
}

/// Forgets with the lock that the volume is worked on.
struct Work {
    volume: String,
    held: Arc<Mutex<HashMap<String, Valid>>>,
    _lease: lease::Lease,
}

impl Drop for Work {
    fn drop(&mut self) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.volume);
    }
}

impl Driver for Nfs {
    fn status(&self, expected: Option<&str>) -> Result<Status> {
        let mark = match (self.mark()?, expected) {
            (Some(found), Some(expected)) if found != expected => {
                let (server, export) = (self.client.server(), self.client.full(""));
                return Err(Error::Pool(format!("`{export}` of NFS server {server} is another pool than the one known by this name")));
            }
            (Some(found), _) => found,
            (None, Some(_)) => return Err(self.no_mark()),
            (None, None) => self.make()?,
        };
        let (total, free) = self.client.room()?;
        Ok(Status { mark, total, free })
    }

    fn lock(&self, volume: &str, shared: bool) -> Result<Lock> {
        let dir = self.volume(volume)?;
        if shared && self.client.stat(&dir)?.is_none() {
            return Err(Error::Missing(format!("volume {volume}")));
        }
        let Some(lease) = lease::take(&self.client, volume, shared)? else {
            return Err(Error::Busy(format!("volume {volume}: somebody works on it")));
        };
        if shared {
            return Ok(Lock::holding(lease));
        }
        let held = self.held.clone();
        held.lock().unwrap_or_else(PoisonError::into_inner).insert(volume.to_owned(), lease.valid());
        Ok(Lock::holding(Work { volume: volume.to_owned(), held, _lease: lease }))
    }

    fn look(&self, volume: &str) -> Result<Option<Found>> {
        let dir = self.volume(volume)?;
        let Some(names) = self.client.list(&dir)? else { return Ok(None) };
        let mut found = Found { notes: self.notes(volume)?, ..Found::default() };
        for name in names {
            if let Some(id) = name.strip_suffix(".draft").and_then(|name| name.strip_prefix("snap-")) {
                found.drafts.insert(id.to_owned());
                continue;
            }
            let (data, snapshot) = (name == "data", name.strip_prefix("snap-"));
            if !data && snapshot.is_none() {
                continue;
            }
            let Some(there) = self.client.stat(&format!("{dir}/{name}"))? else { continue };
            match snapshot {
                Some(id) => drop(found.snapshots.insert(id.to_owned(), there.bytes)),
                None => found.bytes = Some(there.bytes),
            }
        }
        Ok(Some(found))
    }

    fn note(&self, volume: &str, notes: &Notes) -> Result<()> {
        let dir = self.volume(volume)?;
        self.client.make_dir(VOLUMES)?;
        self.client.make_dir(&dir)?;
        let (new, whole) = (format!("{dir}/notes.new"), format!("{dir}/notes.json"));
        let bytes = serde_json::to_vec(notes).map_err(|e| Error::Invalid(e.to_string()))?;
        self.client.remove(&new)?;
        self.client.create(&new, 0, 0, 0)?;
        self.client.write(&new, &bytes)?;
        self.client.rename(&new, &whole).map(drop)
    }

    /// As the user who may write it now.
    fn image(&self, spot: &Spot, look: Look) -> Image {
        let path = path(spot, look);
        let uid = self.client.stat(&path).ok().flatten().map_or(self.uid, |there| there.uid);
        let node = json!({
            "driver": "nfs",
            "server": {"type": "inet", "host": self.client.server()},
            "path": self.client.full(&path),
            "user": uid,
            "group": self.gid,
        });
        Image { storage: Storage::Node { node, secrets: Vec::new() }, format: Format::Raw }
    }

    fn begin(&self, spot: &Spot, bytes: u64, shared: bool) -> Result<()> {
        let dir = self.volume(&spot.volume)?;
        self.client.make_dir(VOLUMES)?;
        self.client.make_dir(&dir)?;
        match (&spot.part, shared) {
            (Part::Data, true) => drop(self.client.create(&format!("{dir}/{SEVERAL}"), 0, 0, 0)?),
            (Part::Data, false) => self.client.remove(&format!("{dir}/{SEVERAL}"))?,
            (Part::Snapshot(_), _) => {}
        }
        let draft = path(spot, Look::Draft);
        self.client.remove(&draft)?;
        self.client.create(&draft, self.owner(self.notes(&spot.volume)?.fence), self.gid, bytes)?;
        point("volume: a draft is begun");
        Ok(())
    }

    /// Version 3 cannot copy on the server.
    fn copy(&self, _from: &Spot, _to: &Spot, _shared: bool, _job: &Job) -> Result<bool> {
        Ok(false)
    }

    fn bytes(&self, spot: &Spot, look: Look) -> Result<u64> {
        self.volume(&spot.volume)?;
        let there = self.client.stat(&path(spot, look))?;
        there.map(|there| there.bytes).ok_or_else(|| Error::Missing(spot.to_string()))
    }

    fn grow(&self, spot: &Spot, look: Look, bytes: u64) -> Result<()> {
        if self.bytes(spot, look)? < bytes && !self.client.resize(&path(spot, look), bytes)? {
            return Err(Error::Missing(spot.to_string()));
        }
        Ok(())
    }

    fn publish(&self, spot: &Spot) -> Result<()> {
        self.volume(&spot.volume)?;
        let (draft, whole) = (path(spot, Look::Draft), path(spot, Look::Whole));
        if self.client.stat(&draft)?.is_some() {
            self.client.commit(&draft)?;
            point("volume: a draft is durable");
            self.client.rename(&draft, &whole)?;
            return Ok(());
        }
        self.client.stat(&whole)?.map(drop).ok_or_else(|| Error::Missing(spot.to_string()))
    }

    fn remove(&self, spot: &Spot) -> Result<()> {
        self.volume(&spot.volume)?;
        [Look::Whole, Look::Draft].into_iter().try_for_each(|look| self.client.remove(&path(spot, look)))
    }

    /// Under a name that is no volume's first, so that nothing half removed is taken for one.
    fn remove_volume(&self, volume: &str) -> Result<()> {
        let dir = self.volume(volume)?;
        let gone = format!("{VOLUMES}/.gone-{volume}");
        self.client.remove_dir(&gone)?;
        self.client.rename(&dir, &gone)?;
        point("volume: a volume has no name any more");
        self.client.remove_dir(&gone)
    }

    fn fence(&self, volume: &str, notes: &Notes) -> Result<()> {
        let (dir, owner) = (self.volume(volume)?, self.owner(notes.fence));
        for name in self.client.list(&dir)?.unwrap_or_default() {
            if name == "data" || name.starts_with("snap-") || name.ends_with(".draft") {
                self.client.give(&format!("{dir}/{name}"), owner)?;
            }
        }
        Ok(())
    }

    fn is_shared(&self, volume: &str) -> Result<bool> {
        Ok(self.client.stat(&format!("{}/{SEVERAL}", self.volume(volume)?))?.is_some())
    }

    /// A fence that was begun is finished by the next: who was noted and did not get the file gets it here.
    fn open(&self, volume: &str) -> Result<Image> {
        let found = present(self.look(volume)?, volume)?;
        self.fence(volume, &found.notes)?;
        Ok(self.image(&Spot::data(volume), Look::Whole))
    }
}

#[cfg(test)]
mod server;
#[cfg(test)]
mod tests;
