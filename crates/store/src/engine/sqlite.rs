//! SQLite: the embedded engine. One file, one connection, WAL, `synchronous=FULL`: a commit is on the disk when it returns.
//!
//! The file belongs to one process at a time and to its owner alone: it holds secrets. When a commit fails, the disk may or may not
//! have got it, so the engine reads the file again before it says anything.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, params};
use unkai_model::Error;

use super::{Batch, CommitError, Engine, News, StoredRow};
use crate::Revision;

/// The layout written here. A newer layout is refused, an older one is converted at start-up.
const FORMAT: i64 = 1;

type Cause = Box<dyn std::error::Error + Send + Sync>;

pub struct Sqlite {
    /// None after a failed attempt to open it again.
    connection: Option<Connection>,
    /// None for a store in memory.
    path: Option<PathBuf>,
    /// The last revision that this process knows to be committed.
    revision: Revision,
    /// The revision of a commit that failed in a way that does not say how it ended.
    doubt: Option<Revision>,
}

impl Sqlite {
    /// Opens or creates the file. Refuses a file that another process has open.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let connection = connect(path)?;
        let revision = stored_revision(&connection).map_err(|e| Error::caused(opening(path), e))?;
        Ok(Sqlite { connection: Some(connection), path: Some(path.into()), revision, doubt: None })
    }

    pub fn in_memory() -> Result<Self, Error> {
        let connection = Connection::open_in_memory().map_err(|e| Error::caused("opening an in-memory store", e))?;
        prepare(&connection).map_err(|e| Error::caused("preparing an in-memory store", e))?;
        Ok(Sqlite { connection: Some(connection), path: None, revision: 0, doubt: None })
    }

    fn connection(&mut self) -> Result<&mut Connection, Error> {
        self.connection.as_mut().ok_or_else(|| Error::unavailable("the store's file could not be opened again after a failed write"))
    }

    /// What is in the file now, as a process that starts now would find it.
    fn reopen(&mut self) -> Result<Revision, Error> {
        let Some(path) = self.path.clone() else { return Ok(self.revision) };
        self.connection = None;
        let connection = connect(&path)?;
        let revision = stored_revision(&connection).map_err(|e| Error::caused(opening(&path), e))?;
        self.connection = Some(connection);
        Ok(revision)
    }
}

fn opening(path: &Path) -> String {
    format!("opening the store `{}`", path.display())
}

fn connect(path: &Path) -> Result<Connection, Error> {
    let failed = |e: Cause| match e.downcast_ref::<rusqlite::Error>().and_then(|e| e.sqlite_error_code()) {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Error::unavailable(format!("{}: the store is in use by another process", opening(path)))
        }
        _ => Error::caused(opening(path), e),
    };
    // SQLite gives its other files the mode of this one.
    OpenOptions::new().create(true).append(true).mode(0o600).open(path).map_err(|e| failed(e.into()))?;
    let connection = Connection::open(path).map_err(|e| failed(e.into()))?;
    prepare(&connection).map_err(failed)?;
    Ok(connection)
}

fn prepare(connection: &Connection) -> Result<(), Cause> {
    // A process that is being replaced may need a moment to go.
    connection.busy_timeout(Duration::from_secs(2))?;
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
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
    match format {
        FORMAT => Ok(()),
        other => Err(format!("it has format {other}; this program knows format {FORMAT}").into()),
    }
}

fn stored_revision(connection: &Connection) -> rusqlite::Result<Revision> {
    let revision: i64 = connection.query_row("SELECT value FROM facts WHERE name = 'revision'", [], |row| row.get(0))?;
    Ok(revision as u64)
}

/// Writes all but the commit itself.
fn write(tx: &rusqlite::Transaction, batch: &Batch) -> rusqlite::Result<()> {
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
    Ok(())
}

fn failed(e: rusqlite::Error) -> CommitError {
    CommitError::Failed(Error::caused("writing to the store", e))
}

impl Engine for Sqlite {
    fn is_shared(&self) -> bool {
        false
    }

