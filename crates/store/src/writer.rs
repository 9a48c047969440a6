//! The one writer: takes all waiting jobs, runs them in order on the newest state, makes them durable together, then shows the new
//! state and answers.
//!
//! A job's error undoes that job alone. An engine's error undoes the batch: the state in memory stays the old one. When the engine
//! cannot say whether it committed, callers wait until it can, and if that takes too long they are told just that.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::oneshot;
use unkai_crashpoint::point;
use unkai_model::Error;

use crate::bell::{Bell, Ringer};
use crate::engine::{Batch, CommitError, Engine, News, Remote, Rows, StoredRow};
use crate::job::Job;
use crate::registry::Registry;
use crate::state::{DocKey, Row, State};
use crate::tx::Tx;
use crate::{Revision, Shared, Source};

/// Enough to fill a commit, small enough that an answer does not wait long for its neighbours.
const LARGEST_BATCH: usize = 512;
/// How often a batch is run again when the engine says for certain that nothing of it was committed.
const COMMIT_TRIES: usize = 3;
/// Between two attempts to find out an unknown outcome.
const RESOLVE_PAUSE: Duration = Duration::from_millis(50);

pub(crate) enum Message {
    Job(Box<dyn Job>),
    /// Catch up with other controllers, then answer whoever waits for that.
    Refresh(Option<oneshot::Sender<Result<(), Error>>>),
    /// Finish what was sent before, close the engine, answer and end.
    Stop(oneshot::Sender<()>),
}

/// How messages reach the writer.
pub(crate) enum Handle {
    Thread(Sender<Message>),
    /// The sender's own thread does the work. None once it has stopped.
    InStep(Mutex<Option<Writer>>),
}

/// There is no writer any more.
pub(crate) struct Stopped;

impl Handle {
    pub fn send(&self, shared: &Shared, message: Message) -> Result<(), Stopped> {
        match self {
            Handle::Thread(jobs) => jobs.send(message).map_err(|_| Stopped),
            Handle::InStep(writer) => {
                let mut held = writer.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                let mut inbox = Inbox::default();
                inbox.take(message);
                let writer = held.as_mut().ok_or(Stopped)?;
                writer.turn(shared, &mut inbox);
                if let Some(stop) = inbox.stop {
                    *held = None;
                    let _ = stop.send(());
                }
                Ok(())
            }
        }
    }
}

/// A writer that works on its callers' threads. For engines that do not block and that no other store writes to; `remote` is how those who
/// share this one hear of each other.
pub(crate) fn start_in_step(
    mut engine: Box<dyn Engine>,
    registry: Arc<Registry>,
    source: Arc<dyn Source>,
    remote: Option<Arc<dyn Remote>>,
) -> Result<Arc<Shared>, Error> {
    let state = load(&mut *engine, registry)?;
    let bell = Arc::new(Bell::default());
    let ringer = Ringer(bell.clone());
    Ok(Arc::new_cyclic(|shared: &Weak<Shared>| {
        let writer = Writer { engine, source: source.clone(), shown: shared.clone(), ringer };
        let writer = Handle::InStep(Mutex::new(Some(writer)));
        Shared { view: ArcSwap::from_pointee(state), writer, source, bell, remote, shares: false }
    }))
}

/// Starts the writer thread, which owns the engine from the first moment: an engine may block, and its caller may be a runtime's thread.
pub(crate) fn start(mut engine: Box<dyn Engine>, registry: Arc<Registry>, source: Arc<dyn Source>) -> Result<Arc<Shared>, Error> {
    let (opened, result) = sync_channel(1);
    let body = move || match load(&mut *engine, registry) {
        Err(error) => {
            drop(engine);
            let _ = opened.send(Err(error));
        }
        Ok(state) => {
            let (jobs, inbox) = channel();
            let bell = Arc::new(Bell::default());
            let ringer = Ringer(bell.clone());
            let shares = engine.is_shared();
            let shared = Arc::new_cyclic(|shared: &Weak<Shared>| {
                let remote = engine.follow(wake(shared.clone()));
                let source = source.clone();
                Shared { view: ArcSwap::from_pointee(state), writer: Handle::Thread(jobs), source, bell, remote, shares }
            });
            let writer = Writer { engine, source, shown: Arc::downgrade(&shared), ringer };
            let _ = opened.send(Ok(shared));
            writer.run(inbox);
        }
    };
    std::thread::Builder::new()
        .name("store-writer".into())
        .spawn(body)
        .map_err(|e| Error::caused("starting the store's writer thread", e))?;
    result.recv().unwrap_or_else(|_| Err(Error::internal("the store's writer thread died while it loaded the store")))
}

