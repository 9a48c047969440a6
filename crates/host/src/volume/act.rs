//! The worker of a volume: looks, takes the next step, reports.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use unkai_driver_volume::{self as driver, Job};
use unkai_link::report::Up;
use unkai_link::volume::{BackupFacts, VolumeItem, VolumePhase, VolumeReport};
use unkai_model::Error;

use super::plan::{self, Local, Outcomes, Step, is_temporary, next};
use super::{blocking, failed, pool};
use crate::full;
use crate::server::{Servers, chain};
use crate::worker::Progress;

/// How often a step is tried for one generation before it is given up.
const TRIES: u32 = 4;
/// No plan needs nearly as many.
const MOST_STEPS: usize = 256;
/// How often long work is looked at.
const GLANCE: Duration = Duration::from_millis(200);

/// The volumes that this host carries. Cheap to clone.
#[derive(Clone)]
pub struct Volumes {
    pub(super) servers: Servers,
    /// Copies on their way to the controller.
    pub(super) exports: PathBuf,
    shared: Arc<Mutex<HashMap<String, State>>>,
}

/// What is remembered of a volume while this agent lives.
#[derive(Default)]
struct State {
    outcomes: Outcomes,
    backups: BTreeMap<String, BackupFacts>,
    /// The generation and step that fails, and how often it did.
    tries: Option<(u64, Step, u32)>,
    /// The last report, so that nothing is said twice in one session.
    said: Option<VolumeReport>,
}

impl Volumes {
    pub fn new(servers: Servers, exports: PathBuf) -> Self {
        Volumes { servers, exports, shared: Arc::default() }
    }

    /// A session began or ended. A new one is told everything anew.
    pub fn connected(&self) {
        self.states().values_mut().for_each(|state| state.said = None);
    }

    fn states(&self) -> MutexGuard<'_, HashMap<String, State>> {
        self.shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn with<T>(&self, id: &str, change: impl FnOnce(&mut State) -> T) -> T {
        change(self.states().entry(id.to_owned()).or_default())
    }

    pub async fn converge(&self, id: &str) -> Result<Progress, Error> {
        for _ in 0..MOST_STEPS {
            let Some(item) = self.servers.desired.volume(id) else {
                // Another host carries it now, or nobody has to.
                self.states().remove(id);
                return Ok(Progress::Over);
            };
            let local = match self.look(&item).await {
                Ok(local) => local,
                Err(error) => return self.trouble(&item, &Local::default(), &Step::Lost, error).await.map(|()| Progress::Settled),
            };
            let Some(step) = next(&item, &local) else {
                self.report(&item, &local, settled(&item, &local)).await;
                return Ok(Progress::Settled);
            };
            tracing::info!(volume = id, generation = item.generation, ?step, "step");
            self.working(&item, &local, &step, None).await;
            match self.step(&item, &local, &step).await {
                Ok(()) => self.with(id, |state| state.tries = None),
                Err(error) if !self.is_wanted(id, &step) => tracing::info!(volume = id, %error, ?step, "not wanted any more"),
                Err(error) => {
                    self.trouble(&item, &local, &step, error).await?;
                    if plan::wish(&item, &step).is_none() {
                        return Ok(Progress::Settled);
                    }
                }
            }
        }
        Err(Error::internal(format!("volume {id} does not settle")))
    }

    async fn look(&self, item: &VolumeItem) -> Result<Local, Error> {
        let (pool, id) = (pool(&item.backend)?, item.id.clone());
        let found = blocking(format!("looking at volume {id}"), move || pool.look(&id)).await?;
        let outcomes = self.with(&item.id, |state| {
            state.outcomes.retain(|wish, (generation, failure)| is_asked(item, wish, failure.as_ref().map(|_| *generation)));
            state.backups.retain(|backup, _| state.outcomes.contains_key(backup));
            state.outcomes.clone()
        });
        Ok(Local { found, outcomes })
    }

    fn is_wanted(&self, id: &str, step: &Step) -> bool {
        self.servers.desired.volume(id).is_some_and(|item| plan::is_still(&item, step))
    }

    /// An error is returned when the step is to be tried again.
    async fn trouble(&self, item: &VolumeItem, local: &Local, step: &Step, error: Error) -> Result<(), Error> {
        let text = chain(&error);
        if matches!(error, Error::Unavailable(_)) {
            self.report(item, local, VolumePhase::Working { step: format!("{}, waits: {text}", plan::says(step)), percent: None }).await;
            return Err(error);
        }
        let full = full::is_full(&error);
        if !full && self.tried(item, step) < TRIES {
            return Err(error);
        }
        tracing::error!(volume = item.id, generation = item.generation, ?step, error = text, "given up");
        if let Some(wish) = plan::wish(item, step) {
            self.with(&item.id, |state| state.outcomes.insert(wish, (item.generation, Some(text))));
            return Ok(());
        }
        self.report(item, local, VolumePhase::Failed(text)).await;
        // Room may be made without anybody touching this volume.
        if full { Err(error) } else { Ok(()) }
    }

