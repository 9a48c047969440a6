//! SQLite: the embedded engine. One file, one connection, WAL, `synchronous=FULL`: a commit is on the disk when it returns.

use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, params};
use unkai_model::Error;

use super::{Batch, CommitError, Engine, Rows, StoredRow};
use crate::Revision;

/// The layout written here. A newer layout is refused, an older one is converted at start-up.
const FORMAT: i64 = 1;

pub struct Sqlite {
    connection: Connection,
}

impl Sqlite {
    /// Opens or creates the file. Refuses a file that another process has open for writing.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let context = || format!("opening the store `{}`", path.display());
        let connection = Connection::open(path).map_err(|e| Error::caused(context(), e))?;
        Self::prepare(connection).map_err(|e| Error::caused(context(), e))
    }

    pub fn in_memory() -> Result<Self, Error> {
        let connection = Connection::open_in_memory().map_err(|e| Error::caused("opening an in-memory store", e))?;
        Self::prepare(connection).map_err(|e| Error::caused("preparing an in-memory store", e))
    }

    fn prepare(connection: Connection) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(
            "BEGIN IMMEDIATE;
             CREATE TABLE IF NOT EXISTS documents (
                 kind TEXT NOT NULL, id TEXT NOT NULL, revision INTEGER NOT NULL, body TEXT NOT NULL,
                 PRIMARY KEY (kind, id)) WITHOUT ROWID;
             CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
             INSERT OR IGNORE INTO facts VALUES ('format', 1), ('revision', 0);
             COMMIT;",
        )?;
        let format: i64 = connection.query_row("SELECT value FROM facts WHERE name = 'format'", [], |row| row.get(0))?;
        if format != FORMAT {
            return Err(format!("it has format {format}; this program knows format {FORMAT}").into());
        }
        Ok(Sqlite { connection })
    }

    fn write(&mut self, batch: &Batch) -> rusqlite::Result<()> {
        let tx = self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        {
            let mut upsert = tx.prepare_cached(
                "INSERT INTO documents (kind, id, revision, body) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (kind, id) DO UPDATE SET revision = ?3, body = ?4",
            )?;
            let mut delete = tx.prepare_cached("DELETE FROM documents WHERE kind = ?1 AND id = ?2")?;
            for row in &batch.rows {
                match &row.body {
                    Some(body) => upsert.execute(params![row.kind, &*row.id, row.revision as i64, body])?,
                    None => delete.execute(params![row.kind, &*row.id])?,
                };
            }
            tx.prepare_cached("UPDATE facts SET value = ?1 WHERE name = 'revision'")?.execute([batch.revision as i64])?;
        }
        tx.commit()
    }
}

impl Engine for Sqlite {
    fn is_shared(&self) -> bool {
        false
    }

    fn load(&mut self) -> Result<Rows, Error> {
        let read = || -> rusqlite::Result<Rows> {
            let revision: i64 = self.connection.query_row("SELECT value FROM facts WHERE name = 'revision'", [], |row| row.get(0))?;
            let mut statement = self.connection.prepare("SELECT kind, id, revision, body FROM documents ORDER BY revision")?;
            let rows = statement.query_map([], |row| {
                Ok(StoredRow {
                    kind: row.get::<_, String>(0)?.into(),
                    id: Arc::from(row.get::<_, String>(1)?),
                    revision: row.get::<_, i64>(2)? as u64,
                    body: Some(row.get(3)?),
                })
            })?;
            Ok(Rows { revision: revision as u64, rows: rows.collect::<rusqlite::Result<_>>()? })
        };
        read().map_err(|e| Error::caused("reading the store", e))
    }

    fn begin(&mut self, seen: Revision, _: bool) -> Result<Rows, Error> {
        Ok(Rows { revision: seen, rows: Vec::new() })
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), CommitError> {
        // A failed SQLite transaction is rolled back whole, so failure is certain.
        self.write(batch).map_err(|e| CommitError::Failed(Error::caused("committing to the store", e)))
    }

    fn abandon(&mut self) {}
}
