//! The serving host's end of the questions: checks who may, and does it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::served::Served;
use super::wire::{Answer, Ask, What, look_of};
use crate::driver::{Driver, Lock};
use crate::error::{Error, Result};
use crate::job::Job;
use crate::spec::{Spot, word};

/// A lock whose holder does not say anything any more is let go.
const LEASE: Duration = Duration::from_secs(60);

pub struct Office {
    served: Served,
    locks: Mutex<HashMap<String, Held>>,
}

struct Held {
    /// None: for reading.
    volume: Option<String>,
    until: Instant,
    _lock: Lock,
}

impl Office {
    pub fn new(served: Served) -> Office {
        Office { served, locks: Mutex::default() }
    }

    fn locks(&self) -> MutexGuard<'_, HashMap<String, Held>> {
        let mut locks = self.locks.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let now = Instant::now();
        locks.retain(|_, held| held.until > now);
        locks
    }

    pub fn answer(&self, ask: Ask) -> Answer {
        self.act(ask).unwrap_or_else(|error| Answer::Failed(error.into()))
    }

    fn act(&self, ask: Ask) -> Result<Answer> {
        let token = ask.token.unwrap_or_default();
        if let Some(volume) = ask.what.changes() {
            let held = self.locks().get(&token).is_some_and(|held| held.volume.as_deref() == Some(volume));
            if !held {
                return Err(Error::Busy(format!("volume {volume}, whose lock has run out,")));
            }
        }
        for spot in ask.what.names() {
            Spot::from(spot.clone()).validate()?;
        }
        let served = &self.served;
        let done = |result: Result<()>| result.map(|()| Answer::Done);
        match ask.what {
            What::Status { mark } => served.status(mark.as_deref()).map(Answer::Status),
            What::Lock { volume, shared, token } => done(self.lock(&volume, shared, token)),
            What::Renew => done(self.renew(&token)),
            What::Unlock => {
                let held = self.locks().remove(&token);
                drop(held);
                Ok(Answer::Done)
            }
            What::Look { volume } => word(&volume).and_then(|()| served.look(&volume)).map(Answer::Found),
            What::Note { volume, notes } => done(served.note(&volume, &notes)),
            What::Begin { spot, bytes, shared } => done(served.begin(&spot.into(), bytes, shared)),
            What::Copy { from, to, shared } => served.copy(&from.into(), &to.into(), shared, &Job::default()).map(Answer::Bool),
            What::Bytes { spot, draft } => served.bytes(&spot.into(), look_of(draft)).map(Answer::Bytes),
            What::Grow { spot, draft, bytes } => done(served.grow(&spot.into(), look_of(draft), bytes)),
            What::Publish { spot } => done(served.publish(&spot.into())),
            What::Remove { spot } => done(served.remove(&spot.into())),
            What::RemoveVolume { volume } => done(served.remove_volume(&volume)),
            What::IsShared { volume } => word(&volume).and_then(|()| served.is_shared(&volume)).map(Answer::Bool),
            What::AtRest { volume } => done(word(&volume).and_then(|()| served.at_rest(&volume)).map(drop)),
            What::Serve { spot, draft } => served.serve(&spot.into(), look_of(draft)).map(Answer::Name),
        }
    }

    fn lock(&self, volume: &str, shared: bool, token: String) -> Result<()> {
        word(volume)?;
        // Asked again, by an asker whose slot was taken.
        if self.locks().contains_key(&token) {
            return Ok(());
        }
        let lock = self.served.lock(volume, shared)?;
        let held = Held { volume: (!shared).then(|| volume.to_owned()), until: Instant::now() + LEASE, _lock: lock };
        self.locks().insert(token, held);
        Ok(())
    }

    fn renew(&self, token: &str) -> Result<()> {
        match self.locks().get_mut(token) {
            Some(held) => held.until = Instant::now() + LEASE,
            None => return Err(Error::Busy("a volume whose lock has run out".into())),
        }
        Ok(())
    }
}
