//! One connection: the tables, and the few statements that the engine is made of. After any error the session is thrown away, and with
//! it whatever transaction was open.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use tokio::task::AbortHandle;
use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Row, Statement};
use unkai_model::Error;

use super::CHANNEL;
use crate::Revision;
use crate::engine::{Batch, News, Rows, StoredRow};

const FORMAT: i64 = 1;
/// Bytes of bodies per INSERT.
const LARGEST_INSERT: usize = 8 << 20;
/// Old deletions are removed once in so many revisions.
const PRUNE_EVERY: u64 = 1 << 12;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS documents (
        kind text COLLATE \"C\" NOT NULL, id text COLLATE \"C\" NOT NULL, revision bigint NOT NULL, body text,
        PRIMARY KEY (kind, id));
    CREATE INDEX IF NOT EXISTS documents_revision ON documents (revision);
    CREATE INDEX IF NOT EXISTS documents_deleted ON documents (revision) WHERE body IS NULL;
    CREATE TABLE IF NOT EXISTS facts (name text COLLATE \"C\" PRIMARY KEY, value bigint NOT NULL);
    INSERT INTO facts VALUES ('format', 1), ('revision', 0), ('floor', 0) ON CONFLICT DO NOTHING";

/// Why something did not work.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Sql(#[from] tokio_postgres::Error),
    #[error("{0}")]
    Other(String),
    #[error("there is no connection")]
    Closed,
}

impl Failure {
    pub fn closed() -> Self {
        Failure::Closed
    }

    /// The server refused a statement and is well: what was in the transaction is certainly rolled back.
    pub fn is_refusal(&self) -> bool {
        let Failure::Sql(e) = self else { return false };
        e.as_db_error().is_some_and(|e| e.parsed_severity() == Some(Severity::Error)) && !e.is_closed()
    }

    /// Another attempt on a new connection may help: the server went away, restarts or waits for another controller.
    pub fn is_passing(&self) -> bool {
        match self {
            Failure::Closed => true,
            Failure::Other(_) => false,
            Failure::Sql(e) => match e.code() {
                None => true,
                Some(code) => {
                    let class = &code.code()[..2];
                    matches!(class, "08" | "53" | "57" | "40") || *code == SqlState::LOCK_NOT_AVAILABLE
                }
            },
        }
    }

    pub fn into_error(self, doing: &str) -> Error {
        match self {
            Failure::Sql(e) => Error::caused(doing, e),
            other => Error::internal(format!("{doing}: {other}")),
        }
    }
}

type Done<T> = Result<T, Failure>;

pub(super) struct Session {
    client: Client,
    driver: AbortHandle,
    /// This engine's row in `facts`.
    writer: String,
    /// A transaction that holds the write lock is open.
    locked: bool,
    /// The revision at which old deletions were last removed here.
    pruned: Revision,
    lock: Statement,
    revision: Statement,
    news: Statement,
    upsert: Statement,
    seal: Statement,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Session {
    /// Ends this engine's earlier sessions, so that what they left open is rolled back now and not at some time-out.
    pub async fn open(config: &Config, writer: &str) -> Done<Self> {
        let mut config = config.clone();
        config.application_name(writer);
        let (client, connection) = config.connect(NoTls).await?;
        let driver = tokio::spawn(async move {
            // Its error reaches whoever uses the client.
            let _ = connection.await;
        });
        let driver = driver.abort_handle();
        client
            .execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1 AND pid <> pg_backend_pid()",
                &[&writer],
            )
            .await?;
        prepare(&client).await?;
        Ok(Session {
            lock: client.prepare("SELECT value FROM facts WHERE name = 'revision' FOR UPDATE").await?,
            revision: client.prepare("SELECT value FROM facts WHERE name = 'revision'").await?,
            news: client
                .prepare(
                    "SELECT f.value, d.kind, d.id, d.revision, d.body FROM facts f LEFT JOIN documents d ON d.revision > $1
                     WHERE f.name = 'floor' ORDER BY d.revision",
                )
                .await?,
            upsert: client
                .prepare(
                    "INSERT INTO documents SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[])
                     ON CONFLICT (kind, id) DO UPDATE SET revision = excluded.revision, body = excluded.body",
                )
                .await?,
            seal: client
                .prepare(
                    "WITH head AS (UPDATE facts SET value = $1 WHERE name = 'revision'),
                          mine AS (INSERT INTO facts VALUES ($2, $1) ON CONFLICT (name) DO UPDATE SET value = excluded.value)
                     SELECT pg_notify($3, $4)",
                )
                .await?,
            client,
            driver,
            writer: writer.into(),
            locked: false,
            pruned: 0,
        })
    }

    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// One round trip when there is no news.
    pub async fn begin(&mut self, seen: Revision, to_write: bool) -> Done<News> {
        let (start, ask) = if to_write {
            // Each statement sees what is committed when it starts: the second one when it has the lock.
            ("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", &self.lock)
        } else {
            ("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", &self.revision)
        };
        let (started, row) = tokio::join!(biased; self.client.batch_execute(start), self.client.query_one(ask, &[]));
        started?;
        let revision = number(&row?, 0);
        self.locked = to_write;
        let news = self.news_since(seen, revision).await?;
        if !to_write {
            self.client.batch_execute("COMMIT").await?;
        }
        Ok(news)
    }

