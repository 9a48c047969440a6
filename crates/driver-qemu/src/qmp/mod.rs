//! A QMP client: commands matched to replies by id, events broadcast, file descriptors passed with a command.
//!
//! One connection is two tasks, a reader and a writer; [`Qmp`] is a cheap handle to them. When the connection ends, for whatever
//! reason, every waiting and every later command fails with [`Error::Disconnected`]; connecting again is the owner's business.

pub mod codec;

use crate::error::{Error, Result};
pub use codec::QmpEvent;
use codec::{Fault, Lines, Message};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde_json::Value;
use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::timeout;

/// QEMU answers in microseconds; this long means its main loop is stuck.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
const EVENT_BACKLOG: usize = 256;

type Reply = std::result::Result<Value, Fault>;

/// Commands waiting for a reply, or why there will be none.
enum Waiting {
    Open(HashMap<u64, oneshot::Sender<Reply>>),
    Closed(String),
}

struct Outgoing {
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
}

struct Inner {
    requests: mpsc::Sender<Outgoing>,
    events: broadcast::Sender<QmpEvent>,
    waiting: Mutex<Waiting>,
    next_id: AtomicU64,
    version: (u64, u64, u64),
}

#[derive(Clone)]
pub struct Qmp {
    inner: Arc<Inner>,
}

impl Qmp {
    /// Connects and negotiates. Waits for the greeting as long as `patience`: a QEMU that is still starting accepts late.
    pub async fn connect(socket: &Path, patience: Duration) -> Result<Qmp> {
        timeout(patience, Self::negotiate(socket))
            .await
            .map_err(|_| Error::Timeout { command: "QMP greeting".to_owned(), within: patience })?
    }

    async fn negotiate(socket: &Path) -> Result<Qmp> {
        let stream = UnixStream::connect(socket).await.map_err(Error::io("connect to QMP socket", socket))?;
        let (read, write) = stream.into_split();
        let mut reader = Reader { read, lines: Lines::default() };
        let version = loop {
            match reader.next().await? {
                Message::Greeting { version } => break version,
                _ => continue,
            }
        };
        let (requests, queue) = mpsc::channel(64);
        let inner = Arc::new(Inner {
            requests,
            events: broadcast::channel(EVENT_BACKLOG).0,
            waiting: Mutex::new(Waiting::Open(HashMap::new())),
            next_id: AtomicU64::new(1),
            version,
        });
        // Neither task keeps the connection alive by itself: when the last handle goes, the queue ends, the writer shuts the
        // socket down and the reader sees its end.
        tokio::spawn(write_all(write, queue));
        tokio::spawn(read_all(reader, Arc::downgrade(&inner)));
        let qmp = Qmp { inner };
        qmp.run("qmp_capabilities").await?;
        Ok(qmp)
    }

    /// QEMU's version from the greeting.
    pub fn version(&self) -> (u64, u64, u64) {
        self.inner.version
    }

    pub fn events(&self) -> broadcast::Receiver<QmpEvent> {
        self.inner.events.subscribe()
    }

    pub fn is_closed(&self) -> bool {
        matches!(*self.waiting(), Waiting::Closed(_))
    }

    pub async fn run(&self, command: &str) -> Result<Value> {
        self.send(command, None, Vec::new(), COMMAND_TIMEOUT).await
    }

    pub async fn execute(&self, command: &str, arguments: Value) -> Result<Value> {
        self.send(command, Some(arguments), Vec::new(), COMMAND_TIMEOUT).await
    }

    /// Like [`Qmp::execute`], with a file descriptor on the way (`getfd`, `add-fd`).
    pub async fn execute_with_fd(&self, command: &str, arguments: Value, fd: OwnedFd) -> Result<Value> {
        self.send(command, Some(arguments), vec![fd], COMMAND_TIMEOUT).await
    }

