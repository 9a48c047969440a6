//! The leaving half of a move to another host: disks are copied while the guest writes, then its memory, then it stands still here.
//!
//! QEMU has no network. Memory goes into a descriptor, and each disk to a socket in the server's directory; whoever moves the guest carries
//! both to the other host ([`super::receive`]).
//!
//! ```text
//! copy disks ──all ready──> memory, round after round ──few pages left──> stands still ──last of the disks──> last of memory ──> moved
//!     `───────────────────────── any failure, or a wish to abort: the guest goes on here as before ─────────────────────────'
//! ```
//!
//! What is moved stands still, whole, until its process is ended or [`Vm::take_back`] lets it run on: only one who knows that it was never
//! started on the other host may do that.

use super::{RunState, Shared, Vm};
use crate::disks::remove_file;
use crate::error::{Error, Result};
use crate::layout::give;
use crate::qmp::{Qmp, QmpEvent};
use crate::spec::{Disk, LaunchSpec};
use serde_json::{Value, json};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::sync::broadcast::Receiver;
use tokio::sync::watch;
use tokio::time::Instant;

/// Between looks when no event says that something happened.
const POLL: Duration = Duration::from_millis(100);
/// How long a guest may stand still at first, and at most.
const DOWNTIME: Duration = Duration::from_millis(300);
const LONGEST_DOWNTIME: Duration = Duration::from_secs(10);
/// After so many rounds over its memory it may stand still for twice as long, and again after as many.
const ROUNDS: u64 = 4;
/// How long QEMU may take to let go of what is given up.
const CLEANING: Duration = Duration::from_secs(30);

/// What is to be sent, and into what.
pub struct Outgoing {
    /// A stream socket.
    pub memory: OwnedFd,
    pub disks: Vec<Copied>,
    /// The guest stands still before its memory is copied, in one round.
    pub stop_first: bool,
}

/// A disk that the other host does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    pub disk: String,
    /// With what it stands on; else only what is in its own file.
    pub whole: bool,
}

/// What whoever moves the guest wants by now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Wish {
    #[default]
    Move,
    /// The guest stands still from now on, so that the end comes soon.
    Finish,
    /// It goes on here.
    Abort,
}

/// Bytes, so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Transfer {
    pub memory_total: u64,
    pub memory_sent: u64,
    pub memory_left: u64,
    pub disk_total: u64,
    pub disk_sent: u64,
    pub rounds: u64,
    pub downtime_limit_millis: u64,
}

/// The guest has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// Since when it stands still.
    pub stopped: Instant,
    pub transfer: Transfer,
}

impl Vm {
    /// The specification with nothing left to the defaults of this QEMU, for another one that is to continue its guest.
    pub async fn portrait(&self) -> Result<LaunchSpec> {
        let kind = self.shared.qmp().execute("qom-get", json!({"path": "/machine", "property": "type"})).await?;
        let mut spec = self.spec();
        spec.machine = kind.as_str().and_then(|kind| kind.strip_suffix("-machine")).map(str::to_owned).or(spec.machine);
        Ok(spec)
    }

    /// Where QEMU will connect to write the copy of a disk.
    pub fn mirror_listener(&self, disk: &str) -> Result<UnixListener> {
        let path = self.shared.dir.mirror_socket(disk);
        remove_file(&path)?;
        let listener = UnixListener::bind(&path).map_err(Error::io("make socket", &path))?;
        give(&path, self.shared.ledger().owner)?;
        Ok(listener)
    }

    /// Moves the guest. On failure, and when that is wished in time, it goes on here as it did before.
    pub async fn send(&self, outgoing: Outgoing, wish: watch::Receiver<Wish>, tell: watch::Sender<Transfer>) -> Result<Moved> {
        let _operation = self.shared.operation.lock().await;
        self.shared.running()?;
        let disks =
            outgoing.disks.iter().map(|copied| Ok((find(&self.shared, &copied.disk)?, copied.whole))).collect::<Result<Vec<_>>>()?;
        let runs = self.status().state == RunState::Running;
        let mut sending = Sending {
            qmp: self.shared.qmp(),
            events: self.shared.qmp().events(),
            shared: self.shared.clone(),
            wish,
            tell,
            disks,
            stopped: None,
            finishing: outgoing.stop_first,
            continued: false,
            deepest: Duration::ZERO,
        };
        let sent = sending.run(outgoing.memory).await;
        sending.close_sockets();
        if sent.is_err() {
            undo(&self.shared, runs).await;
        }
        sent
    }

