//! The one writer: takes all waiting jobs, runs them in order on the newest state, makes them durable together, then shows the new
//! state and answers.
//!
//! A job's error undoes that job alone. An engine's error undoes the batch: the state in memory stays the old one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use arc_swap::ArcSwap;
use tokio::sync::{oneshot, watch};
use unkai_model::Error;

use crate::engine::{Batch, CommitError, Engine, StoredRow};
use crate::registry::Registry;
use crate::state::{DocKey, State};
use crate::tx::Tx;
use crate::{Revision, Shared, Source};

/// Enough to fill a commit, small enough that an answer does not wait long for its neighbours.
const LARGEST_BATCH: usize = 512;
/// How often a batch is run again when the engine says for certain that nothing of it was committed.
const COMMIT_TRIES: usize = 3;

pub(crate) enum Message {
    Job(Box<dyn Job>),
    /// Catch up with other controllers, then answer.
    Refresh(oneshot::Sender<Result<(), Error>>),
}

pub(crate) trait Job: Send {
    /// Runs the body; false when it refused, and then nothing of it may be kept.
    fn run(&mut self, tx: &mut Tx) -> bool;
    /// The transaction's constraints failed after the body succeeded.
    fn refuse(&mut self, error: Error);
    /// Everything is decided and durable: answer the caller.
    fn answer(self: Box<Self>);
}

struct TypedJob<F, T, E> {
    body: F,
    result: Option<Result<T, E>>,
    answer: oneshot::Sender<Result<T, E>>,
}

pub(crate) fn job<F, T, E>(body: F, answer: oneshot::Sender<Result<T, E>>) -> Box<dyn Job>
where
    F: FnMut(&mut Tx) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: From<Error> + Send + 'static,
{
    Box::new(TypedJob { body, result: None, answer })
}

impl<F, T, E> Job for TypedJob<F, T, E>
where
    F: FnMut(&mut Tx) -> Result<T, E> + Send,
    T: Send,
    E: From<Error> + Send,
{
    fn run(&mut self, tx: &mut Tx) -> bool {
        let result = catch_unwind(AssertUnwindSafe(|| (self.body)(tx)));
        let result = result.unwrap_or_else(|_| Err(Error::internal("a transaction panicked").into()));
        let ok = result.is_ok();
        self.result = Some(result);
        ok
    }
    fn refuse(&mut self, error: Error) {
        self.result = Some(Err(error.into()));
    }
    fn answer(self: Box<Self>) {
        if let Some(result) = self.result {
            // A caller that went away does not want the answer; what was committed stays committed.
            let _ = self.answer.send(result);
        }
    }
}

pub(crate) fn start(mut engine: Box<dyn Engine>, registry: Arc<Registry>, source: Arc<dyn Source>) -> Result<Arc<Shared>, Error> {
    let mut state = State::empty(registry, engine.is_shared());
    let loaded = engine.load()?;
    for row in loaded.rows {
        apply(&mut state, &row)?;
    }
    state.revision = loaded.revision;
    state.forgotten = loaded.revision;
    let (jobs, inbox) = channel();
    let (woken, revision) = watch::channel(state.revision);
    let shared = Arc::new(Shared { view: ArcSwap::from_pointee(state), jobs, revision });
    let writer = Writer { engine, source, shown: Arc::downgrade(&shared), woken };
    std::thread::Builder::new()
        .name("store-writer".into())
        .spawn(move || writer.run(inbox))
        .map_err(|e| Error::caused("starting the store's writer thread", e))?;
    Ok(shared)
}

fn apply(state: &mut State, row: &StoredRow) -> Result<(), Error> {
    let kind = state.registry.by_name(&row.kind)?;
    let value = match &row.body {
        None => None,
        Some(body) => Some(
            (state.registry.entry(kind).decode)(body)
                .map_err(|e| Error::caused(format!("reading the stored {} {}", row.kind, row.id), e))?,
        ),
    };
    state.put(kind, &row.id, value, row.revision)
}

struct Writer {
    engine: Box<dyn Engine>,
    source: Arc<dyn Source>,
    /// Weak, so that dropping the last handle closes the inbox and ends this thread.
    shown: std::sync::Weak<Shared>,
    woken: watch::Sender<Revision>,
}

