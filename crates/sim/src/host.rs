//! One simulated host: a machine that only remembers what runs on it, and an agent that takes items and reports.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use unkai_link::client::Link;
use unkai_link::item::{Down, HostId, Item, ItemKey, ItemKind, ServerItem};
use unkai_link::report::{Inventory, PortReport, ServerReport, Up};
use unkai_link::volume::VolumeUse;
use unkai_model::compute::{Phase, Run, Server, StopReason, Timeline};
use unkai_model::network::Port;
use unkai_model::{Error, Id};

use crate::storage::Storage;

const BEAT: Duration = Duration::from_secs(2);
const REDIAL: Duration = Duration::from_millis(500);
/// A controller that says nothing for so long is gone, whatever its connection says.
const SILENCE: Duration = Duration::from_secs(6);

/// A server on a machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    pub generation: u64,
    pub incarnation: u64,
    pub phase: Phase,
    pub leased: bool,
    /// The volumes it has open while it runs.
    pub volumes: Vec<Open>,
    /// The ports it speaks from while it runs.
    pub ports: Vec<Id<Port>>,
}

/// A volume as a guest writes to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Open {
    pub volume: String,
    pub fence: u64,
    pub shared: bool,
    pub read_only: bool,
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
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
    repeat: Arc<Notify>,
    pub storage: Storage,
}

struct State {
    servers: BTreeMap<Id<Server>, Instance>,
    /// What needs a lease may run until then.
    lease: Option<Instant>,
    /// How fast its clock goes: 0.995 is five seconds late after 1,000.
    pace: f64,
    /// So much longer every step takes, because its disks are slow.
    slow: Duration,
    /// The whole machine stands still, and its guests with it.
    frozen: bool,
}

impl State {
    fn holds_lease(&self) -> bool {
        self.lease.is_some_and(|end| Instant::now() < end)
    }

    fn end_unleased(&mut self) {
        if !self.holds_lease() {
            let running = self.servers.values_mut().filter(|instance| instance.leased && instance.is_running());
            running.for_each(|instance| instance.phase = off());
        }
    }
}

fn off() -> Phase {
    Phase::Stopped(StopReason::Killed("the machine went off".into()))
}

impl Machine {
    pub fn new(host: HostId) -> Self {
        Self::with_clock(host, 1.0)
    }

    pub fn with_clock(host: HostId, pace: f64) -> Self {
        let state = State { servers: BTreeMap::new(), lease: None, pace, slow: Duration::ZERO, frozen: false };
        let (changed, repeat, storage) = Default::default();
        Machine { host, state: Arc::new(Mutex::new(state)), changed, repeat, storage }
    }