    fn load(&mut self, each: &mut dyn FnMut(StoredRow) -> Result<(), Error>) -> Result<Revision, Error> {
        let reading = |e| Error::caused("reading the store", e);
        let connection = self.connection()?;
        let revision = stored_revision(connection).map_err(reading)?;
        let mut statement = connection.prepare("SELECT kind, id, revision, body FROM documents").map_err(reading)?;
        let mut rows = statement.query([]).map_err(reading)?;
        while let Some(row) = rows.next().map_err(reading)? {
            let decoded = || -> rusqlite::Result<StoredRow> {
                Ok(StoredRow {
                    kind: row.get::<_, String>(0)?.into(),
                    id: Arc::from(row.get_ref(1)?.as_str()?),
                    revision: row.get::<_, i64>(2)? as u64,
                    body: Some(row.get(3)?),
                })
            };
            each(decoded().map_err(reading)?)?;
        }
        drop(rows);
        drop(statement);
        self.revision = revision;
        Ok(revision)
    }

    fn begin(&mut self, seen: Revision, _: bool) -> Result<News, Error> {
        if self.doubt.is_some() {
            self.resolve()?;
        }
        self.connection()?;
        // They differ only when an unknown outcome was found out after its callers had been told that it is unknown.
        Ok(if seen == self.revision { News::Nothing } else { News::Reload })
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), CommitError> {
        let connection = self.connection().map_err(CommitError::Failed)?;
        let tx = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(failed)?;
        // Pages that spill into the log before the commit are not valid without it, so failure here is certain.
        write(&tx, batch).map_err(failed)?;
        match tx.commit() {
            Ok(()) => {
                self.revision = batch.revision;
                Ok(())
            }
            Err(e) => {
                self.doubt = Some(batch.revision);
                Err(CommitError::Unknown(Error::caused("committing to the store", e)))
            }
        }
    }

    fn abandon(&mut self) {}

    fn resolve(&mut self) -> Result<bool, Error> {
        let Some(doubted) = self.doubt else { return Ok(false) };
        let revision = self.reopen()?;
        if revision == doubted {
            // What a failed sync left in the log may be in memory only. This writes it to the main file and syncs that.
            let checkpointed: i64 = self
                .connection()?
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
                .map_err(|e| Error::caused("making the last commit durable", e))?;
            if checkpointed != 0 {
                return Err(Error::unavailable("the last commit could not be made durable"));
            }
        }
        self.revision = revision;
        self.doubt = None;
        Ok(revision == doubted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(revision: Revision) -> Batch {
        Batch { revision, rows: vec![StoredRow { kind: "k".into(), id: "i".into(), revision, body: Some("{}".into()) }] }
    }

    fn in_doubt(committed: bool) -> (tempfile::TempDir, Sqlite) {
        let dir = tempfile::tempdir().unwrap();
        let mut engine = Sqlite::open(&dir.path().join("store.db")).unwrap();
        engine.commit(&batch(1)).unwrap();
        if committed {
            engine.commit(&batch(2)).unwrap();
        }
        // As after a commit that failed and does not know how far it came.
        engine.revision = 1;
        engine.doubt = Some(2);
        (dir, engine)
    }

    #[test]
    fn the_file_says_how_a_commit_ended() {
        for committed in [true, false] {
            let (_dir, mut engine) = in_doubt(committed);
            assert_eq!(engine.resolve().unwrap(), committed);
            assert_eq!((engine.doubt, engine.revision), (None, if committed { 2 } else { 1 }));
            engine.commit(&batch(3)).unwrap();
        }
    }

    #[test]
    fn whoever_begins_in_doubt_hears_what_was_committed() {
        let (_dir, mut engine) = in_doubt(true);
        assert!(matches!(engine.begin(1, true).unwrap(), News::Reload));
        assert!(matches!(engine.begin(2, true).unwrap(), News::Nothing));
        let (_dir, mut engine) = in_doubt(false);
        assert!(matches!(engine.begin(1, true).unwrap(), News::Nothing));
    }

    #[test]
    fn doubt_outlasts_a_file_that_cannot_be_opened() {
        let (dir, mut engine) = in_doubt(true);
        let (path, away) = (dir.path().join("store.db"), dir.path().join("away"));
        engine.connection = None;
        std::fs::rename(&path, &away).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(engine.resolve().is_err());
        assert!(engine.begin(1, true).is_err());
        std::fs::remove_dir(&path).unwrap();
        std::fs::rename(&away, &path).unwrap();
        assert!(engine.resolve().unwrap());
    }

    #[test]
    fn a_newer_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.db");
        let engine = Sqlite::open(&path).unwrap();
        engine.connection.as_ref().unwrap().execute("UPDATE facts SET value = 2 WHERE name = 'format'", []).unwrap();
        drop(engine);
        let refused = Sqlite::open(&path).err().unwrap();
        let cause = std::error::Error::source(&refused).unwrap().to_string();
        assert!(cause.contains("format 2"), "{cause}");
    }
}