    /// Ends what an interrupted move left in QEMU, and lets the guest run on if it is to. It must not be running anywhere else.
    pub async fn take_back(&self, run: bool) -> Result<()> {
        let _operation = self.shared.operation.lock().await;
        self.shared.running()?;
        undo(&self.shared, run).await;
        if run { self.reach(RunState::Running).await } else { Ok(()) }
    }
}

fn find(shared: &Shared, id: &str) -> Result<Disk> {
    shared.ledger().spec.disks.iter().find(|disk| disk.id == id).cloned().ok_or_else(|| Error::NoDevice(id.to_owned()))
}

fn copy_node(disk: &Disk) -> String {
    format!("m-{}", disk.node())
}

struct Sending {
    qmp: Qmp,
    events: Receiver<QmpEvent>,
    shared: Arc<Shared>,
    wish: watch::Receiver<Wish>,
    tell: watch::Sender<Transfer>,
    disks: Vec<(Disk, bool)>,
    stopped: Option<Instant>,
    finishing: bool,
    /// The copies of disks are whole, and the last of the memory may go.
    continued: bool,
    deepest: Duration,
}

impl Sending {
    async fn run(&mut self, memory: OwnedFd) -> Result<Moved> {
        for (disk, whole) in self.disks.clone() {
            self.mirror(&disk, whole).await?;
        }
        while !self.mirrors_are_ready().await? {
            self.heed_abort()?;
            self.pause(&[]).await;
        }
        self.begin(memory).await?;
        loop {
            if *self.wish.borrow() == Wish::Abort {
                self.qmp.run("migrate_cancel").await?;
                return Err(Error::GivenUp);
            }
            self.finish_if_wished().await?;
            let state = self.qmp.run("query-migrate").await?;
            let transfer = self.note(&state);
            match state["status"].as_str().unwrap_or("none") {
                "completed" => return Ok(Moved { stopped: self.stopped.unwrap_or_else(Instant::now), transfer }),
                "failed" | "cancelled" => {
                    let text = state["error-desc"].as_str().unwrap_or("QEMU gives no reason").to_owned();
                    return Err(Error::Job { disk: "memory".to_owned(), text });
                }
                // It stays in this state for a moment after it was told to go on.
                "pre-switchover" if self.continued => {}
                "pre-switchover" => {
                    self.continued = true;
                    self.stopped.get_or_insert_with(Instant::now);
                    self.end_mirrors().await?;
                    self.qmp.execute("migrate-continue", json!({"state": "pre-switchover"})).await?;
                }
                _ => self.converge(transfer.rounds).await?,
            }
            self.pause(&["MIGRATION", "STOP"]).await;
        }
    }

    /// Every write of the guest goes to both from now on, and what was there before is copied.
    async fn mirror(&mut self, disk: &Disk, whole: bool) -> Result<()> {
        let (node, copy) = (disk.node(), copy_node(disk));
        let socket = self.shared.dir.mirror_socket(&disk.id).display().to_string();
        let target = json!({
            "driver": "nbd", "node-name": copy, "export": node, "discard": "unmap",
            "server": {"type": "unix", "path": socket},
        });
        self.qmp.execute("blockdev-add", target).await?;
        let job = json!({
            "job-id": copy, "device": node, "target": copy, "sync": if whole { "full" } else { "top" },
            "copy-mode": "write-blocking", "auto-dismiss": false,
        });
        self.qmp.execute("blockdev-mirror", job).await.map(drop)
    }

