//! The second connection: hears of what others commit, and answers "which revision is the newest?" without waiting for the writer's.
//!
//! Notifications are a hint. When one is lost, the connection breaks or nothing is heard for a while, it asks. It ends when its handle
//! is dropped.

use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, Statement};
use unkai_model::Error;

use super::CHANNEL;
use crate::Revision;
use crate::engine::Remote;

/// A question that takes longer than this has lost its connection.
const QUESTION_PATIENCE: Duration = Duration::from_secs(5);
/// How often it asks without having heard anything.
const PERIOD: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Who lives, outside of documents: lost with the server's memory, which costs nothing.
const LEASES: &str = "
    CREATE UNLOGGED TABLE IF NOT EXISTS leases (
        name text COLLATE \"C\" PRIMARY KEY, beats bigint NOT NULL, seen timestamptz NOT NULL DEFAULT now())";
const BEAT: &str = "
    WITH mine AS (INSERT INTO leases VALUES ($1, 1) ON CONFLICT (name) DO UPDATE SET beats = leases.beats + 1, seen = now() RETURNING name, beats),
         old AS (DELETE FROM leases WHERE seen < now() - interval '1 day')
    SELECT name, beats FROM leases WHERE name <> $1 UNION ALL SELECT name, beats FROM mine";

type Answer<T> = oneshot::Sender<Result<T, Error>>;
type Leases = Vec<(String, u64)>;

enum Question {
    Newest(Answer<Revision>),
    Beat(String, Answer<Leases>),
}

impl Question {
    fn refuse(self, why: &str) {
        let error = Error::unavailable(format!("the store is not available: {why}"));
        // Whoever stopped waiting does not want the answer.
        match self {
            Question::Newest(answer) => drop(answer.send(Err(error))),
            Question::Beat(_, answer) => drop(answer.send(Err(error))),
        }
    }
}

type News = Box<dyn Fn(Revision) + Send + Sync>;

pub(super) struct Handle {
    questions: UnboundedSender<Question>,
}

impl Remote for Handle {
    fn newest(&self) -> oneshot::Receiver<Result<Revision, Error>> {
        let (answer, asked) = oneshot::channel();
        // If the thread is gone the receiver says so.
        let _ = self.questions.send(Question::Newest(answer));
        asked
    }

    fn beat(&self, name: &str) -> oneshot::Receiver<Result<Leases, Error>> {
        let (answer, asked) = oneshot::channel();
        let _ = self.questions.send(Question::Beat(name.to_owned(), answer));
        asked
    }
}

/// Starts a thread with a runtime of its own, so that a busy or blocked runtime elsewhere does not delay it.
pub(super) fn start(mut config: Config, writer: String, news: News) -> Result<Handle, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::caused("starting to follow PostgreSQL", e))?;
    config.application_name(format!("{writer} reader"));
    let (questions, inbox) = unbounded_channel();
    let follower = Follower { config, writer, news, inbox, waiting: Vec::new() };
    std::thread::Builder::new()
        .name("store-reader".into())
        .spawn(move || runtime.block_on(follower.run()))
        .map_err(|e| Error::caused("starting the thread that follows PostgreSQL", e))?;
    Ok(Handle { questions })
}

struct Follower {
    config: Config,
    writer: String,
    news: News,
    inbox: UnboundedReceiver<Question>,
    /// Questions that came before the next one to the server is sent.
    waiting: Vec<Question>,
}

/// Why one connection ended.
enum End {
    HandleDropped,
    Broken(String),
}

struct Connection {
    client: Client,
    newest: Statement,
    beat: Statement,
    notifications: UnboundedReceiver<(String, Revision)>,
}