/// What an engine calls when others have written: weak, or the store would keep itself alive.
fn wake(shared: Weak<Shared>) -> Box<dyn Fn(Revision) + Send + Sync> {
    Box::new(move |newest| {
        if let Some(shared) = shared.upgrade()
            && shared.view.load().revision < newest
        {
            // A store that has stopped has nobody to tell.
            let _ = shared.writer.send(&shared, Message::Refresh(None));
        }
    })
}

fn load(engine: &mut dyn Engine, registry: Arc<Registry>) -> Result<State, Error> {
    let mut state = State::empty(registry);
    let mut newest = 0;
    let revision = engine.load(&mut |stored| {
        newest = newest.max(stored.revision);
        let ((kind, id), row) = decode(&state.registry, &stored)?;
        state.put(kind, &id, row).map(drop)
    })?;
    if newest > revision {
        return Err(Error::internal(format!(
            "the store is damaged or an unfinished copy: it has a document of revision {newest}, but is itself at {revision}"
        )));
    }
    state.revision = revision;
    state.forgotten = revision;
    Ok(state)
}

fn decode(registry: &Registry, stored: &StoredRow) -> Result<(DocKey, Option<Row>), Error> {
    let kind = registry.by_name(&stored.kind)?;
    let Some(body) = &stored.body else { return Ok(((kind, stored.id.clone()), None)) };
    let reading = || format!("reading the stored {} {}", stored.kind, stored.id);
    let value = (registry.entry(kind).decode)(body).map_err(|e| Error::caused(reading(), e))?;
    let id = (registry.entry(kind).id)(&value);
    if id != stored.id {
        return Err(Error::internal(format!("{}: it calls itself {id}", reading())));
    }
    Ok(((kind, id), Some(Row { revision: stored.revision, value })))
}

pub(crate) struct Writer {
    engine: Box<dyn Engine>,
    source: Arc<dyn Source>,
    /// Weak, so that dropping the last handle closes the inbox and ends this thread.
    shown: Weak<Shared>,
    ringer: Ringer,
}