    async fn mirrors_are_ready(&mut self) -> Result<bool> {
        let jobs = self.qmp.run("query-jobs").await?;
        let mut ready = true;
        let mut transfer = Transfer::default();
        for (disk, _) in &self.disks {
            let job = job(&jobs, &copy_node(disk)).ok_or_else(|| lost(disk, "the job is gone"))?;
            match job["status"].as_str().unwrap_or_default() {
                // A ready job that is held for a moment, as all are when disks are drained.
                "ready" | "standby" => {}
                "concluded" | "null" | "aborting" => return Err(lost(disk, job["error"].as_str().unwrap_or("it ended early"))),
                _ => ready = false,
            }
            transfer.disk_sent += job["current-progress"].as_u64().unwrap_or(0);
            transfer.disk_total += job["total-progress"].as_u64().unwrap_or(0);
        }
        self.tell.send_modify(|told| (told.disk_sent, told.disk_total) = (transfer.disk_sent, transfer.disk_total));
        Ok(ready)
    }

    async fn begin(&mut self, memory: OwnedFd) -> Result<()> {
        let capability = |name: &str| json!({"capability": name, "state": true});
        let wanted = ["events", "pause-before-switchover", "auto-converge"].map(capability);
        self.qmp.execute("migrate-set-capabilities", json!({"capabilities": wanted})).await?;
        self.downtime(DOWNTIME).await?;
        self.qmp.execute("migrate-set-parameters", json!({"max-bandwidth": 1u64 << 40})).await?;
        if self.finishing {
            self.stop().await?;
        }
        self.qmp.execute_with_fd("getfd", json!({"fdname": "leaving"}), memory).await?;
        self.qmp.execute("migrate", json!({"uri": "fd:leaving"})).await.map(drop)
    }

    async fn downtime(&mut self, limit: Duration) -> Result<()> {
        self.deepest = limit;
        self.tell.send_modify(|told| told.downtime_limit_millis = limit.as_millis() as u64);
        self.qmp.execute("migrate-set-parameters", json!({"downtime-limit": limit.as_millis() as u64})).await.map(drop)
    }

    /// A guest that writes faster than it can be copied may stand still a little longer at the end.
    async fn converge(&mut self, rounds: u64) -> Result<()> {
        let doublings = u32::try_from(rounds / ROUNDS).unwrap_or(u32::MAX).min(16);
        let limit = (DOWNTIME * 2u32.saturating_pow(doublings)).min(LONGEST_DOWNTIME);
        if limit > self.deepest { self.downtime(limit).await } else { Ok(()) }
    }

    async fn finish_if_wished(&mut self) -> Result<()> {
        if *self.wish.borrow() == Wish::Finish && !self.finishing {
            self.finishing = true;
            return self.stop().await;
        }
        Ok(())
    }

    async fn stop(&mut self) -> Result<()> {
        self.qmp.run("stop").await?;
        self.stopped.get_or_insert_with(Instant::now);
        Ok(())
    }

    fn heed_abort(&self) -> Result<()> {
        if *self.wish.borrow() == Wish::Abort { Err(Error::GivenUp) } else { Ok(()) }
    }

    fn note(&self, state: &Value) -> Transfer {
        let number = |pointer: &str| state.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
        let mut transfer = *self.tell.borrow();
        if state["ram"].is_object() {
            transfer.memory_total = number("/ram/total");
            transfer.memory_sent = number("/ram/transferred");
            transfer.memory_left = number("/ram/remaining");
            transfer.rounds = number("/ram/dirty-sync-count");
        }
        self.tell.send_replace(transfer);
        transfer
    }

    /// The guest stands still: the copies become whole, and QEMU lets go of them.
    async fn end_mirrors(&mut self) -> Result<()> {
        while !self.mirrors_are_ready().await? {
            self.pause(&["JOB_STATUS_CHANGE"]).await;
        }
        for (disk, _) in self.disks.clone() {
            self.qmp.execute("block-job-cancel", json!({"device": copy_node(&disk)})).await?;
        }
        for (disk, _) in self.disks.clone() {
            let copy = copy_node(&disk);
            loop {
                let jobs = self.qmp.run("query-jobs").await?;
                let job = job(&jobs, &copy).ok_or_else(|| lost(&disk, "the job is gone"))?;
                if job["status"] == "concluded" {
                    if let Some(text) = job["error"].as_str() {
                        return Err(lost(&disk, text));
                    }
                    break;
                }
                self.pause(&["JOB_STATUS_CHANGE"]).await;
            }
            self.qmp.execute("job-dismiss", json!({"id": copy})).await?;
            self.qmp.execute("blockdev-del", json!({"node-name": copy})).await?;
        }
        Ok(())
    }

