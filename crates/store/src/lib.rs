//! Documents, unique claims, indexes, tallies, revisions and watch, in one transaction.
//!
//! The whole state is in memory as an immutable snapshot, [`View`]. A write is a closure; closures run one after another, on the
//! newest state, on one writer thread. A batch of them becomes one commit of the [`engine::Engine`], and only when that is durable is
//! the new snapshot shown and are the callers answered. So a transaction never conflicts, reads in it are exact, and order of
//! revisions is order of visibility. Several controllers on one shared engine take turns at its write lock, so the same holds across
//! them. When the process dies half way, the engine holds whole batches or nothing of them.
//!
//! What a caller is told is true: an answer means durable, [`Error::Unavailable`] means that nothing was changed, and when neither can
//! be said the error says that the outcome is unknown.
//!
//! Not here: what the documents mean. Heartbeats, metrics and logs are not documents.

mod bell;
mod check;
pub mod engine;
mod facts;
mod job;
mod migrate;

mod reads;
mod registry;
mod state;
mod tx;
mod view;
mod watch;
mod writer;

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use unkai_model::Error;

pub use check::{Finding, check, check_with};
pub use migrate::{Migrated, migrate};
pub use reads::Reads;
pub use registry::Registry;
pub use tx::Tx;
pub use view::{Change, Changes, View};
pub use watch::Watch;

/// Counts transactions that wrote something; 0 is the empty store.
pub type Revision = u64;

/// Time and chance, passed in so that a whole cloud can run from one seed.
pub trait Source: Send + Sync + 'static {
    fn now(&self) -> Timestamp;
    fn fill(&self, bytes: &mut [u8]);
}

/// The machine's clock and random generator.
pub struct System;

impl Source for System {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
    fn fill(&self, bytes: &mut [u8]) {
        aws_lc_rs::rand::fill(bytes).expect("the system's random generator answers");
    }
}

/// A handle to the store; cheap to clone. The writer thread ends when the last handle is dropped.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    view: ArcSwap<state::State>,
    writer: writer::Handle,
    source: Arc<dyn Source>,
    bell: Arc<bell::Bell>,
    remote: Option<Arc<dyn engine::Remote>>,
    /// Others write to the same engine.
    shares: bool,
}

impl Store {
    /// Opens, or creates, the store in one SQLite file.
    pub fn open_sqlite(path: &Path, source: Arc<dyn Source>) -> Result<Self, Error> {
        Self::open(Box::new(engine::sqlite::Sqlite::open(path)?), source)
    }

    /// Opens the store that `url` names: `sqlite:PATH`, or `postgres://USER:PASSWORD@HOST/DATABASE`.
    pub fn open_url(url: &str, source: Arc<dyn Source>) -> Result<Self, Error> {
        Self::open(engine::from_url(url)?, source)
    }

    /// A store that forgets; for tests and simulation.
    pub fn in_memory(source: Arc<dyn Source>) -> Self {
        let engine = engine::sqlite::Sqlite::in_memory().expect("an in-memory database opens");
        Self::open(Box::new(engine), source).expect("an empty database loads")
    }

    /// A store that forgets and has no thread of its own: a transaction runs on the thread that sends it, at once. With time and chance
    /// from `source`, a simulation on one thread is then the same each time.
    pub fn in_step(source: Arc<dyn Source>) -> Self {
        Self::in_step_with(source, None)
    }

    /// The same for several controllers in one process, which hear of each other by `remote`.
    pub fn in_step_with(source: Arc<dyn Source>, remote: Option<Arc<dyn engine::Remote>>) -> Self {
        let engine = engine::sqlite::Sqlite::in_memory().expect("an in-memory database opens");
        let shared = writer::start_in_step(Box::new(engine), Arc::new(Registry::all()), source, remote).expect("an empty database loads");
        Store { shared }
    }

    pub fn open(engine: Box<dyn engine::Engine>, source: Arc<dyn Source>) -> Result<Self, Error> {
        Self::open_with(engine, Registry::all(), source)
    }

    /// Opens a store of other kinds than the model's.
    pub fn open_with(engine: Box<dyn engine::Engine>, registry: Registry, source: Arc<dyn Source>) -> Result<Self, Error> {
        writer::start(engine, Arc::new(registry), source).map(|shared| Store { shared })
    }

    /// What time it is for this store.
    pub fn now(&self) -> Timestamp {
        self.shared.source.now()
    }

    /// The newest committed state known here.
    pub fn view(&self) -> View {
        View::new(self.shared.view.load_full())
    }

    /// A state that includes every write that any controller acknowledged before this call.
    pub async fn read(&self) -> Result<View, Error> {
        if let Some(remote) = &self.shared.remote {
            let newest = remote.newest().await.map_err(|_| gone())??;
            self.reach(newest).await?;
        } else if self.shared.shares {
            self.refresh().await?;
        }
        Ok(self.view())
    }

    /// Says that the controller `name` lives, and answers how often each controller that shares this store has said so. Alone there is
    /// nobody to tell and nobody to hear.
    pub async fn beat(&self, name: &str) -> Result<Vec<(String, u64)>, Error> {
        match &self.shared.remote {
            Some(remote) => remote.beat(name).await.map_err(|_| gone())?,
            None if self.shared.shares => Err(Error::unavailable("the other controllers cannot be heard")),
            None => Ok(Vec::new()),
        }
    }

    /// Waits until the view is at least at `newest`, whether this writer catches up by itself or because it is asked to.
    async fn reach(&self, newest: Revision) -> Result<(), Error> {
        if self.shared.view.load().revision >= newest {
            return Ok(());
        }
        let shown = || (self.shared.view.load().revision >= newest).then_some(());
        tokio::select! {
            biased;
            reached = self.shared.bell.until(shown) => reached.ok_or_else(gone),
            refreshed = self.refresh() => refreshed,
        }
    }

    async fn refresh(&self) -> Result<(), Error> {
        let (answer, shown) = tokio::sync::oneshot::channel();
        self.send(writer::Message::Refresh(Some(answer)))?;
        shown.await.map_err(|_| gone())?
    }

    /// Runs `body` as one transaction and returns what it returned once that is durable.
    ///
    /// `body` sees the newest state and its own writes. When it returns an error nothing of it remains. It runs on the writer
    /// thread: it computes, it does not wait. It may run again if the engine refused the commit, so it must not consume what it
    /// captured. A caller that goes away does not stop it.
    pub async fn transact<T, E>(&self, body: impl FnMut(&mut Tx) -> Result<T, E> + Send + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let (answer, done) = tokio::sync::oneshot::channel();
        self.send(writer::Message::Job(job::job(body, answer)))?;
        done.await.unwrap_or_else(|_| Err(gone().into()))
    }

    /// Changes from now on. See [`Watch`].
    pub fn watch(&self) -> Watch {
        Watch::new(self.clone())
    }

    /// Finishes what was sent before, closes the engine and returns when that is done. Other handles then get refusals; their views
    /// stay readable.
    pub async fn stop(&self) {
        let (answer, stopped) = tokio::sync::oneshot::channel();
        if self.send(writer::Message::Stop(answer)).is_ok() {
            // An error means that it stopped for another reason.
            let _ = stopped.await;
        }
    }

    fn send(&self, message: writer::Message) -> Result<(), Error> {
        self.shared.writer.send(&self.shared, message).map_err(|_| gone())
    }
}

fn gone() -> Error {
    Error::unavailable("the store has stopped")
}
