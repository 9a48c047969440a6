//! One host at a time works on a volume, any number reads it. Version 3 of NFS has no locks of its own, so whoever wants one says so in a
//! file with a name of its own, and then looks whether somebody else has: of two at the same time at least one sees the other and goes back.
//! A file that was not touched for long, by the server's clock, is of somebody who is gone.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::client::Client;
use crate::error::{Error, Result};

pub const DIR: &str = "locks";
const LENGTH: Duration = Duration::from_secs(60);
const RENEW: Duration = Duration::from_secs(15);
/// What is begun within this time is done before another can come.
const MARGIN: Duration = Duration::from_secs(20);
/// Others hold it for moments, or for as long as a copy takes; only the former is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is in a name: whose, and whether it writes.
#[derive(Debug, PartialEq, Eq)]
struct Entry<'a> {
    volume: &'a str,
    writes: bool,
}

impl<'a> Entry<'a> {
    fn name(&self, id: &str) -> String {
        format!("{}.{}.{id}", self.volume, if self.writes { "w" } else { "r" })
    }

    fn parse(name: &'a str) -> Option<Entry<'a>> {
        let mut parts = name.rsplitn(3, '.');
        let (_, kind, volume) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Entry { volume, writes: kind == "w" })
    }

    fn conflicts(&self, other: &Entry<'_>) -> bool {
        self.volume == other.volume && (self.writes || other.writes)
    }
}

/// Until when a lease counts, by this host's clock: from before it was asked for.
#[derive(Clone)]
pub struct Valid(Arc<Mutex<Instant>>);

impl Valid {
    fn extend(&self, asked: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = asked + LENGTH;
    }

    pub fn check(&self, volume: &str) -> Result<()> {
        let until = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if Instant::now() + MARGIN < until {
            return Ok(());
        }
        Err(Error::Busy(format!("volume {volume}, whose lock has run out,")))
    }
}

/// Held until it is let go.
pub struct Lease {
    valid: Valid,
    stop: Option<Sender<()>>,
    renewing: Option<JoinHandle<()>>,
    client: Arc<Client>,
    path: String,
}

/// Waits a moment for others. None when they take longer.
pub fn take(client: &Arc<Client>, volume: &str, shared: bool) -> Result<Option<Lease>> {
    client.make_dir(DIR)?;
    let own = Entry { volume, writes: !shared };
    let name = own.name(&super::random()?);
    let path = format!("{DIR}/{name}");
    let deadline = Instant::now() + PATIENCE;
    for pause in 0.. {
        let asked = Instant::now();
        client.create(&path, 0, 0, 0)?;
        match is_alone(client, &own, &name) {
            Ok(true) => return Ok(Some(keep(client, path, asked))),
            Ok(false) => client.remove(&path)?,
            Err(error) => {
                let _ = client.remove(&path);
                return Err(error);
            }
        }
        if Instant::now() > deadline {
            break;
        }
        // Each has another rhythm, so that two do not go back before each other for ever.
        let own = name.bytes().fold(pause, |sum, byte| (sum * 31 + u64::from(byte)) % 1009);
        std::thread::sleep(Duration::from_millis(30 + own % 90));
    }
    Ok(None)
}

fn is_alone(client: &Client, own: &Entry<'_>, name: &str) -> Result<bool> {
    let missing = || Error::Busy(format!("volume {}, whose lock was taken away,", own.volume));
    let now = client.stat(&format!("{DIR}/{name}"))?.ok_or_else(missing)?.modified;
    for other in client.list(DIR)?.unwrap_or_default() {
        if other == name || !Entry::parse(&other).is_some_and(|other| own.conflicts(&other)) {
            continue;
        }
        let path = format!("{DIR}/{other}");
        let Some(there) = client.stat(&path)? else { continue };
        if now.saturating_sub(there.modified) < LENGTH {
            return Ok(false);
        }
        client.remove(&path)?;
    }
    Ok(true)
}

fn keep(client: &Arc<Client>, path: String, asked: Instant) -> Lease {
    let valid = Valid(Arc::new(Mutex::new(asked + LENGTH)));
    let (stop, stopped) = channel();
    let (theirs, its, file) = (client.clone(), valid.clone(), path.clone());
    let renewing = std::thread::spawn(move || {
        while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(RENEW) {
            let asked = Instant::now();
            match theirs.touch(&file) {
                Ok(true) => its.extend(asked),
                // Somebody took it for that of one who is gone.
                Ok(false) => return,
                Err(error) => tracing::warn!(%error, file, "a lock is not renewed"),
            }
        }
    });
    Lease { valid, stop: Some(stop), renewing: Some(renewing), client: client.clone(), path }
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
        if let Err(error) = self.client.remove(&self.path) {
            tracing::warn!(%error, file = self.path, "a lock is left to run out");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_who_is_in_whose_way() {
        let writer = Entry { volume: "v.1", writes: true };
        let reader = Entry { volume: "v.1", writes: false };
        for entry in [&writer, &reader] {
            assert_eq!(Entry::parse(&entry.name("id")).as_ref(), Some(entry));
        }
        assert_eq!(Entry::parse("v"), None);
        assert!(writer.conflicts(&writer) && writer.conflicts(&reader) && reader.conflicts(&writer) && !reader.conflicts(&reader));
        assert!(!writer.conflicts(&Entry { volume: "v", writes: true }));
    }
}