    /// Until one of these events, a new wish, or a moment has passed.
    async fn pause(&mut self, events: &[&str]) {
        let (stopped, received, wish) = (&mut self.stopped, &mut self.events, &mut self.wish);
        let happened = async {
            loop {
                match received.recv().await {
                    Ok(event) => {
                        if event.name == "STOP" {
                            stopped.get_or_insert_with(Instant::now);
                        }
                        if events.contains(&event.name.as_str()) {
                            return;
                        }
                    }
                    Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => return,
                    Err(tokio::sync::broadcast::error::RecvError::Closed) => std::future::pending().await,
                }
            }
        };
        let wished = async {
            if wish.changed().await.is_err() {
                std::future::pending().await
            }
        };
        tokio::select! {
            () = happened => {}
            () = wished => {}
            () = tokio::time::sleep(POLL) => {}
        }
    }

    fn close_sockets(&self) {
        for (disk, _) in &self.disks {
            let _ = remove_file(&self.shared.dir.mirror_socket(&disk.id));
        }
    }
}

fn job<'a>(jobs: &'a Value, id: &str) -> Option<&'a Value> {
    jobs.as_array()?.iter().find(|job| job["id"] == id)
}

fn lost(disk: &Disk, text: &str) -> Error {
    Error::Job { disk: disk.id.clone(), text: text.to_owned() }
}

/// Nothing of a move is left in QEMU. Each part may be absent.
async fn undo(shared: &Shared, run: bool) {
    let qmp = shared.qmp();
    let cleaned = tokio::time::timeout(CLEANING, async {
        end_migration(&qmp).await?;
        end_copies(&qmp).await?;
        let state = qmp.run("query-status").await?;
        if run && state["status"] != "running" && state["status"] != "suspended" {
            qmp.run("cont").await?;
        }
        Ok::<_, Error>(())
    });
    match cleaned.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(server = %shared.id, %error, "what a move left was not cleared"),
        Err(_) => tracing::warn!(server = %shared.id, "what a move left was not cleared in time"),
    }
}

async fn end_migration(qmp: &Qmp) -> Result<()> {
    let mut cancelled = false;
    loop {
        let state = qmp.run("query-migrate").await?;
        match state["status"].as_str().unwrap_or("none") {
            "none" | "completed" | "failed" | "cancelled" => return Ok(()),
            _ if !cancelled => {
                cancelled = true;
                qmp.run("migrate_cancel").await?;
            }
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn end_copies(qmp: &Qmp) -> Result<()> {
    let ours = |name: &Value| name.as_str().is_some_and(|name| name.starts_with("m-d-"));
    loop {
        let jobs = qmp.run("query-jobs").await?;
        let left: Vec<&Value> = jobs.as_array().into_iter().flatten().filter(|job| ours(&job["id"])).collect();
        if left.is_empty() {
            break;
        }
        for job in left {
            let asked = match job["status"].as_str().unwrap_or_default() {
                "concluded" => qmp.execute("job-dismiss", json!({"id": job["id"]})).await,
                _ => qmp.execute("block-job-cancel", json!({"device": job["id"], "force": true})).await,
            };
            if let Err(error @ Error::Disconnected(_)) = asked {
                return Err(error);
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let nodes = qmp.execute("query-named-block-nodes", json!({"flat": true})).await?;
    for node in nodes.as_array().into_iter().flatten().filter(|node| ours(&node["node-name"])) {
        if let Err(error) = qmp.execute("blockdev-del", json!({"node-name": node["node-name"]})).await {
            tracing::warn!(%error, "a copy of a disk is still open in QEMU");
        }
    }
    Ok(())
}
