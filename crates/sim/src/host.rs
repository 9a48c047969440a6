//! One simulated host: a machine that only remembers what runs on it, and an agent that takes items and reports.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use unkai_link::client::Link;
use unkai_link::item::{Down, HostId, Item, ItemKey, ItemKind, ServerItem};
use unkai_link::report::{Inventory, PortReport, ServerReport, Up};
use unkai_link::server::LinkServer;
use unkai_model::compute::{Phase, Run, Server, StopReason, Timeline};
use unkai_model::{Error, Id};

const BEAT: Duration = Duration::from_secs(2);
const REDIAL: Duration = Duration::from_millis(500);
/// Bytes on their way between agent and controller.
const WIRE: usize = 256 << 10;

/// A server on a machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    pub generation: u64,
    pub incarnation: u64,
    pub phase: Phase,
    ports: Vec<String>,
}

impl Instance {
    /// A guest computes: what must not happen twice.
    pub fn is_running(&self) -> bool {
        self.phase == Phase::Running
    }
}

/// What is on a machine, whether or not an agent looks after it. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Machine {
    pub host: HostId,
    servers: Arc<Mutex<BTreeMap<Id<Server>, Instance>>>,
}

impl Machine {
    pub fn new(host: HostId) -> Self {
        Machine { host, servers: Arc::default() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Id<Server>, Instance>> {
        self.servers.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The servers that exist here.
    pub fn servers(&self) -> BTreeMap<Id<Server>, Instance> {
        self.lock().clone()
    }

    /// The power goes: nothing runs any more, disks stay.
    pub fn power_off(&self) {
        for instance in self.lock().values_mut() {
            instance.phase = Phase::Stopped(StopReason::Killed("the machine went off".into()));
        }
    }
}

/// What a machine of this kind reports.
pub fn inventory(name: &str) -> Inventory {
    Inventory {
        host_name: name.to_owned(),
        agent_version: env!("CARGO_PKG_VERSION").into(),
        vcpus: 64,
        memory_mib: 512 << 10,
        disk_gib: 8192,
        cpu_model: "simulated".into(),
        cpu_arch: "x86_64".into(),
        hypervisor: "QEMU".into(),
        hypervisor_version: 10_000_002,
        ..Inventory::default()
    }
}

/// A connection to this controller, in memory.
pub fn connect(link: &Arc<LinkServer>, host: &HostId) -> DuplexStream {
    let (near, far) = tokio::io::duplex(WIRE);
    tokio::spawn(link.clone().serve(far, host.clone()));
    near
}

/// The agent of a machine.
pub struct Agent {
    pub machine: Machine,
    pub inventory: Inventory,
    /// How long a step takes on this machine.
    pub pace: Duration,
}

impl Agent {
    /// Connects, follows, and connects again when the connection is lost, until the future is dropped.
    pub async fn run<F: Future<Output = Result<DuplexStream, Error>>>(self, dial: impl Fn() -> F) {
        loop {
            let ended = match dial().await {
                Ok(stream) => self.session(stream).await,
                Err(error) => Err(error),
            };
            if let Err(error) = ended {
                tracing::debug!(host = %self.machine.host, %error, "no session");
            }
            tokio::time::sleep(REDIAL).await;
        }
    }

    async fn session(&self, stream: DuplexStream) -> Result<(), Error> {
        let link = Link::connect(stream).await?;
        let mut session = link.session(self.inventory.clone()).await?;
        let mut work =
            Work { machine: &self.machine, pace: self.pace, up: session.up.clone(), offered: Some(Vec::new()), due: BTreeMap::new() };
        let mut beat = tokio::time::interval(BEAT);
        loop {
            let next = work.due.keys().next().map(|(at, _)| *at);
            tokio::select! {
                biased;
                _ = beat.tick() => work.say(Up::Beat).await?,
                () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => work.finish().await?,
                down = session.next() => match down.map_err(|e| Error::caused("reading from the controller", e))? {
                    Some(down) => work.take(down).await?,
                    None => return Err(Error::unavailable("the controller ended the session")),
                }
            }
        }
    }
}

/// One session's part of the work.
struct Work<'a> {
    machine: &'a Machine,
    pace: Duration,
    up: mpsc::Sender<Up>,
    /// Servers named before `Synced`; none afterwards.
    offered: Option<Vec<Id<Server>>>,
    /// Steps in progress, by the time they are done.
    due: BTreeMap<(Instant, Id<Server>), ServerItem>,
}

impl Work<'_> {
    async fn say(&self, up: Up) -> Result<(), Error> {
        self.up.send(up).await.map_err(|_| Error::unavailable("the session has ended"))
    }

    async fn take(&mut self, down: Down) -> Result<(), Error> {
        match down {
            Down::Put(item) => match *item {
                Item::Server(item) => self.assign(item),
                Item::Snapshot(item) => {
                    self.say(Up::SnapshotFailed { image: item.image, reason: "a simulated host has no disks".into() }).await?;
                }
                _ => {}
            },
            Down::Drop(ItemKey { kind: ItemKind::Server, id }) => self.forget(&Id::new(id)),
            Down::Synced => {
                let offered = self.offered.take().unwrap_or_default();
                let strangers: Vec<_> = self.machine.lock().keys().filter(|id| !offered.contains(id)).cloned().collect();
                strangers.iter().for_each(|id| self.forget(id));
            }
            Down::Drop(_) | Down::Tunnel { .. } | Down::Ping => {}
        }
        Ok(())
    }

    fn assign(&mut self, item: ServerItem) {
        if let Some(offered) = &mut self.offered {
            offered.push(item.id.clone());
        }
        if self.machine.lock().get(&item.id).is_some_and(|here| here.generation > item.generation) {
            return;
        }
        self.due.retain(|(_, id), _| *id != item.id);
        self.due.insert((Instant::now() + self.pace, item.id.clone()), item);
    }

    fn forget(&mut self, id: &Id<Server>) {
        self.due.retain(|(_, due), _| due != id);
        self.machine.lock().remove(id);
    }

    /// The step that is due is done.
    async fn finish(&mut self) -> Result<(), Error> {
        let Some(((_, id), item)) = self.due.pop_first() else { return Ok(()) };
        let phase = self.reach(&item);
        if phase == Phase::Running {
            for port in &item.ports {
                self.say(Up::Port(PortReport { port: Id::new(port.as_str()), up: true })).await?;
            }
        }
        let timeline = Timeline::default();
        self.say(Up::Server(ServerReport { server: id, generation: item.generation, phase, incarnation: item.incarnation, timeline })).await
    }

    /// Makes the machine as the item says.
    fn reach(&self, item: &ServerItem) -> Phase {
        let mut servers = self.machine.lock();
        let before = servers.get(&item.id);
        // A guest that went off by itself stays off until something new is asked.
        let stays_off = before.is_some_and(|here| {
            here.generation == item.generation && matches!(here.phase, Phase::Stopped(ref r) if *r != StopReason::Asked)
        });
        let phase = match item.run {
            Run::Running if stays_off => before.map(|here| here.phase.clone()).unwrap_or_default(),
            Run::Running => Phase::Running,
            Run::Paused => Phase::Paused,
            Run::Suspended => Phase::Suspended,
            Run::Stopped | Run::Shelved => Phase::Stopped(StopReason::Asked),
            Run::Offloaded | Run::Deleted => Phase::Gone,
        };
        if phase == Phase::Gone {
            servers.remove(&item.id);
        } else {
            let instance =
                Instance { generation: item.generation, incarnation: item.incarnation, phase: phase.clone(), ports: item.ports.clone() };
            servers.insert(item.id.clone(), instance);
        }
        phase
    }
}
