//! What keeps the documents: about five operations, so that another engine touches nothing outside this folder.

pub mod sqlite;

use std::borrow::Cow;
use std::sync::Arc;

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

/// The whole store, or what changed in it.
#[derive(Debug, Default)]
pub struct Rows {
    pub revision: Revision,
    pub rows: Vec<StoredRow>,
}

/// Writes that become durable together.
#[derive(Debug)]
pub struct Batch {
    /// The revision of the last transaction in it.
    pub revision: Revision,
    pub rows: Vec<StoredRow>,
}

/// How a commit can fail.
#[derive(Debug)]
pub enum CommitError {
    /// Nothing of the batch was or will be committed.
    Failed(Error),
    /// The batch may have been committed: the engine finds out at the next `begin`.
    Unknown(Error),
}

/// Called from the writer thread only; may block.
pub trait Engine: Send {
    /// True when other controllers write to the same store.
    fn is_shared(&self) -> bool;

    /// Every live document, each with the revision of its last write.
    fn load(&mut self) -> Result<Rows, Error>;

    /// What others wrote after `seen`. With `to_write`, takes the write lock and keeps it until `commit` or `abandon`.
    fn begin(&mut self, seen: Revision, to_write: bool) -> Result<Rows, Error>;

    /// Makes the batch durable and releases the lock.
    fn commit(&mut self, batch: &Batch) -> Result<(), CommitError>;

    /// Releases the lock, writing nothing.
    fn abandon(&mut self);
}