impl Writer {
    fn run(mut self, inbox: Receiver<Message>) {
        while let Ok(first) = inbox.recv() {
            let (mut jobs, mut refreshes) = (Vec::new(), Vec::new());
            let waiting = std::iter::once(first).chain(inbox.try_iter().take(LARGEST_BATCH - 1));
            for message in waiting {
                match message {
                    Message::Job(job) => jobs.push(job),
                    Message::Refresh(answer) => refreshes.push(answer),
                }
            }
            let Some(shared) = self.shown.upgrade() else { return };
            self.batch(&shared, &mut jobs, !refreshes.is_empty());
            for job in jobs {
                job.answer();
            }
            for answer in refreshes {
                let _ = answer.send(Ok(()));
            }
        }
    }

    fn batch(&mut self, shared: &Shared, jobs: &mut [Box<dyn Job>], refresh: bool) {
        let mut error = Error::unavailable("the store did not accept the write");
        for _ in 0..COMMIT_TRIES {
            match self.try_batch(shared, jobs, refresh) {
                Ok(()) => return,
                Err(CommitError::Failed(e)) => {
                    tracing::warn!(error = %e, cause = ?std::error::Error::source(&e), "a batch was not committed");
                    error = e;
                }
                Err(CommitError::Unknown(e)) => {
                    tracing::error!(error = %e, "the outcome of a batch is unknown");
                    error = e;
                    break;
                }
            }
        }
        let text = error.to_string();
        for job in jobs {
            job.refuse(Error::unavailable(format!("the store did not accept the write: {text}")));
        }
    }

    fn try_batch(&mut self, shared: &Shared, jobs: &mut [Box<dyn Job>], refresh: bool) -> Result<(), CommitError> {
        let mut state = State::clone(&shared.view.load());
        let caught_up = if refresh || state.shared_engine { self.catch_up(&mut state, !jobs.is_empty())? } else { false };
        let mut written: Vec<DocKey> = Vec::new();
        for job in jobs.iter_mut() {
            let mut tx = Tx::new(&state, &*self.source);
            if !job.run(&mut tx) {
                continue;
            }
            match tx.finish() {
                Ok(outcome) => {
                    state = outcome.state;
                    written.extend(outcome.written);
                }
                Err(error) => job.refuse(error),
            }
        }
        if written.is_empty() {
            self.engine.abandon();
        } else {
            let batch = encode(&state, written).map_err(CommitError::Failed)?;
            self.engine.commit(&batch)?;
        }
        if caught_up || state.revision > shared.view.load().revision {
            let revision = state.revision;
            shared.view.store(Arc::new(state));
            self.woken.send_replace(revision);
        }
        Ok(())
    }

    /// Takes in what other controllers wrote. With `to_write`, holds the engine's write lock from here to commit.
    fn catch_up(&mut self, state: &mut State, to_write: bool) -> Result<bool, CommitError> {
        let news = self.engine.begin(state.revision, to_write).map_err(CommitError::Failed)?;
        if news.revision == state.revision {
            return Ok(false);
        }
        for row in &news.rows {
            apply(state, row).map_err(CommitError::Failed)?;
            let kind = state.registry.by_name(&row.kind).map_err(CommitError::Failed)?;
            state.remember(row.revision, std::iter::once((kind, row.id.clone())));
        }
        state.revision = news.revision;
        Ok(true)
    }
}

fn encode(state: &State, mut written: Vec<DocKey>) -> Result<Batch, Error> {
    written.sort_unstable();
    written.dedup();
    let mut rows = Vec::with_capacity(written.len());
    for (kind, id) in written {
        let entry = state.registry.entry(kind);
        let (revision, body) = match state.row(kind, &id) {
            None => (state.revision, None),
            Some(row) => {
                let body = (entry.encode)(&row.value).map_err(|e| Error::caused(format!("encoding the {} {id}", entry.name), e))?;
                (row.revision, Some(body))
            }
        };
        rows.push(StoredRow { kind: entry.name.into(), id, revision, body });
    }
    Ok(Batch { revision: state.revision, rows })
}