    /// The same with storage that it shares with others.
    pub fn on(self, storage: &Storage) -> Self {
        Machine { storage: storage.clone(), ..self }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The servers that exist here.
    pub fn servers(&self) -> BTreeMap<Id<Server>, Instance> {
        self.lock().servers.clone()
    }

    /// The servers whose guests compute at this moment.
    pub fn running(&self) -> BTreeMap<Id<Server>, Instance> {
        let state = self.lock();
        let running = state.servers.iter().filter(|(_, instance)| instance.is_running() && !state.frozen);
        running.map(|(id, instance)| (id.clone(), instance.clone())).collect()
    }

    /// From now on its clock goes so fast.
    pub fn set_clock(&self, pace: f64) {
        self.lock().pace = pace;
    }

    /// Steps that begin from now on take so much longer.
    pub fn set_slow(&self, slow: Duration) {
        self.lock().slow = slow;
    }

    /// The whole machine stands still.
    pub fn freeze(&self) {
        self.lock().frozen = true;
    }

    /// It goes on. Its guard looks before what the guests do is counted: on a real machine guests may compute for the moment that takes, and
    /// only the fences of their volumes hold them.
    pub fn thaw(&self) {
        let mut state = self.lock();
        state.frozen = false;
        state.end_unleased();
    }

    /// Its agent looks at all its items again, and says again all that it has said of them.
    pub fn repeat(&self) {
        self.repeat.notify_one();
    }

    /// The power goes: nothing runs any more, disks stay.
    pub fn power_off(&self) {
        let mut state = self.lock();
        state.lease = None;
        state.servers.values_mut().for_each(|instance| instance.phase = off());
    }

    /// As long as the machine is on: ends what needs a lease when there is none, whether or not an agent lives.
    pub async fn guard(self) {
        loop {
            let lease = {
                let mut state = self.lock();
                state.end_unleased();
                state.lease.filter(|end| Instant::now() < *end)
            };
            match lease {
                Some(end) => drop(tokio::time::timeout_at(end, self.changed.notified()).await),
                None => self.changed.notified().await,
            }
        }
    }

    fn renew(&self, asked: Instant, lease: Duration) {
        let mut state = self.lock();
        state.lease = Some(asked + lease.div_f64(state.pace));
        drop(state);
        self.changed.notify_one();
    }
}

fn server_key(id: &Id<Server>) -> ItemKey {
    ItemKey { kind: ItemKind::Server, id: id.to_string() }
}

fn open(use_: &VolumeUse) -> Open {
    Open { volume: use_.volume.clone(), fence: use_.generation, shared: use_.shared, read_only: use_.read_only }
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

/// The agent of a machine.
pub struct Agent {
    pub machine: Machine,
    pub inventory: Inventory,
    /// How long a step takes on this machine.
    pub pace: Duration,
}

impl Agent {
    /// Connects, follows, and connects again when the connection is lost, until the future is dropped.
    pub async fn run<F, S>(self, dial: impl Fn() -> F)
    where
        F: Future<Output = Result<S, Error>>,
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
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

    async fn session(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<(), Error> {
        let begin = async { Link::connect(stream).await?.session(self.inventory.clone()).await };
        let begun = tokio::time::timeout(SILENCE, begin).await;
        let mut session = begun.map_err(|_| Error::unavailable("the controller does not begin a session"))??;
        let mut work = Work {
            machine: &self.machine,
            pace: self.pace,
            up: session.up.clone(),
            offered: Some(Vec::new()),
            due: BTreeMap::new(),
            leased: BTreeMap::new(),
            asked: BTreeMap::new(),
            items: BTreeMap::new(),
            said: BTreeMap::new(),
        };
        let mut beat = tokio::time::interval(BEAT);
        let mut heard = Instant::now();
        loop {
            let next = work.due.keys().next().map(|(at, _)| *at);
            tokio::select! {
                biased;
                _ = beat.tick() => {
                    if heard.elapsed() > SILENCE {
                        return Err(Error::unavailable("the controller says nothing any more"));
                    }
                    work.ask_for_lease().await?;
                }
                () = self.machine.repeat.notified() => work.repeat().await?,
                () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => work.finish().await?,
                down = session.next() => match down.map_err(|e| Error::caused("reading from the controller", e))? {
                    Some(down) => {
                        heard = Instant::now();
                        work.take(down).await?;
                    }
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
    due: BTreeMap<(Instant, ItemKey), Item>,
    /// What needs a lease: it may have to start again whenever there is one.
    leased: BTreeMap<Id<Server>, ServerItem>,
    /// When each lease was asked for.
    asked: BTreeMap<u64, Instant>,
    /// Everything that is assigned, as it was last put.
    items: BTreeMap<ItemKey, Item>,
    /// What was last said of each.
    said: BTreeMap<ItemKey, Vec<Up>>,
}

impl Work<'_> {
    async fn say(&self, up: Up) -> Result<(), Error> {
        self.up.send(up).await.map_err(|_| Error::unavailable("the session has ended"))
    }

    async fn say_of(&mut self, key: ItemKey, words: Vec<Up>) -> Result<(), Error> {
        self.said.insert(key, words.clone());
        for up in words {
            self.say(up).await?;
        }
        Ok(())
    }

    /// Old words come again, behind newer ones of other items, and each item as if it were put anew.
    async fn repeat(&mut self) -> Result<(), Error> {
        for up in self.said.values().flatten().cloned().collect::<Vec<_>>() {
            self.say(up).await?;
        }
        for item in self.items.values().cloned().collect::<Vec<_>>() {
            self.take(Down::Put(Box::new(item))).await?;
        }
        Ok(())
    }

    async fn ask_for_lease(&mut self) -> Result<(), Error> {
        let number = self.asked.keys().last().map_or(1, |last| last + 1);
        self.asked.insert(number, Instant::now());
        self.say(Up::Renew(number)).await
    }

    async fn take(&mut self, down: Down) -> Result<(), Error> {
        match &down {
            Down::Put(item) => drop(self.items.insert(item.key(), Item::clone(item))),
            Down::Drop(key) => {
                self.items.remove(key);
                self.said.remove(key);
            }
            _ => {}
        }
        match down {
            Down::Put(item) => match *item {
                Item::Server(item) => self.assign(item),
                item @ (Item::Pool(_) | Item::Volume(_) | Item::Backup(_)) => self.begin(item),
                Item::Snapshot(item) => {
                    self.say(Up::SnapshotFailed { image: item.image, reason: "a simulated host has no disks".into() }).await?;
                }
                _ => {}
            },
            Down::Drop(ItemKey { kind: ItemKind::Server, id }) => self.forget(&Id::new(id)),
            Down::Drop(key) => self.due.retain(|(_, due), _| *due != key),
            Down::Synced => {
                let offered = self.offered.take().unwrap_or_default();
                let strangers: Vec<_> = self.machine.lock().servers.keys().filter(|id| !offered.contains(id)).cloned().collect();
                strangers.iter().for_each(|id| self.forget(id));
                self.try_again();
            }
            Down::Lease { number, millis } => {
                if let Some(asked) = self.asked.get(&number).copied() {
                    self.machine.renew(asked, Duration::from_millis(millis));
                    self.asked.retain(|older, _| *older >= number);
                    self.try_again();
                }
            }
            Down::Tunnel { .. } | Down::Controllers(_) | Down::Ping => {}
        }
        Ok(())
    }

    /// There is a lease, or all is known: what is not as wanted begins again.
    fn try_again(&mut self) {
        let running: Vec<_> = self.machine.lock().servers.iter().filter(|(_, here)| here.is_running()).map(|(id, _)| id.clone()).collect();
        let idle: Vec<_> = self.leased.values().filter(|item| item.run == Run::Running && !running.contains(&item.id)).cloned().collect();
        for item in idle {
            if !self.due.keys().any(|(_, key)| *key == server_key(&item.id)) {
                self.begin(Item::Server(item));
            }
        }
    }

    fn assign(&mut self, item: ServerItem) {
        if let Some(offered) = &mut self.offered {
            offered.push(item.id.clone());
        }
        if self.machine.lock().servers.get(&item.id).is_some_and(|here| here.generation > item.generation) {
            return;
        }
        if item.leased {
            self.leased.insert(item.id.clone(), item.clone());
        } else {
            self.leased.remove(&item.id);
        }
        self.begin(Item::Server(item));
    }

    fn begin(&mut self, item: Item) {
        let key = item.key();
        self.due.retain(|(_, due), _| *due != key);
        let slow = self.machine.lock().slow;
        self.due.insert((Instant::now() + self.pace + slow, key), item);
    }

    fn forget(&mut self, id: &Id<Server>) {
        self.due.retain(|(_, due), _| *due != server_key(id));
        self.leased.remove(id);
        self.machine.lock().servers.remove(id);
    }

    /// The step that is due is done.
    async fn finish(&mut self) -> Result<(), Error> {
        let storage = &self.machine.storage;
        let Some(((_, key), item)) = self.due.pop_first() else { return Ok(()) };
        let words = match item {
            Item::Server(item) => self.server(item),
            Item::Pool(item) => vec![Up::Pool(storage.pool(&item))],
            Item::Volume(item) => vec![Up::Volume(storage.volume(&item))],
            Item::Backup(item) => vec![Up::Backup(storage.backup(&item))],
            _ => Vec::new(),
        };
        if words.is_empty() { Ok(()) } else { self.say_of(key, words).await }
    }

    fn server(&self, item: ServerItem) -> Vec<Up> {
        let Some(phase) = self.reach(&item) else { return Vec::new() };
        let runs = phase == Phase::Running;
        let ports = item.ports.iter().filter(|_| runs).map(|port| Up::Port(PortReport { port: Id::new(port.as_str()), up: true }));
        let mut words: Vec<_> = ports.collect();
        let (generation, incarnation, leased) = (item.generation, item.incarnation, item.leased);
        let timeline = Timeline::default();
        words.push(Up::Server(ServerReport { server: item.id, generation, phase, incarnation, leased, timeline }));
        words
    }

    /// A server has what it writes to before it runs.
    fn open(&self, item: &ServerItem) -> Phase {
        let opened = item.volumes.iter().try_for_each(|use_| self.machine.storage.open(use_));
        opened.map_or_else(Phase::Failed, |()| Phase::Running)
    }

    /// Makes the machine as the item says; none when it may not run here now.
    fn reach(&self, item: &ServerItem) -> Option<Phase> {
        let mut state = self.machine.lock();
        let may_start = !item.leased || (self.offered.is_none() && state.holds_lease());
        let here = state.servers.get(&item.id);
        let runs = here.is_some_and(Instance::is_running);
        let phase = match item.run {
            Run::Running if !runs && !may_start => return None,
            Run::Running => self.open(item),
            Run::Paused => Phase::Paused,
            Run::Suspended => Phase::Suspended,
            Run::Stopped | Run::Shelved => Phase::Stopped(StopReason::Asked),
            Run::Offloaded | Run::Deleted => Phase::Gone,
        };
        if phase == Phase::Gone {
            state.servers.remove(&item.id);
        } else {
            let volumes = item.volumes.iter().map(open).collect();
            let ports = item.ports.iter().map(|port| Id::new(port.as_str())).collect();
            let (generation, incarnation, leased) = (item.generation, item.incarnation, item.leased);
            let instance = Instance { generation, incarnation, phase: phase.clone(), leased, volumes, ports };
            state.servers.insert(item.id.clone(), instance);
        }
        Some(phase)
    }
}
