//! One host at a time works on a volume: a lock of RADOS on an object, which runs out when its holder is gone.
//!
//! `rados` ends once it has locked, and every run of it is another client. So locks are shared ones of a tag: whoever has the same tag joins
//! those who hold it, whoever has another waits until all of them have let go or run out. A worker has a tag of its own and joins itself to
//! renew it; all readers have one tag.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::cli::{Answer, Cluster, Program};
use crate::error::{Error, Result};

const NAME: &str = "work";
const LENGTH: Duration = Duration::from_secs(60);
const RENEW: Duration = Duration::from_secs(15);
/// What is begun within this time is done before another can come.
const MARGIN: Duration = Duration::from_secs(20);
/// Others hold it for moments, or for as long as a copy takes; only the former is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
const READERS: &str = "readers";

/// Held until it is let go.
pub struct Lease {
    valid: Valid,
    stop: Option<Sender<()>>,
    renewing: Option<JoinHandle<()>>,
    cluster: Arc<Cluster>,
    object: String,
    cookie: String,
}

/// Until when a lease counts, by this host's clock: from before it was asked for.
#[derive(Clone)]
pub struct Valid(Arc<Mutex<Instant>>);

impl Valid {
    fn until(&self) -> Instant {
        *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn extend(&self, asked: Instant) {
        *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = asked + LENGTH;
    }

    pub fn check(&self, volume: &str) -> Result<()> {
        if Instant::now() + MARGIN < self.until() {
            return Ok(());
        }
        Err(Error::Busy(format!("volume {volume}, whose lock has run out,")))
    }
}

/// Waits a moment for others. [`Error::Busy`] when they take longer.
pub fn take(cluster: &Arc<Cluster>, object: &str, shared: bool) -> Result<Option<Lease>> {
    let cookie = random()?;
    let deadline = Instant::now() + PATIENCE;
    let tag = if shared { READERS.to_owned() } else { cookie.clone() };
    loop {
        let asked = Instant::now();
        if acquire(cluster, object, &tag, &cookie)? {
            let valid = Valid(Arc::new(Mutex::new(asked + LENGTH)));
            let (stop, stopped) = channel();
            let theirs = (Arc::clone(cluster), object.to_owned(), tag, cookie.clone(), valid.clone());
            let renewing = std::thread::spawn(move || {
                let (cluster, object, tag, cookie, valid) = theirs;
                while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(RENEW) {
                    let asked = Instant::now();
                    match acquire(&cluster, &object, &tag, &cookie) {
                        Ok(true) => valid.extend(asked),
                        Ok(false) => return,
                        Err(error) => tracing::warn!(%error, object, "a lock is not renewed"),
                    }
                }
            });
            let (cluster, object) = (Arc::clone(cluster), object.to_owned());
            return Ok(Some(Lease { valid, stop: Some(stop), renewing: Some(renewing), cluster, object, cookie }));
        }
        if Instant::now() > deadline {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn acquire(cluster: &Cluster, object: &str, tag: &str, cookie: &str) -> Result<bool> {
    let length = LENGTH.as_secs().to_string();
    let lock =
        ["lock", "get", object, NAME, "--lock-type", "shared", "--lock-tag", tag, "--lock-cookie", cookie, "--lock-duration", &length];
    match cluster.ask(Program::Rados, lock)? {
        Answer::Done(_) => Ok(true),
        // The same cookie by the same client: it is held.
        Answer::Present => Ok(true),
        Answer::Busy => Ok(false),
        other => Err(Error::tool("rados", format!("locking {object}: {other:?}"))),
    }
}

#[derive(Deserialize)]
struct Holders {
    lockers: Vec<Holder>,
}

#[derive(Deserialize)]
struct Holder {
    name: String,
    cookie: String,
}

fn release(cluster: &Cluster, object: &str, cookie: &str) -> Result<()> {
    let holders: Option<Holders> = cluster.json(Program::Rados, ["lock", "info", object, NAME])?;
    let ours = holders.into_iter().flat_map(|holders| holders.lockers).filter(|holder| holder.cookie == cookie);
    for holder in ours {
        cluster.ask(Program::Rados, ["lock", "break", object, NAME, &holder.name, "--lock-cookie", cookie])?;
    }
    Ok(())
}

impl Lease {
    pub fn valid(&self) -> Valid {
        self.valid.clone()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(renewing) = self.renewing.take() {
            let _ = renewing.join();
        }
        if let Err(error) = release(&self.cluster, &self.object, &self.cookie) {
            tracing::warn!(%error, object = self.object, "a lock is left to run out");
        }
    }
}

pub fn random() -> Result<String> {
    const RANDOM: &str = "/proc/sys/kernel/random/uuid";
    Ok(std::fs::read_to_string(RANDOM).map_err(Error::io("read", RANDOM))?.trim().to_owned())
}