impl Follower {
    async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let end = match connect(&self.config).await {
                Ok(connection) => {
                    pause = FIRST_PAUSE;
                    self.follow(connection).await
                }
                Err(e) => {
                    let text = crate::writer::chain(&e);
                    self.refuse(&text);
                    End::Broken(text)
                }
            };
            match end {
                End::HandleDropped => return,
                End::Broken(why) => tracing::warn!(why, "the connection that follows PostgreSQL is lost; connecting again"),
            }
            if self.rest(pause).await {
                return;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Waits, but answers a question by trying at once. True when the handle is gone.
    async fn rest(&mut self, pause: Duration) -> bool {
        if !self.waiting.is_empty() {
            return false;
        }
        tokio::select! {
            () = sleep(pause) => false,
            question = self.inbox.recv() => match question {
                None => true,
                Some(question) => {
                    self.waiting.push(question);
                    false
                }
            },
        }
    }

    async fn follow(&mut self, mut connection: Connection) -> End {
        // Whatever happened while there was no connection was not heard; the first tick comes at once.
        let mut period = interval(PERIOD);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.waiting.is_empty() {
                tokio::select! {
                    question = self.inbox.recv() => match question {
                        None => return End::HandleDropped,
                        Some(question) => self.waiting.push(question),
                    },
                    heard = connection.notifications.recv() => {
                        let Some((writer, revision)) = heard else { return End::Broken("the server closed it".into()) };
                        if writer != self.writer {
                            (self.news)(revision);
                        }
                        continue;
                    }
                    _ = period.tick() => {}
                }
            }
            if let Err(why) = self.ask(&connection).await {
                return End::Broken(why);
            }
        }
    }

    /// One question to the server for all who wait. On an error they go on waiting for the next connection.
    async fn ask(&mut self, connection: &Connection) -> Result<(), String> {
        while let Ok(question) = self.inbox.try_recv() {
            self.waiting.push(question);
        }
        let row = match timeout(QUESTION_PATIENCE, connection.client.query_one(&connection.newest, &[])).await {
            Err(_) => return Err("it does not answer".into()),
            Ok(answer) => answer.map_err(|e| crate::writer::chain(&e))?,
        };
        let newest = row.get::<_, i64>(0) as u64;
        let (beats, questions) = self.waiting.drain(..).partition(|question| matches!(question, Question::Beat(..)));
        self.waiting = beats;
        for question in questions {
            if let Question::Newest(answer) = question {
                let _ = answer.send(Ok(newest));
            }
        }
        (self.news)(newest);
        while let Some(Question::Beat(name, _)) = self.waiting.first() {
            let rows = match timeout(QUESTION_PATIENCE, connection.client.query(&connection.beat, &[name])).await {
                Err(_) => return Err("it does not answer".into()),
                Ok(answer) => answer.map_err(|e| crate::writer::chain(&e))?,
            };
            if let Question::Beat(_, answer) = self.waiting.remove(0) {
                let leases = rows.iter().map(|row| (row.get(0), row.get::<_, i64>(1) as u64)).collect();
                let _ = answer.send(Ok(leases));
            }
        }
        Ok(())
    }

    fn refuse(&mut self, why: &str) {
        while let Ok(question) = self.inbox.try_recv() {
            self.waiting.push(question);
        }
        for question in self.waiting.drain(..) {
            question.refuse(why);
        }
    }
}

async fn connect(config: &Config) -> Result<Connection, tokio_postgres::Error> {
    let (client, mut connection) = config.connect(NoTls).await?;
    let (heard, notifications) = unbounded_channel();
    tokio::spawn(async move {
        // Ends with the connection, and its end of the channel tells so.
        while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notification(note) = message
                && let Some((writer, revision)) = parse(note.payload())
                && heard.send((writer.into(), revision)).is_err()
            {
                return;
            }
        }
    });
    client.batch_execute(&format!("LISTEN {CHANNEL}")).await?;
    let newest = client.prepare("SELECT value FROM facts WHERE name = 'revision'").await?;
    // Two controllers may do this at once, and CREATE IF NOT EXISTS does not like that.
    client.batch_execute(&format!("BEGIN; SELECT pg_advisory_xact_lock(8026346001); {LEASES}; COMMIT")).await?;
    let beat = client.prepare(BEAT).await?;
    Ok(Connection { client, newest, beat, notifications })
}

fn parse(payload: &str) -> Option<(&str, Revision)> {
    let (writer, revision) = payload.split_once(' ')?;
    Some((writer, revision.parse().ok()?))
}