    async fn news_since(&self, seen: Revision, revision: Revision) -> Done<News> {
        if revision == seen {
            return Ok(News::Nothing);
        }
        if revision < seen {
            return Ok(News::Reload);
        }
        let rows = self.client.query(&self.news, &[&(seen as i64)]).await?;
        let floor = rows.first().map_or(0, |row| number(row, 0));
        if seen < floor {
            return Ok(News::Reload);
        }
        // The outer join answers one row without a document when there are none.
        let rows = rows.iter().filter(|row| row.get::<_, Option<&str>>(1).is_some()).map(|row| stored(row, 1)).collect();
        Ok(News::Since(Rows { revision, rows }))
    }

    /// Sends every live document, unless the receiver goes away.
    pub async fn load(&mut self, rows: SyncSender<StoredRow>) -> Done<Revision> {
        if !self.locked {
            self.client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        }
        let revision = number(&self.client.query_one(&self.revision, &[]).await?, 0);
        // In portions, so that the client does not hold the whole store as text.
        self.client
            .batch_execute("DECLARE everything NO SCROLL CURSOR FOR SELECT kind, id, revision, body FROM documents WHERE body IS NOT NULL")
            .await?;
        let fetch = self.client.prepare("FETCH 5000 FROM everything").await?;
        loop {
            let portion = self.client.query(&fetch, &[]).await?;
            if portion.is_empty() {
                break;
            }
            if portion.iter().any(|row| rows.send(stored(row, 0)).is_err()) {
                break;
            }
        }
        self.client.batch_execute("CLOSE everything").await?;
        if !self.locked {
            self.client.batch_execute("COMMIT").await?;
        }
        Ok(revision)
    }

    pub async fn commit(&mut self, batch: &Batch, keep_tombstones: u64) -> Done<()> {
        let mut portions = portions(&batch.rows);
        let last = portions.pop().unwrap_or_default();
        for portion in portions {
            self.insert(portion).await?;
        }
        if batch.revision >= self.pruned + PRUNE_EVERY.min(keep_tombstones) {
            self.prune(batch.revision.saturating_sub(keep_tombstones)).await?;
            self.pruned = batch.revision;
        }
        let (revision, news) = (batch.revision as i64, format!("{} {}", self.writer, batch.revision));
        let mine = format!("writer {}", self.writer);
        let seal: [&(dyn ToSql + Sync); 4] = [&revision, &mine, &CHANNEL, &news];
        // Sent together: one round trip. If one fails the server rolls back at COMMIT, and says so only by the failure.
        let (inserted, sealed, committed) = tokio::join!(
            biased;
            self.insert(last),
            self.client.execute(&self.seal, &seal),
            self.client.batch_execute("COMMIT"),
        );
        self.locked = false;
        inserted?;
        sealed?;
        Ok(committed?)
    }