    async fn send(&self, command: &str, arguments: Option<Value>, fds: Vec<OwnedFd>, within: Duration) -> Result<Value> {
        let id = self.inner.next_id.fetch_add(1, Ordering::Relaxed);
        let (tell, answer) = oneshot::channel();
        match &mut *self.waiting() {
            Waiting::Open(waiting) => waiting.insert(id, tell),
            Waiting::Closed(why) => return Err(Error::Disconnected(why.clone())),
        };
        let bytes = codec::encode(id, command, arguments.as_ref());
        let exchange = async {
            self.inner.requests.send(Outgoing { bytes, fds }).await.map_err(|_| self.gone())?;
            answer.await.map_err(|_| self.gone())
        };
        match timeout(within, exchange).await {
            Ok(Ok(Ok(value))) => Ok(value),
            Ok(Ok(Err(fault))) => Err(Error::Refused { command: command.to_owned(), class: fault.class, text: fault.text }),
            Ok(Err(gone)) => Err(gone),
            Err(_) => {
                if let Waiting::Open(waiting) = &mut *self.waiting() {
                    waiting.remove(&id);
                }
                Err(Error::Timeout { command: command.to_owned(), within })
            }
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.inner.waiting.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn gone(&self) -> Error {
        match &*self.waiting() {
            Waiting::Closed(why) => Error::Disconnected(why.clone()),
            Waiting::Open(_) => Error::Disconnected("the connection is closing".to_owned()),
        }
    }
}

struct Reader {
    read: OwnedReadHalf,
    lines: Lines,
}

impl Reader {
    async fn next(&mut self) -> Result<Message> {
        loop {
            if let Some(line) = self.lines.next_line().map_err(|e| Error::Disconnected(e.to_string()))? {
                return codec::parse(&line).map_err(|e| Error::Disconnected(e.to_string()));
            }
            let mut chunk = [0u8; 16 * 1024];
            match self.read.read(&mut chunk).await {
                Ok(0) => return Err(Error::Disconnected("QEMU closed it".to_owned())),
                Ok(n) => self.lines.push(&chunk[..n]),
                Err(e) => return Err(Error::Disconnected(e.to_string())),
            }
        }
    }
}

async fn read_all(mut reader: Reader, inner: std::sync::Weak<Inner>) {
    let why = loop {
        let message = match reader.next().await {
            Ok(message) => message,
            Err(e) => break e.to_string(),
        };
        let Some(inner) = inner.upgrade() else { return };
        match message {
            Message::Reply { id, result } => {
                let waiter = match &mut *inner.waiting.lock().unwrap_or_else(|p| p.into_inner()) {
                    Waiting::Open(waiting) => waiting.remove(&id),
                    Waiting::Closed(_) => None,
                };
                if let Some(waiter) = waiter {
                    let _ = waiter.send(result);
                }
            }
            // No receiver is fine: events are also state, which whoever connects later asks for.
            Message::Event(event) => drop(inner.events.send(event)),
            Message::Greeting { .. } | Message::Other => {}
        }
    };
    if let Some(inner) = inner.upgrade() {
        *inner.waiting.lock().unwrap_or_else(|p| p.into_inner()) = Waiting::Closed(why);
        // Wakes those who wait for events only; they find the connection closed.
        let _ = inner.events.send(QmpEvent { name: CLOSED.to_owned(), data: Value::Null });
    }
}

/// Name of the event this client adds itself when the connection ends. QEMU's own names are upper case.
pub const CLOSED: &str = "closed";

async fn write_all(write: OwnedWriteHalf, mut queue: mpsc::Receiver<Outgoing>) {
    while let Some(outgoing) = queue.recv().await {
        if let Err(error) = write_one(&write, &outgoing).await {
            tracing::debug!(%error, "QMP write");
            return;
        }
    }
}

async fn write_one(write: &OwnedWriteHalf, outgoing: &Outgoing) -> io::Result<()> {
    let stream: &UnixStream = write.as_ref();
    let mut rest = &outgoing.bytes[..];
    let mut fds: Vec<RawFd> = outgoing.fds.iter().map(AsRawFd::as_raw_fd).collect();
    while !rest.is_empty() {
        let sent = stream
            .async_io(Interest::WRITABLE, || {
                let rights = [ControlMessage::ScmRights(&fds)];
                let control = if fds.is_empty() { &rights[..0] } else { &rights[..] };
                sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(rest)], control, MsgFlags::MSG_NOSIGNAL, None).map_err(io::Error::from)
            })
            .await?;
        fds.clear();
        rest = &rest[sent..];
    }
    Ok(())
}

#[cfg(test)]
mod tests;