    /// How often this step has failed for this generation.
    fn tried(&self, item: &VolumeItem, step: &Step) -> u32 {
        self.with(&item.id, |state| {
            let before = state.tries.take().filter(|(generation, failed, _)| *generation == item.generation && failed == step);
            let count = before.map_or(1, |(_, _, count)| count + 1);
            state.tries = Some((item.generation, step.clone(), count));
            count
        })
    }

    /// A wish is done.
    pub(super) fn done(&self, item: &VolumeItem, wish: &str, facts: Option<BackupFacts>) {
        self.with(&item.id, |state| {
            state.outcomes.insert(wish.to_owned(), (item.generation, None));
            state.backups.extend(facts.map(|facts| (wish.to_owned(), facts)));
        });
    }

    /// Runs a driver's work, tells how far it is, and stops it when nobody wants it any more.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        item: &VolumeItem,
        local: &Local,
        step: &Step,
        work: impl FnOnce(&Job) -> driver::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let what = format!("{} volume {}", plan::says(step), item.id);
        // Whoever does not wait for it any more does not want it either.
        let job = Stopping(Job::default());
        let theirs = job.0.clone();
        let task = tokio::task::spawn_blocking(move || work(&theirs));
        let done = self.watch(item, local, step, task, || {
            if !self.is_wanted(&item.id, step) {
                job.0.stop();
            }
            job.0.percent()
        });
        match done.await {
            Ok(result) => result.map_err(failed(what)),
            Err(error) => Err(Error::caused(what, error)),
        }
    }

    /// Waits, and tells how far it is.
    pub(super) async fn watch<T>(
        &self,
        item: &VolumeItem,
        local: &Local,
        step: &Step,
        task: impl Future<Output = T>,
        percent: impl Fn() -> u8,
    ) -> T {
        let mut task = std::pin::pin!(task);
        let mut said = 0;
        loop {
            tokio::select! {
                done = &mut task => return done,
                () = tokio::time::sleep(GLANCE) => {}
            }
            let percent = percent();
            // Tenths are enough for those who wait.
            if percent / 10 > said / 10 {
                said = percent;
                self.working(item, local, step, Some(percent)).await;
            }
        }
    }

    async fn working(&self, item: &VolumeItem, local: &Local, step: &Step, percent: Option<u8>) {
        self.report(item, local, VolumePhase::Working { step: plan::says(step).into(), percent }).await;
    }

    async fn report(&self, item: &VolumeItem, local: &Local, phase: VolumePhase) {
        let found = local.found.clone().unwrap_or_default();
        let report = self.with(&item.id, |state| {
            let mut outcomes = BTreeMap::new();
            for (wish, (generation, failure)) in state.outcomes.iter().filter(|(wish, _)| !is_temporary(wish)) {
                if failure.is_none() || *generation == item.generation {
                    outcomes.insert(wish.clone(), failure.clone());
                }
            }
            let report = VolumeReport {
                volume: item.id.clone(),
                generation: item.generation,
                phase,
                snapshots: found
                    .snapshots
                    .iter()
                    .filter(|(id, _)| !is_temporary(id))
                    .map(|(id, bytes)| (id.clone(), bytes >> 30))
                    .collect(),
                outcomes,
                restored: found.notes.restored,
                backups: state.backups.clone(),
            };
            (state.said.as_ref() != Some(&report)).then(|| {
                state.said = Some(report.clone());
                report
            })
        });
        if let Some(report) = report {
            self.servers.say(Up::Volume(report)).await;
        }
    }
}

/// What to report once nothing is left to do.
fn settled(item: &VolumeItem, local: &Local) -> VolumePhase {
    match local.found.as_ref().and_then(|found| found.bytes) {
        Some(bytes) if item.present => VolumePhase::Ready { size_gib: bytes >> 30 },
        _ => VolumePhase::Gone,
    }
}

/// Outcomes are kept as long as somebody may ask for them.
fn is_asked(item: &VolumeItem, wish: &str, failed_at: Option<u64>) -> bool {
    let backup = item.backups.iter().any(|backup| backup.backup == wish);
    let upload = item.upload.as_ref().is_some_and(|upload| upload.image.as_str() == wish);
    let snapshot = item.snapshots.iter().any(|id| id == wish);
    backup || upload || snapshot || failed_at == Some(item.generation)
}

struct Stopping(Job);

impl Drop for Stopping {
    fn drop(&mut self) {
        self.0.stop();
    }
}
