//! PostgreSQL: the engine that several controllers share.
//!
//! Whoever writes holds the lock on one row, the revision's, from catching up to commit; so writers take turns and the order of
//! revisions is the order of commits. A deletion leaves a row without a body, so that other controllers learn of it; such rows go when
//! they are old, and a controller that was away for longer reads everything again.
//!
//! The connection may break at any moment. Before commit that means "not committed". At commit it means "unknown", and the engine
//! finds out: with every batch it writes the batch's revision into a row of its own, and reads that row under the lock on a new
//! connection, after it has ended the old one's session. The database is the only place where anything is kept; a controller that dies
//! half way leaves a transaction that the server rolls back.

mod remote;
mod session;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use unkai_model::Error;

use super::{Batch, CommitError, Engine, News, Remote, StoredRow};
use crate::Revision;
use session::{Failure, Session};

/// The channel on which controllers tell each other that there is news.
const CHANNEL: &str = "unkai_store";
/// How long a lost server is looked for before writers hear that it is not available.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Deletions are remembered for this many revisions.
const KEEP_TOMBSTONES: u64 = 1 << 16;

pub struct Postgres {
    config: Config,
    /// Names this engine's row and sessions.
    writer: String,
    /// None only while it is dropped.
    runtime: Option<Runtime>,
    session: Option<Session>,
    /// The last attempt to connect failed: do not wait as long again.
    down: bool,
    doubt: Option<Revision>,
    keep_tombstones: u64,
}

