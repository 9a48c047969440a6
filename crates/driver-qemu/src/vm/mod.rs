//! A server with a live QEMU process: the handle, its state, and what it tells.
//!
//! [`Vm`] is a cheap handle. One task per process ([`monitor`]) listens to QEMU and to the kernel and is the only writer of the
//! status. Operations talk QMP directly, one long operation at a time.

pub mod diagnostics;
mod hotplug;
pub mod migrate;
pub(crate) mod monitor;
mod power;
mod receive;
pub mod snapshot;
mod suspend;

pub(crate) use hotplug::pass;

use crate::error::{Error, Result};
use crate::exit::{Exit, Seen};
use crate::layout::ServerDir;
use crate::ledger::Ledger;
use crate::process::Process;
use crate::qemu::Config;
use crate::qmp::Qmp;
use crate::spec::LaunchSpec;
use jiff::Timestamp;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::{broadcast, watch};
use uuid::Uuid;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// Processors run.
    Running,
    /// Processors stand still: paused by us, or by QEMU after an error of a disk.
    Paused,
    /// The guest ended; the process is about to.
    Ending,
    /// There is no process any more.
    Exited,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub state: RunState,
    /// Set when `state` is [`RunState::Exited`].
    pub exit: Option<Exit>,
}

/// Something that happened to a server without being an answer to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub server: Uuid,
    pub generation: u64,
    pub at: Timestamp,
    pub kind: EventKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    Started,
    Paused,
    Resumed,
    /// The guest (or this driver) restarted the machine; the process is the same. One restart may be told twice: the firmware resets
    /// once more when it finds that it was jumped into.
    Reset {
        by_guest: bool,
    },
    /// A disk could not be read or written; the guest stands still if `paused`.
    DiskError {
        disk: String,
        no_space: bool,
        paused: bool,
    },
    Exited(Exit),
}

pub(crate) struct Shared {
    pub id: Uuid,
    pub dir: ServerDir,
    pub config: Arc<Config>,
    pub process: Process,
    pub qmp: Mutex<Qmp>,
    pub ledger: Mutex<Ledger>,
    pub intent: Mutex<Intent>,
    pub status: watch::Sender<Status>,
    pub events: broadcast::Sender<Event>,
    /// Counts restarts, for those who wait for one.
    pub resets: watch::Sender<u64>,
    /// Held by operations that take several commands.
    pub operation: tokio::sync::Mutex<()>,
}

/// What the monitor must know of operations under way, and what it has seen.
#[derive(Default)]
pub(crate) struct Intent {
    pub seen: Seen,
    /// The next shutdown of the guest is the first half of a reboot.
    pub reboot: bool,
}

#[derive(Clone)]
pub struct Vm {
    pub(crate) shared: Arc<Shared>,
}

impl std::fmt::Debug for Vm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vm({}, pid {}, {:?})", self.shared.id, self.shared.process.id.pid, self.status().state)
    }
}

impl Vm {
    pub fn id(&self) -> Uuid {
        self.shared.id
    }

    pub fn pid(&self) -> i32 {
        self.shared.process.id.pid
    }

    pub fn generation(&self) -> u64 {
        self.shared.ledger().generation
    }

    /// The specification with every device as it is now, hot plugged ones included.
    pub fn spec(&self) -> LaunchSpec {
        self.shared.ledger().spec.clone()
    }

    pub fn status(&self) -> Status {
        self.shared.status.borrow().clone()
    }

    /// Changes of the status; the current one is seen at once.
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.shared.status.subscribe()
    }

    /// Returns when the process has ended, with the reason.
    pub async fn exited(&self) -> Exit {
        let mut status = self.shared.status.subscribe();
        // The sender lives in `shared`, which this handle keeps.
        let status = status.wait_for(|s| s.exit.is_some()).await.expect("the status outlives its readers");
        status.exit.clone().expect("waited for")
    }

    pub async fn exited_within(&self, limit: Duration) -> Option<Exit> {
        tokio::time::timeout(limit, self.exited()).await.ok()
    }

    /// Direct access for diagnosis.
    pub fn qmp(&self) -> Qmp {
        self.shared.qmp()
    }

    /// Unix socket of the interactive serial console. QEMU serves one client at a time.
    pub fn serial_socket(&self) -> PathBuf {
        self.shared.dir.serial_socket()
    }

    /// A new VNC connection to the screen. Nothing listens for VNC: QEMU is handed one end of a socket pair.
    pub async fn open_vnc(&self) -> Result<UnixStream> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(Error::system("make a socket pair"))?;
        let name = format!("vnc-{}", Uuid::new_v4().simple());
        let qmp = self.shared.qmp();
        qmp.execute_with_fd("getfd", serde_json::json!({"fdname": name}), theirs.into()).await?;
        qmp.execute("add_client", serde_json::json!({"protocol": "vnc", "fdname": name, "skipauth": true})).await?;
        ours.set_nonblocking(true).map_err(Error::system("make a socket non-blocking"))?;
        UnixStream::from_std(ours).map_err(Error::system("watch a socket"))
    }

    /// The guest's agent, if one answers within `patience`.
    pub async fn guest_agent(&self, patience: Duration) -> Result<crate::GuestAgent> {
        crate::GuestAgent::connect(&self.shared.dir.agent_socket(), patience).await
    }
}

impl Shared {
    pub fn qmp(&self) -> Qmp {
        lock(&self.qmp).clone()
    }

    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    pub fn intent(&self) -> MutexGuard<'_, Intent> {
        lock(&self.intent)
    }

    /// Changes the ledger and writes it; when that fails the change is not kept.
    pub fn record(&self, change: impl FnOnce(&mut Ledger)) -> Result<()> {
        let mut ledger = self.ledger();
        let mut changed = ledger.clone();
        change(&mut changed);
        changed.write(&self.dir)?;
        *ledger = changed;
        Ok(())
    }

    /// For changes that are true whether they can be written or not, such as an end on a host whose disk is full.
    pub fn record_regardless(&self, change: impl FnOnce(&mut Ledger)) {
        let mut ledger = self.ledger();
        change(&mut ledger);
        if let Err(error) = ledger.write(&self.dir) {
            tracing::error!(server = %self.id, %error, "the ledger is behind");
        }
    }

    pub fn emit(&self, kind: EventKind) {
        let event = Event { server: self.id, generation: self.ledger().generation, at: Timestamp::now(), kind };
        // nobody listening is fine: the status says the same
        let _ = self.events.send(event);
    }

    pub fn running(&self) -> Result<()> {
        if self.status.borrow().state == RunState::Exited { Err(Error::NotRunning(self.id)) } else { Ok(()) }
    }

    /// Asks QEMU to end, and makes sure of it.
    pub async fn end(self: &Arc<Self>) {
        const PATIENCE: Duration = Duration::from_secs(5);
        let quit = tokio::time::timeout(Duration::from_secs(1), async { self.qmp().run("quit").await }).await;
        if !matches!(quit, Ok(Ok(_))) && self.status.borrow().state != RunState::Exited {
            self.process.kill();
        }
        self.make_sure(PATIENCE);
    }

    /// Kills the process if it has not ended by itself after `patience`.
    pub fn make_sure(self: &Arc<Self>, patience: Duration) {
        let shared = self.clone();
        tokio::spawn(async move {
            let mut status = shared.status.subscribe();
            let gone = status.wait_for(|s| s.state == RunState::Exited);
            if tokio::time::timeout(patience, gone).await.is_err() {
                tracing::warn!(server = %shared.id, "QEMU does not end; killed");
                shared.process.kill();
            }
        });
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves plain data behind, never half of it.
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
