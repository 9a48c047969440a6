//! The worker of a pool: whether it works, and how much room there is.
//!
//! The mark of a pool is noted once it was seen, so that a directory from which a file system has vanished is not taken for a new pool.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use unkai_driver_volume as driver;
use unkai_link::report::Up;
use unkai_link::volume::{PoolItem, PoolReport};
use unkai_model::Error;
use unkai_model::volume::Backend;

use super::{blocking, failed, pool};
use crate::ledger::Ledger;
use crate::server::{Servers, chain};
use crate::worker::Progress;

/// How often pools are looked at.
pub const LOOK: Duration = Duration::from_secs(5);
/// Numbers change all the time.
const SAY: Duration = Duration::from_secs(30);
/// A file system whose server is gone does not answer at all.
const PATIENCE: Duration = Duration::from_secs(10);

type Looking = JoinHandle<driver::Result<driver::Status>>;

/// The pools that this host reaches. Cheap to clone.
#[derive(Clone)]
pub struct Pools {
    servers: Servers,
    ledger: Ledger,
    shared: Arc<Mutex<HashMap<String, State>>>,
}

#[derive(Default)]
struct State {
    said: Option<(PoolReport, Instant)>,
    /// One look at a time, however long it takes.
    looking: Option<Looking>,
}

#[derive(Serialize, Deserialize)]
struct Seen {
    backend: Backend,
    mark: String,
}

impl Pools {
    pub fn new(servers: Servers, ledger: Ledger) -> Self {
        Pools { servers, ledger, shared: Arc::default() }
    }

    /// A session began or ended. A new one is told everything anew.
    pub fn connected(&self) {
        self.states().values_mut().for_each(|state| state.said = None);
    }

    fn states(&self) -> MutexGuard<'_, HashMap<String, State>> {
        self.shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub async fn converge(&self, id: &str) -> Result<Progress, Error> {
        let Some(item) = self.servers.desired.pool(id) else {
            if let Some(seen) = self.ledger.read::<Seen>(id)? {
                let pool = pool(&seen.backend)?;
                blocking("leaving a pool", move || pool.leave()).await?;
            }
            self.states().remove(id);
            self.ledger.remove(id)?;
            return Ok(Progress::Over);
        };
        let report = match self.look(&item).await {
            Ok(status) => PoolReport {
                pool: item.id,
                fault: None,
                total_gib: status.total >> 30,
                free_gib: status.free >> 30,
                mark: Some(status.mark),
            },
            Err(error) => PoolReport { pool: item.id, fault: Some(chain(&error)), total_gib: 0, free_gib: 0, mark: None },
        };
        let now = Instant::now();
        let tell = {
            let mut states = self.states();
            let state = states.entry(id.to_owned()).or_default();
            let tell = is_news(state.said.as_ref(), &report, now);
            if tell {
                state.said = Some((report.clone(), now));
            }
            tell
        };
        if tell {
            self.servers.say(Up::Pool(report)).await;
        }
        Ok(Progress::Settled)
    }

    async fn look(&self, item: &PoolItem) -> Result<driver::Status, Error> {
        let seen = self.ledger.read::<Seen>(&item.id)?.filter(|seen| seen.backend == item.backend).map(|seen| seen.mark);
        let mark = item.mark.clone().or(seen.clone());
        let before = self.states().entry(item.id.clone()).or_default().looking.take();
        let mut looking = match before {
            Some(looking) => looking,
            None => {
                let (pool, mark) = (pool(&item.backend)?, mark);
                tokio::task::spawn_blocking(move || pool.status(mark.as_deref()))
            }
        };
        let Ok(looked) = tokio::time::timeout(PATIENCE, &mut looking).await else {
            self.states().entry(item.id.clone()).or_default().looking = Some(looking);
            return Err(Error::unavailable(format!("the pool does not answer within {PATIENCE:?}")));
        };
        let status = looked.map_err(|e| Error::caused("looking at a pool", e))?.map_err(|e| match e {
            driver::Error::Pool(text) => Error::unavailable(text),
            other => failed("looking at a pool")(other),
        })?;
        if seen.as_ref() != Some(&status.mark) {
            self.ledger.write(&item.id, &Seen { backend: item.backend.clone(), mark: status.mark.clone() })?;
        }
        Ok(status)
    }
}

/// A change of whether it works is said at once, other changes after a while.
fn is_news(said: Option<&(PoolReport, Instant)>, report: &PoolReport, now: Instant) -> bool {
    let Some((before, at)) = said else { return true };
    let works = |report: &PoolReport| (report.fault.clone(), report.mark.clone());
    works(before) != works(report) || before != report && now.duration_since(*at) >= SAY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_news_of_a_pool() {
        let report = |free_gib, fault: Option<&str>| PoolReport {
            pool: "p".into(),
            fault: fault.map(str::to_owned),
            total_gib: 9,
            free_gib,
            mark: None,
        };
        let start = Instant::now();
        let said = (report(5, None), start);
        let later = start + SAY;
        assert!(is_news(None, &report(5, None), start));
        for (now, at, news) in [
            (report(5, None), later, false),
            (report(4, None), start, false),
            (report(4, None), later, true),
            (report(5, Some("not mounted")), start, true),
        ] {
            assert_eq!(is_news(Some(&said), &now, at), news, "{now:?}");
        }
    }
}
