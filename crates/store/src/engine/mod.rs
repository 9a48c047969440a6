//! What keeps the documents: a handful of operations, so that another engine touches nothing outside this folder.

pub mod postgres;
pub mod sqlite;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use unkai_model::Error;

use crate::Revision;

/// One document as stored. `body` is JSON; none marks a deletion.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredRow {
    pub kind: Cow<'static, str>,
    pub id: Arc<str>,
    pub revision: Revision,
    pub body: Option<String>,
}

/// What others wrote, and up to which revision.
#[derive(Debug, Default)]
pub struct Rows {
    pub revision: Revision,
    pub rows: Vec<StoredRow>,
}

/// What happened in the engine since a revision.
#[derive(Debug)]
pub enum News {
    Nothing,
    Since(Rows),
    /// More than the engine can tell, or the engine's history is another one: load again.
    Reload,
}

/// Writes that become durable together.
#[derive(Debug)]
pub struct Batch {
    /// The revision of the last transaction in it.
    pub revision: Revision,
    pub rows: Vec<StoredRow>,
}

/// How a commit can fail. Either way the write lock is released.
#[derive(Debug)]
pub enum CommitError {
    /// Nothing of the batch was or will be committed.
    Failed(Error),
    /// The batch may have been committed: [`Engine::resolve`] finds out.
    Unknown(Error),
}

/// Called from one thread at a time, in normal operation the writer's; may block.
pub trait Engine: Send {
    /// True when other controllers may write to the same store.
    fn is_shared(&self) -> bool;

    /// Shows every live document with the revision of its last write, in any order, as of the revision it returns. Between `begin`
    /// to write and `commit`, under the same lock.
    fn load(&mut self, each: &mut dyn FnMut(StoredRow) -> Result<(), Error>) -> Result<Revision, Error>;

    /// What others wrote after `seen`. With `to_write`, takes the write lock and keeps it until `commit` or `abandon`; on an
    /// error there is no lock.
    fn begin(&mut self, seen: Revision, to_write: bool) -> Result<News, Error>;

    /// Makes the batch durable and releases the lock.
    fn commit(&mut self, batch: &Batch) -> Result<(), CommitError>;

    /// Releases the lock, writing nothing.
    fn abandon(&mut self);

    /// After an unknown outcome: was that batch committed? An error means that it still cannot be told. Once this has answered, or
    /// `begin` has succeeded, the answer cannot change any more.
    fn resolve(&mut self) -> Result<bool, Error>;

    /// How long callers whose commit has an unknown outcome are kept waiting for the truth.
    fn patience(&self) -> Duration {
        Duration::from_secs(10)
    }

    /// Begins to watch for what others write. `news` may be called from any thread with a revision that others have reached,
    /// repeatedly and without need. Only shared engines answer.
    fn follow(&mut self, news: Box<dyn Fn(Revision) + Send + Sync>) -> Option<Arc<dyn Remote>> {
        drop(news);
        None
    }
}

/// A second way to a shared engine, which does not wait for the writer's.
pub trait Remote: Send + Sync {
    /// A revision not older than any that was acknowledged to anyone before this call. One question to the engine answers
    /// everybody who waits.
    fn newest(&self) -> oneshot::Receiver<Result<Revision, Error>>;

    /// Says once more that `name` lives; answers how often everybody has said so. Not a document: it is not kept through a failure of the
    /// engine, has no revision, and what counts is whether a number still changes.
    fn beat(&self, name: &str) -> oneshot::Receiver<Result<Vec<(String, u64)>, Error>>;
}

/// The engine that a URL names. Nothing of the URL appears in errors: it may hold a password.
pub fn from_url(url: &str) -> Result<Box<dyn Engine>, Error> {
    match url.split_once(':') {
        Some(("sqlite", path)) if !path.is_empty() => Ok(Box::new(sqlite::Sqlite::open(path.as_ref())?)),
        Some(("postgres" | "postgresql", _)) => Ok(Box::new(postgres::Postgres::new(url)?)),
        _ => Err(Error::invalid("the store's URL must be sqlite:PATH or postgres://USER:PASSWORD@HOST/DATABASE")),
    }
}