/// Why a batch came to nothing.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    /// The engine could not be reached or read; it has tried long enough itself.
    #[error("the store is not available")]
    Begin(#[source] Error),
    /// Certainly not committed; running it again may help.
    #[error("the store did not accept the write")]
    Commit(#[source] Error),
    /// Perhaps committed.
    #[error("the outcome of the write is unknown")]
    Unknown(#[source] Error),
}

impl Trouble {
    /// For a caller: "unavailable" promises that nothing was changed.
    fn told(&self) -> Error {
        match self {
            Trouble::Begin(_) | Trouble::Commit(_) => Error::unavailable(chain(self)),
            Trouble::Unknown(_) => Error::internal(chain(self)),
        }
    }
}

/// What one turn of the writer deals with.
#[derive(Default)]
struct Inbox {
    jobs: Vec<Box<dyn Job>>,
    refreshes: Vec<oneshot::Sender<Result<(), Error>>>,
    stop: Option<oneshot::Sender<()>>,
}

impl Inbox {
    fn gather(first: Message, more: &Receiver<Message>) -> Self {
        let mut inbox = Inbox::default();
        for message in std::iter::once(first).chain(more.try_iter().take(LARGEST_BATCH - 1)) {
            inbox.take(message);
            if inbox.stop.is_some() {
                break;
            }
        }
        inbox
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Job(job) => self.jobs.push(job),
            Message::Refresh(answer) => self.refreshes.extend(answer),
            Message::Stop(answer) => self.stop = Some(answer),
        }
    }

    /// `caught_up` is about the refreshes; the jobs know their results.
    fn answer(&mut self, caught_up: Result<(), String>) {
        for job in self.jobs.drain(..) {
            job.answer();
        }
        for answer in self.refreshes.drain(..) {
            // Whoever stopped waiting does not want the answer.
            let _ = answer.send(caught_up.clone().map_err(Error::unavailable));
        }
    }
}

impl Writer {
    fn run(mut self, messages: Receiver<Message>) {
        while let Ok(first) = messages.recv() {
            let mut inbox = Inbox::gather(first, &messages);
            let Some(shared) = self.shown.upgrade() else { return };
            self.turn(&shared, &mut inbox);
            if let Some(stop) = inbox.stop {
                drop(self);
                let _ = stop.send(());
                return;
            }
        }
    }

    /// Does what the inbox asks for and answers everybody but whoever wants it to stop.
    fn turn(&mut self, shared: &Shared, inbox: &mut Inbox) {
        let caught_up = self.batch(shared, &mut inbox.jobs);
        inbox.answer(caught_up);
    }

    /// Runs the jobs and leaves in them what to answer; the result is about catching up.
    fn batch(&mut self, shared: &Shared, jobs: &mut [Box<dyn Job>]) -> Result<(), String> {
        for attempt in 1.. {
            let Err(trouble) = self.try_batch(shared, jobs) else { break };
            tracing::warn!(error = chain(&trouble), attempt, "a batch failed");
            if attempt < COMMIT_TRIES && matches!(trouble, Trouble::Commit(_)) {
                continue;
            }
            // Also those that refused by themselves: they may have seen what others wrote in this batch.
            jobs.iter_mut().for_each(|job| job.refuse(trouble.told()));
            return if matches!(trouble, Trouble::Begin(_)) { Err(trouble.to_string()) } else { Ok(()) };
        }
        Ok(())
    }

    fn try_batch(&mut self, shared: &Shared, jobs: &mut [Box<dyn Job>]) -> Result<(), Trouble> {
        let news = self.engine.begin(shared.view.load().revision, !jobs.is_empty()).map_err(Trouble::Begin)?;
        let mut state = State::clone(&shared.view.load());
        let caught_up = self.take_in(&mut state, news).and_then(|news| {
            if news {
                // At once: readers who wait for what others wrote need not wait for this batch.
                self.show(shared, state.clone());
            }
            self.run_jobs(state, jobs)
        });
        let (state, written) = caught_up.inspect_err(|_| self.engine.abandon()).map_err(Trouble::Begin)?;
        if written.is_empty() {
            if !jobs.is_empty() {
                self.engine.abandon();
            }
            return Ok(());
        }
        point("store: before a commit");
        self.commit(&Batch { revision: state.revision, rows: rows(&state, written) })?;
        point("store: committed, nobody told");
        self.show(shared, state);
        Ok(())
    }

    /// Takes in what other controllers wrote, if anything.
    fn take_in(&mut self, state: &mut State, news: News) -> Result<bool, Error> {
        match news {
            News::Nothing => return Ok(false),
            News::Since(Rows { revision, rows }) => {
                let rows: Vec<_> =
                    rows.iter().map(|stored| Ok((stored.revision, decode(&state.registry, stored)?))).collect::<Result<_, Error>>()?;
                let mut changes: Vec<(Revision, DocKey)> = rows.iter().map(|(revision, (key, _))| (*revision, key.clone())).collect();
                changes.sort_unstable();
                state.put_all(rows.into_iter().map(|(_, row)| row).collect())?;
                state.remember(changes.into_iter());
                state.revision = revision;
            }
            News::Reload => {
                tracing::info!(revision = state.revision, "reading the whole store again");
                *state = load(&mut *self.engine, state.registry.clone())?;
            }
        }
        Ok(true)
    }

    /// Runs every job on what the ones before it left. An error is about the state, not about a job.
    #[allow(clippy::type_complexity)]
    fn run_jobs(
        &self,
        mut state: State,
        jobs: &mut [Box<dyn Job>],
    ) -> Result<(State, BTreeMap<DocKey, (Revision, Option<String>)>), Error> {
        let mut batch = BTreeMap::new();
        for job in jobs {
            let mut tx = Tx::new(state, &*self.source);
            let done = job.run(&mut tx);
            match if done { tx.check() } else { Ok(()) } {
                Ok(()) if done => {
                    let written;
                    (state, written) = tx.keep();
                    batch.extend(written.into_iter().map(|(key, body)| (key, (state.revision, body))));
                }
                refused => {
                    state = tx.undo()?;
                    if let Err(error) = refused {
                        job.refuse(error);
                    }
                }
            }
        }
        Ok((state, batch))
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), Trouble> {
        let error = match self.engine.commit(batch) {
            Ok(()) => return Ok(()),
            Err(CommitError::Failed(e)) => return Err(Trouble::Commit(e)),
            Err(CommitError::Unknown(e)) => e,
        };
        tracing::warn!(error = chain(&error), revision = batch.revision, "finding out whether a batch was committed");
        let deadline = Instant::now() + self.engine.patience();
        loop {
            match self.engine.resolve() {
                Ok(true) => return Ok(()),
                Ok(false) => return Err(Trouble::Commit(error)),
                Err(e) if Instant::now() >= deadline => return Err(Trouble::Unknown(e)),
                Err(_) => std::thread::sleep(RESOLVE_PAUSE),
            }
        }
    }

    fn show(&self, shared: &Shared, state: State) {
        shared.view.store(Arc::new(state));
        self.ringer.ring();
    }
}

fn rows(state: &State, written: BTreeMap<DocKey, (Revision, Option<String>)>) -> Vec<StoredRow> {
    let row = |((kind, id), (revision, body))| StoredRow { kind: state.registry.entry(kind).name.into(), id, revision, body };
    written.into_iter().map(row).collect()
}

/// An error with its causes, for the log.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