impl Postgres {
    /// Does not connect yet: that happens at the first use.
    pub fn new(url: &str) -> Result<Self, Error> {
        let mut config: Config = url.parse().map_err(|e| Error::caused("reading the PostgreSQL URL", e))?;
        if matches!(config.get_ssl_mode(), SslMode::Require) {
            return Err(Error::invalid(
                "the PostgreSQL URL asks for TLS, which this store does not speak; use a Unix socket or a private network",
            ));
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_secs(5));
        }
        // A server that is gone without a word must not hold the writer for hours.
        config.keepalives_idle(Duration::from_secs(5)).keepalives_interval(Duration::from_secs(2)).keepalives_retries(3);
        config.tcp_user_timeout(Duration::from_secs(10));
        let writer = format!("unkai-{}", uuid::Uuid::new_v4().simple());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Error::caused("starting the PostgreSQL engine", e))?;
        Ok(Postgres { config, writer, runtime: Some(runtime), session: None, down: false, doubt: None, keep_tombstones: KEEP_TOMBSTONES })
    }

    /// Remembers deletions for this many revisions.
    pub fn keep_tombstones(mut self, revisions: u64) -> Self {
        self.keep_tombstones = revisions;
        self
    }

    /// Makes sure that there is a session, and waits for the server a while if it was there before.
    fn connect(&mut self) -> Result<(), Error> {
        if self.session.as_ref().is_some_and(|session| !session.is_closed()) {
            return Ok(());
        }
        self.session = None;
        let deadline = Instant::now() + CONNECT_PATIENCE;
        let mut pause = FIRST_PAUSE;
        loop {
            match run(&self.runtime, Session::open(&self.config, &self.writer)) {
                Ok(session) => {
                    self.session = Some(session);
                    self.down = false;
                    return Ok(());
                }
                Err(e) if self.down || !e.is_passing() || Instant::now() + pause > deadline => {
                    self.down = true;
                    return Err(e.into_error(&format!("connecting to {}", place(&self.config))));
                }
                Err(_) => std::thread::sleep(pause),
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn try_begin(&mut self, seen: Revision, to_write: bool) -> Result<News, Failure> {
        let Some(session) = &mut self.session else { return Err(Failure::closed()) };
        run(&self.runtime, session.begin(seen, to_write))
    }

    /// Forgets a session that cannot be trusted any more.
    fn drop_session(&mut self) {
        self.session = None;
    }
}

/// Runs to the end on the engine's own runtime; from a thread of another runtime too, as `check` and `migrate` may be called there.
fn run<T: Send>(runtime: &Option<Runtime>, work: impl Future<Output = T> + Send) -> T {
    let runtime = runtime.as_ref().expect("the runtime is there until the engine is dropped");
    if tokio::runtime::Handle::try_current().is_err() {
        return runtime.block_on(work);
    }
    std::thread::scope(|scope| match scope.spawn(|| runtime.block_on(work)).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// Where the database is, without secrets.
fn place(config: &Config) -> String {
    let hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .map(|host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        })
        .collect();
    format!("PostgreSQL database `{}` on `{}`", config.get_dbname().unwrap_or("(default)"), hosts.join(","))
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.session = None;
        if let Some(runtime) = self.runtime.take() {
            // Dropping it in the ordinary way would panic on a thread of another runtime.
            runtime.shutdown_background();
        }
    }
}

impl Engine for Postgres {
    fn is_shared(&self) -> bool {
        true
    }

    fn load(&mut self, each: &mut dyn FnMut(StoredRow) -> Result<(), Error>) -> Result<Revision, Error> {
        self.connect()?;
        let Some(session) = &mut self.session else { return Err(Failure::closed().into_error("reading the store")) };
        // The rows pass through a channel, because the caller's closure may not leave this thread.
        let (sender, receiver) = std::sync::mpsc::sync_channel(1024);
        let runtime = &self.runtime;
        let result = std::thread::scope(|scope| {
            let reader = scope.spawn(move || run(runtime, session.load(sender)));
            let taken = receiver.iter().try_for_each(each);
            drop(receiver);
            let read = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            taken.and(read.map_err(|e| e.into_error("reading the store")))
        });
        if result.is_err() {
            self.drop_session();
        }
        result
    }

    fn begin(&mut self, seen: Revision, to_write: bool) -> Result<News, Error> {
        let deadline = Instant::now() + CONNECT_PATIENCE;
        let news = loop {
            self.connect()?;
            match self.try_begin(seen, to_write) {
                Ok(news) => break news,
                // Nothing was done on it, so it is safe to do it again on a new connection.
                Err(e) if e.is_passing() && Instant::now() < deadline => self.drop_session(),
                Err(e) => {
                    self.drop_session();
                    return Err(e.into_error(if to_write { "taking the store's write lock" } else { "reading what is new in the store" }));
                }
            }
        };
        if to_write {
            // Whoever has the lock sees how every earlier batch ended.
            self.doubt = None;
        }
        Ok(news)
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), CommitError> {
        let keep = self.keep_tombstones;
        let Some(session) = &mut self.session else {
            return Err(CommitError::Failed(Failure::closed().into_error("committing to the store")));
        };
        match run(&self.runtime, session.commit(batch, keep)) {
            Ok(()) => Ok(()),
            Err(e) => {
                self.drop_session();
                let certain = e.is_refusal();
                let error = e.into_error("committing to the store");
                if certain {
                    return Err(CommitError::Failed(error));
                }
                self.doubt = Some(batch.revision);
                Err(CommitError::Unknown(error))
            }
        }
    }

    fn abandon(&mut self) {
        if let Some(session) = &mut self.session
            && run(&self.runtime, session.abandon()).is_err()
        {
            // Without a connection the server rolls back by itself.
            self.drop_session();
        }
    }

    fn resolve(&mut self) -> Result<bool, Error> {
        let Some(doubted) = self.doubt else { return Ok(false) };
        self.connect()?;
        let Some(session) = &mut self.session else { return Err(Failure::closed().into_error("finding out how a commit ended")) };
        let last = run(&self.runtime, session.last_batch()).map_err(|e| {
            self.session = None;
            e.into_error("finding out how a commit ended")
        })?;
        self.doubt = None;
        Ok(last == Some(doubted))
    }

    fn follow(&mut self, news: Box<dyn Fn(Revision) + Send + Sync>) -> Option<Arc<dyn Remote>> {
        match remote::start(self.config.clone(), self.writer.clone(), news) {
            Ok(remote) => Some(Arc::new(remote)),
            Err(e) => {
                tracing::error!(error = %e, "cannot follow what other controllers write; every read asks the writer instead");
                None
            }
        }
    }
}
