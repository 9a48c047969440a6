//! The pool on any other host: what is to be done is asked of the host that serves it, bytes go by QEMU's own client.

use std::collections::HashMap;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use super::RENEW;
use super::initiator::Initiator;
use super::mailbox;
use super::wire::{Answer, Ask, SpotText, What};
use crate::driver::{Driver, Lock, Look};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::job::Job;
use crate::spec::{Found, Notes, Spot, Status};

pub struct Remote {
    pub initiator: Arc<Initiator>,
    /// Of the locks that are held here, by volume.
    tokens: Arc<Mutex<HashMap<String, String>>>,
}

/// A lock that the other host holds for this one, as long as it is told so.
struct Held {
    remote: Remote,
    volume: String,
    token: String,
    stop: Option<Sender<()>>,
    renewing: Option<JoinHandle<()>>,
}

impl Remote {
    pub fn new(initiator: Arc<Initiator>) -> Remote {
        Remote { initiator, tokens: Arc::default() }
    }

    fn tokens(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.tokens.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn ask(&self, what: What) -> Result<Answer> {
        let token = what.changes().and_then(|volume| self.tokens().get(volume).cloned());
        self.ask_as(token, what)
    }

    fn ask_as(&self, token: Option<String>, what: What) -> Result<Answer> {
        match mailbox::ask(&self.initiator, &Ask { token, what })? {
            Answer::Failed(failure) => Err(failure.into()),
            answer => Ok(answer),
        }
    }

    fn done(&self, what: What) -> Result<()> {
        match self.ask(what)? {
            Answer::Done => Ok(()),
            other => Err(misunderstood(&other)),
        }
    }

    fn tell(&self, what: What) -> Result<bool> {
        match self.ask(what)? {
            Answer::Bool(yes) => Ok(yes),
            other => Err(misunderstood(&other)),
        }
    }

    fn served(&self, spot: &Spot, look: Look) -> Result<Image> {
        match self.ask(What::Serve { spot: spot.into(), draft: look == Look::Draft })? {
            Answer::Name(name) => Ok(self.initiator.image(&spot.volume, &name)),
            other => Err(misunderstood(&other)),
        }
    }
}

fn misunderstood(answer: &Answer) -> Error {
    Error::Damaged("an answer of the pool's host".into(), format!("{answer:?}"))
}

impl Driver for Remote {
    fn status(&self, mark: Option<&str>) -> Result<Status> {
        match self.ask(What::Status { mark: mark.map(str::to_owned) })? {
            Answer::Status(status) => Ok(status),
            other => Err(misunderstood(&other)),
        }
    }

    fn lock(&self, volume: &str, shared: bool) -> Result<Lock> {
        let token = crate::rbd::random()?;
        self.done(What::Lock { volume: volume.into(), shared, token: token.clone() })?;
        if !shared {
            self.tokens().insert(volume.to_owned(), token.clone());
        }
        let (stop, stopped) = channel();
        let asker = Remote { initiator: Arc::clone(&self.initiator), tokens: Arc::clone(&self.tokens) };
        let (again, theirs, name) = (Remote::new(Arc::clone(&self.initiator)), token.clone(), volume.to_owned());
        let renewing = std::thread::spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(RENEW) {
                if let Err(error) = again.ask_as(Some(theirs.clone()), What::Renew) {
                    tracing::warn!(%error, volume = name, "a lock is not renewed");
                }
            }
        });
        Ok(Lock::holding(Held { remote: asker, volume: volume.into(), token, stop: Some(stop), renewing: Some(renewing) }))
    }

    fn look(&self, volume: &str) -> Result<Option<Found>> {
        match self.ask(What::Look { volume: volume.into() })? {
            Answer::Found(found) => Ok(found),
            other => Err(misunderstood(&other)),
        }
    }

    fn note(&self, volume: &str, notes: &Notes) -> Result<()> {
        self.done(What::Note { volume: volume.into(), notes: notes.clone() })
    }

    fn image(&self, spot: &Spot, look: Look) -> Image {
        // Whoever opens what is not served is told that there is no such target.
        self.served(spot, look)
            .unwrap_or_else(|_| self.initiator.image(&spot.volume, &self.initiator.name(&format!("{}:none", spot.volume))))
    }

    fn open(&self, volume: &str) -> Result<Image> {
        self.served(&Spot::data(volume), Look::Whole)
    }

    fn begin(&self, spot: &Spot, bytes: u64, shared: bool) -> Result<()> {
        self.done(What::Begin { spot: spot.into(), bytes, shared })
    }

    fn copy(&self, from: &Spot, to: &Spot, shared: bool, _job: &Job) -> Result<bool> {
        self.tell(What::Copy { from: from.into(), to: to.into(), shared })
    }

    fn bytes(&self, spot: &Spot, look: Look) -> Result<u64> {
        match self.ask(What::Bytes { spot: spot.into(), draft: look == Look::Draft })? {
            Answer::Bytes(bytes) => Ok(bytes),
            other => Err(misunderstood(&other)),
        }
    }

    fn grow(&self, spot: &Spot, look: Look, bytes: u64) -> Result<()> {
        self.done(What::Grow { spot: spot.into(), draft: look == Look::Draft, bytes })
    }

    fn publish(&self, spot: &Spot) -> Result<()> {
        self.done(What::Publish { spot: SpotText::from(spot) })
    }

    fn remove(&self, spot: &Spot) -> Result<()> {
        self.done(What::Remove { spot: spot.into() })
    }

    fn remove_volume(&self, volume: &str) -> Result<()> {
        self.done(What::RemoveVolume { volume: volume.into() })
    }

    fn is_shared(&self, volume: &str) -> Result<bool> {
        self.tell(What::IsShared { volume: volume.into() })
    }

    /// Nobody is let in while the lock is held, which whoever asks this holds.
    fn at_rest(&self, volume: &str) -> Result<Lock> {
        self.done(What::AtRest { volume: volume.into() }).map(|()| Lock::none())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(renewing) = self.renewing.take() {
            let _ = renewing.join();
        }
        self.remote.tokens().retain(|_, token| *token != self.token);
        if let Err(error) = self.remote.ask_as(Some(self.token.clone()), What::Unlock) {
            tracing::warn!(%error, volume = self.volume, "a lock is left to run out");
        }
    }
}