    async fn insert(&self, rows: &[StoredRow]) -> Done<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let kinds: Vec<&str> = rows.iter().map(|row| &*row.kind).collect();
        let ids: Vec<&str> = rows.iter().map(|row| &*row.id).collect();
        let revisions: Vec<i64> = rows.iter().map(|row| row.revision as i64).collect();
        let bodies: Vec<Option<&str>> = rows.iter().map(|row| row.body.as_deref()).collect();
        self.client.execute(&self.upsert, &[&kinds, &ids, &revisions, &bodies]).await?;
        Ok(())
    }

    /// Forgets old deletions, and the batches of writers that are long gone.
    async fn prune(&self, floor: Revision) -> Done<()> {
        let floor = floor as i64;
        self.client.execute("DELETE FROM documents WHERE body IS NULL AND revision <= $1", &[&floor]).await?;
        self.client.execute("DELETE FROM facts WHERE name LIKE 'writer %' AND value <= $1", &[&floor]).await?;
        self.client.execute("UPDATE facts SET value = $1 WHERE name = 'floor' AND value < $1", &[&floor]).await?;
        Ok(())
    }

    pub async fn abandon(&mut self) -> Done<()> {
        if self.locked {
            self.locked = false;
            self.client.batch_execute("ROLLBACK").await?;
        }
        Ok(())
    }

    /// The revision of the last batch that this engine committed. Under the lock: nothing of its making is still under way.
    pub async fn last_batch(&mut self) -> Done<Option<Revision>> {
        self.client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE").await?;
        self.client.query_one(&self.lock, &[]).await?;
        let mine = format!("writer {}", self.writer);
        let row = self.client.query_opt("SELECT value FROM facts WHERE name = $1", &[&mine]).await?;
        self.client.batch_execute("ROLLBACK").await?;
        Ok(row.map(|row| number(&row, 0)))
    }
}

async fn prepare(client: &Client) -> Done<()> {
    let encoding: String = client.query_one("SHOW server_encoding", &[]).await?.get(0);
    if encoding != "UTF8" {
        return Err(Failure::Other(format!("the database has encoding {encoding}; the store needs UTF8")));
    }
    client
        .batch_execute(
            // Durable means durable; no dead peer keeps the lock; and plans that read by index, whatever the planner believes.
            "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';
             SET idle_in_transaction_session_timeout = '10s'; SET lock_timeout = '10s'; SET client_min_messages = warning;
             SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan",
        )
        .await?;
    let there: bool = client.query_one("SELECT to_regclass('facts') IS NOT NULL", &[]).await?.get(0);
    if !there {
        // Two controllers may do this at once, and CREATE IF NOT EXISTS does not like that.
        client.batch_execute(&format!("BEGIN; SELECT pg_advisory_xact_lock(8026346001); {SCHEMA}; COMMIT")).await?;
    }
    let format = number(&client.query_one("SELECT value FROM facts WHERE name = 'format'", &[]).await?, 0) as i64;
    match format {
        FORMAT => Ok(()),
        other => Err(Failure::Other(format!("the store there has format {other}; this program knows format {FORMAT}"))),
    }
}

/// Cuts rows into pieces that one statement can carry; all but the last are full.
fn portions(rows: &[StoredRow]) -> Vec<&[StoredRow]> {
    let (mut pieces, mut start, mut size) = (Vec::new(), 0, 0);
    for (no, row) in rows.iter().enumerate() {
        size += row.body.as_ref().map_or(0, String::len);
        if size >= LARGEST_INSERT {
            pieces.push(&rows[start..=no]);
            (start, size) = (no + 1, 0);
        }
    }
    pieces.push(&rows[start..]);
    pieces
}

fn number(row: &Row, column: usize) -> u64 {
    row.get::<_, i64>(column) as u64
}

fn stored(row: &Row, from: usize) -> StoredRow {
    StoredRow {
        kind: row.get::<_, String>(from).into(),
        id: Arc::from(row.get::<_, &str>(from + 1)),
        revision: number(row, from + 2),
        body: row.get(from + 3),
    }
}
