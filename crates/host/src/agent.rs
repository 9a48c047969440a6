//! The agent as a whole: opens what an earlier one left, follows a controller, hands items to workers.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc::Sender;
use tokio_util::task::AbortOnDropHandle;
use unkai_driver_network::{Driver, MetadataConnection, Services};
use unkai_driver_qemu::{Accel, Config as QemuConfig, FoundState, Qemu};
use unkai_link::client::{Link, Session};
use unkai_link::item::{Down, HostId, Item, ItemKey, ItemKind, net};
use unkai_link::report::{Inventory, Up};
use unkai_model::{Error, Id};

use crate::desired::Desired;
use crate::dial::{Dial, Membership};
use crate::images::Images;
use crate::lease::{self, Lease, Moment};
use crate::ledger::Ledger;
use crate::server::Servers;
use crate::volume::{self, Pools, Volumes};
use crate::worker::{Progress, Work, Workers};
use crate::{inventory, metadata, network, prefetch, snapshot, tunnel, unmanaged};

/// User and group ids that servers run as.
const USERS: std::ops::Range<u32> = 200_000..210_000;
/// How often the lease is renewed at least; a short one is renewed more often.
const BEAT: Duration = Duration::from_secs(2);
/// After every known controller has been tried once.
const REDIAL: Duration = Duration::from_millis(500);
/// Controllers say something every two seconds; one that is silent for so long is gone, whatever its connection says.
const SILENCE: Duration = Duration::from_secs(6);
/// How often the machine is looked at for changes.
const LOOK: Duration = Duration::from_secs(2);
const SWEEP: Duration = Duration::from_secs(600);

pub struct AgentConfig {
    /// Everything the agent keeps is below this directory.
    pub dir: PathBuf,
    /// What the host is called; none: as the machine.
    pub name: Option<String>,
    /// Namespace of the underlay and the external bridges; none: the machine's own.
    pub netns: Option<String>,
    pub underlay: Option<std::net::IpAddr>,
    pub externals: Vec<External>,
    /// The program that guards the lease when it is called with `agent-guard DIR`.
    pub guard: PathBuf,
}

/// A way out of the cloud on this host.
pub struct External {
    pub physical: String,
    pub device: Option<String>,
    /// Addresses of this machine on it, with prefix lengths.
    pub addresses: Vec<String>,
}

/// The agent. Cheap to clone.
#[derive(Clone)]
pub struct Agent {
    host: HostId,
    name: Option<String>,
    dir: PathBuf,
    desired: Desired,
    servers: Servers,
    volumes: Volumes,
    pools: Pools,
    physical: BTreeSet<String>,
    underlay: Option<std::net::IpAddr>,
    qemu_version: u64,
}

/// The id under which this machine is known: made once, kept in the agent's directory.
pub fn host_id(dir: &Path) -> Result<HostId, Error> {
    let ledger = Ledger::open(dir.to_path_buf())?;
    if let Some(id) = ledger.read::<HostId>("host")? {
        return Ok(id);
    }
    let id = Id::new(uuid::Uuid::new_v4().to_string());
    ledger.write("host", &id)?;
    Ok(id)
}

/// Stops every server below this directory and removes its devices. For a machine whose agent does not run. Disks stay.
pub async fn stop_everything(dir: &Path) -> Result<usize, Error> {
    let qemu = qemu(dir)?;
    let mut stopping = tokio::task::JoinSet::new();
    for found in qemu.discover().await {
        if let FoundState::Running(vm) = found.state {
            stopping.spawn(async move { vm.stop(Duration::from_secs(20)).await });
        }
    }
    let results = stopping.join_all().await;
    for error in results.iter().filter_map(|result| result.as_ref().err()) {
        tracing::warn!(%error, "a server was not stopped cleanly");
    }
    if let Some(facts) = Ledger::open(dir.to_path_buf())?.read::<DataPlane>("dataplane")? {
        let driver = Driver::open(facts.config(), Arc::new(NoServices)).await.map_err(network::failed("opening the network driver"))?;
        driver.remove_all().await.map_err(network::failed("removing the data plane"))?;
    }
    lease::end_guard(dir)?;
    Ok(results.len())
}

fn qemu(dir: &Path) -> Result<Qemu, Error> {
    let mut config = QemuConfig::new(dir.join("servers"));
    if nix::unistd::geteuid().is_root() {
        config.users = Some(USERS);
        config.cgroup_parent = Some("unkai".into());
    }
    Qemu::new(config).map_err(|e| Error::caused("opening the hypervisor driver", e))
}

/// What is needed to find the data plane again.
#[derive(serde::Serialize, serde::Deserialize)]
struct DataPlane {
    netns: Option<String>,
    underlay: Option<std::net::IpAddr>,
    prefix: String,
}

impl DataPlane {
    fn config(&self) -> unkai_driver_network::Config {
        unkai_driver_network::Config {
            dataplane_netns: self.netns.clone(),
            underlay: self.underlay,
            prefix: self.prefix.clone(),
            ..unkai_driver_network::Config::default()
        }
    }
}

/// Several agents may share a machine when their namespaces differ: everything else is named after this. An agent keeps what it had.
fn prefix(dir: &Path) -> Result<String, Error> {
    use std::hash::{DefaultHasher, Hash, Hasher};
    if dir == Path::new("/var/lib/unkai/agent") {
        return Ok("uk".into());
    }
    if let Some(facts) = Ledger::open(dir.to_path_buf())?.read::<DataPlane>("dataplane")? {
        return Ok(facts.prefix);
    }
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut hasher = DefaultHasher::new();
    dir.hash(&mut hasher);
    let mut rest = hasher.finish();
    let digits = std::iter::repeat_with(|| {
        let digit = DIGITS[(rest % 36) as usize];
        rest /= 36;
        char::from(digit)
    });
    Ok(digits.take(4).fold("u".to_owned(), |prefix, digit| prefix + &digit.to_string()))
}

/// A directory without what an agent that died left in it.
fn empty(dir: &Path) -> Result<(), Error> {
    let failed = |e| Error::caused(format!("emptying `{}`", dir.display()), e);
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(failed(e)),
        _ => std::fs::create_dir_all(dir).map_err(failed),
    }
}

fn ended() -> Error {
    Error::unavailable("the session has ended")
}

async fn renew(membership: Arc<dyn Membership>, link: Link) {
    let renewed = tokio::time::timeout(SILENCE, membership.renew(link)).await;
    if let Err(error) = renewed.unwrap_or_else(|_| Err(Error::unavailable("the controller does not answer"))) {
        tracing::warn!(%error, "this host's certificate was not renewed; it is tried again");
    }
}

/// Renewals of the lease that were asked for in one session.
struct Asked {
    last: u64,
    at: BTreeMap<u64, Moment>,
    /// Until the next one.
    pause: Duration,
}

impl Default for Asked {
    fn default() -> Self {
        Asked { last: 0, at: BTreeMap::new(), pause: BEAT }
    }
}

impl Asked {
    /// The number to ask with, now.
    fn note(&mut self) -> Result<u64, Error> {
        self.last += 1;
        self.at.insert(self.last, Moment::now()?);
        Ok(self.last)
    }

    /// When that was asked, unless a later one has been answered. Four renewals fit into a lease.
    fn answered(&mut self, number: u64, millis: u64) -> Option<Moment> {
        let at = self.at.get(&number).copied()?;
        self.at.retain(|known, _| *known > number);
        if millis > 0 {
            self.pause = BEAT.min(Duration::from_millis(millis) / 4);
        }
        Some(at)
    }
}

struct NoServices;
impl Services for NoServices {
    fn metadata(&self, _: MetadataConnection) {}
}

impl Agent {
    /// Opens the ledger and the drivers, and begins to converge on what was wanted last.
    pub async fn open(host: HostId, config: AgentConfig) -> Result<Self, Error> {
        let dir = config.dir;
        std::fs::create_dir_all(dir.join("snapshots")).map_err(|e| Error::caused(format!("creating `{}`", dir.display()), e))?;
        let facts = DataPlane { netns: config.netns, underlay: config.underlay, prefix: prefix(&dir)? };
        Ledger::open(dir.clone())?.write("dataplane", &facts)?;
        let desired = Desired::open(&dir)?;
        let services = Arc::new(metadata::Service::new(desired.clone()));
        let network = Driver::open(facts.config(), services).await.map_err(network::failed("opening the network driver"))?;
        for external in &config.externals {
            network
                .apply_external(&external_spec(external)?)
                .await
                .map_err(network::failed(format!("external network {}", external.physical)))?;
        }
        let images = Images::open(dir.join("images"))?;
        let lease = Lease::open(&dir, config.guard, || desired.leased())?;
        if let Err(error) = lease.keep_guard().await {
            tracing::error!(%error, "highly available servers are not guarded");
        }
        let servers = Servers::new(qemu(&dir)?, network, images, desired.clone(), lease, Ledger::open(dir.join("notes"))?);
        let exports = dir.join("exports");
        empty(&exports)?;
        let volumes = Volumes::new(servers.clone(), exports);
        let pools = Pools::new(servers.clone(), Ledger::open(dir.join("pools"))?);
        let physical = config.externals.into_iter().map(|external| external.physical).collect();
        let qemu_version = inventory::qemu_version().await;
        Ok(Agent { host, name: config.name, dir, desired, servers, volumes, pools, physical, underlay: config.underlay, qemu_version })
    }

    /// Runs until the future is dropped. What runs on the machine goes on.
    pub async fn run(self, dial: Dial) {
        let workers = Workers::new(Arc::new(self.clone()));
        self.servers.begin_work(dial.membership.clone(), workers.clone());
        for found in self.servers.qemu.discover().await {
            if let FoundState::Broken { problem } = &found.state {
                tracing::warn!(server = %found.id, problem, "a server is not as it was left");
            }
            let id = found.id.to_string();
            if self.desired.server(&id).is_some() {
                workers.wake(&ItemKey { kind: ItemKind::Server, id });
            }
        }
        for key in self.desired.keys() {
            workers.wake(&key);
        }
        tokio::join!(
            self.follow_exits(&workers),
            self.follow_controller(&dial, &workers),
            self.sweep(&workers),
            self.look_at_pools(&workers)
        );
    }

    /// A session began or ended. A new one is told everything anew.
    fn connected(&self, session: Option<(Link, Sender<Up>)>) {
        self.servers.connected(session);
        self.volumes.connected();
        self.pools.connected();
    }

    /// What happens to a pool, nobody tells.
    async fn look_at_pools(&self, workers: &Workers) {
        let mut tick = tokio::time::interval(volume::LOOK);
        loop {
            tick.tick().await;
            self.desired.keys().iter().filter(|key| key.kind == ItemKind::Pool).for_each(|key| workers.wake(key));
        }
    }

    async fn follow_exits(&self, workers: &Workers) {
        let mut events = self.servers.qemu.events();
        loop {
            match events.recv().await {
                Ok(event) => workers.wake(&ItemKey { kind: ItemKind::Server, id: event.server.to_string() }),
                Err(RecvError::Lagged(_)) => self.desired.keys().iter().for_each(|key| workers.wake(key)),
                Err(RecvError::Closed) => return,
            }
        }
    }

    async fn follow_controller(&self, dial: &Dial, workers: &Workers) {
        let mut tried = 0;
        loop {
            match self.session(dial, workers).await {
                // One that ended a session may be about to end itself: the next one's turn.
                Ok(()) => {
                    dial.turn();
                    tried = 0;
                }
                Err(error) => tracing::info!(%error, cause = ?std::error::Error::source(&error), "no session with a controller"),
            }
            self.connected(None);
            tried += 1;
            if tried >= dial.count() {
                tokio::time::sleep(REDIAL).await;
                tried = 0;
            }
        }
    }

    /// One session, to its end. An error means that there was none.
    async fn session(&self, dial: &Dial, workers: &Workers) -> Result<(), Error> {
        let (link, controller) = dial.link().await?;
        let inventory = self.inventory(controller).await;
        let begun = tokio::time::timeout(SILENCE, link.session(inventory.clone())).await;
        let session = begun.unwrap_or_else(|_| Err(Error::unavailable(format!("{controller} does not begin a session"))));
        let session = session.inspect_err(|_| dial.turn())?;
        let look = self.say_changes(session.up.clone(), controller, inventory);
        let ended = tokio::select! {
            ended = self.follow(dial, workers, link, session, controller) => ended,
            ended = look => ended,
        };
        if let Err(error) = ended {
            tracing::info!(%error, %controller, "a session ended");
        }
        Ok(())
    }

    /// Looks at the machine, and says when it is not what was said last.
    async fn say_changes(&self, up: Sender<Up>, controller: SocketAddr, mut said: Inventory) -> Result<(), Error> {
        let mut look = tokio::time::interval(LOOK);
        loop {
            look.tick().await;
            let now = self.inventory(controller).await;
            if now != said {
                up.send(Up::Inventory(Box::new(now.clone()))).await.map_err(|_| ended())?;
                said = now;
            }
        }
    }

    async fn follow(&self, dial: &Dial, workers: &Workers, link: Link, mut session: Session, controller: SocketAddr) -> Result<(), Error> {
        self.connected(Some((link.clone(), session.up.clone())));
        tracing::info!(host = %self.host, %controller, "connected");
        self.desired.keys().iter().for_each(|key| workers.wake(key));
        let mut offered = BTreeSet::new();
        let mut synced = false;
        let (mut beat, mut asked) = (tokio::time::Instant::now(), Asked::default());
        let mut heard = beat;
        let mut renewal: Option<AbortOnDropHandle<()>> = None;
        loop {
            let down = tokio::select! {
                down = session.next() => down.map_err(|e| Error::caused("reading from the controller", e))?,
                () = tokio::time::sleep_until(beat) => {
                    if heard.elapsed() > SILENCE {
                        return Err(Error::unavailable("the controller is silent"));
                    }
                    session.up.send(Up::Renew(asked.note()?)).await.map_err(|_| ended())?;
                    beat = tokio::time::Instant::now() + asked.pause;
                    if dial.membership.is_due() && renewal.as_ref().is_none_or(|task| task.is_finished()) {
                        renewal = Some(AbortOnDropHandle::new(tokio::spawn(renew(dial.membership.clone(), link.clone()))));
                    }
                    self.desired.write_missing();
                    if let Err(error) = self.servers.lease.keep_guard().await {
                        tracing::error!(%error, "highly available servers are not guarded");
                    }
                    continue;
                }
            };
            heard = tokio::time::Instant::now();
            match down {
                None => return Err(Error::unavailable("the controller ended the session")),
                Some(Down::Put(item)) => {
                    let key = item.key();
                    if !synced {
                        offered.insert(key.clone());
                    }
                    self.desired.put(*item)?;
                    workers.wake(&key);
                }
                Some(Down::Drop(key)) => self.forget(&key, workers)?,
                Some(Down::Synced) => {
                    synced = true;
                    self.forget_others(&offered, workers)?;
                    self.servers.synced();
                    self.wake_leased(workers);
                }
                Some(Down::Lease { number, millis }) => {
                    let Some(at) = asked.answered(number, millis) else { continue };
                    let held = self.servers.lease.holds();
                    if let Err(error) = self.servers.lease.renew(at, Duration::from_millis(millis)) {
                        tracing::error!(%error, "the lease was not renewed");
                    }
                    if !held {
                        self.wake_leased(workers);
                    }
                }
                Some(Down::Tunnel { id, target }) => {
                    tokio::spawn(tunnel::serve(self.servers.clone(), link.clone(), id, target));
                }
                Some(Down::Controllers(controllers)) => dial.learn(controllers)?,
                Some(Down::Ping) => {}
            }
        }
    }

    /// There is a lease: what could not be started without one can.
    fn wake_leased(&self, workers: &Workers) {
        let leased = self.desired.leased().into_iter();
        leased.for_each(|id| workers.wake(&ItemKey { kind: ItemKind::Server, id: id.to_string() }));
    }

    fn forget(&self, key: &ItemKey, workers: &Workers) -> Result<(), Error> {
        self.desired.drop(key)?;
        workers.wake(key);
        Ok(())
    }

    /// After a complete list: what is known or present here and was not in it is not wanted any more.
    fn forget_others(&self, offered: &BTreeSet<ItemKey>, workers: &Workers) -> Result<(), Error> {
        let mut unwanted: BTreeSet<ItemKey> = self.desired.keys().into_iter().filter(|key| !offered.contains(key)).collect();
        let present = self.servers.present()?.into_iter().map(|id| ItemKey { kind: ItemKind::Server, id });
        unwanted.extend(present.filter(|key| !offered.contains(key)));
        for key in unwanted.iter().rev() {
            tracing::info!(item = %key, "not wanted any more");
            self.forget(key, workers)?;
        }
        let (agent, workers, offered) = (self.clone(), workers.clone(), offered.clone());
        tokio::spawn(async move { agent.clear_strangers(&offered, &workers).await });
        Ok(())
    }

    /// Namespaces and processes of ours that no item asks for: left by an agent that died before it noted them.
    async fn clear_strangers(&self, offered: &BTreeSet<ItemKey>, workers: &Workers) {
        let wanted = |kind, id: &str| {
            let key = ItemKey { kind, id: id.to_owned() };
            offered.contains(&key) || self.desired.get(&key).is_some()
        };
        for found in self.servers.qemu.discover().await {
            let id = found.id.to_string();
            if !wanted(ItemKind::Server, &id) {
                workers.wake(&ItemKey { kind: ItemKind::Server, id });
            }
        }
        if let Err(error) = network::clear_strangers(&self.servers.network, &self.desired).await {
            tracing::warn!(%error, "what is left of old networks was not cleared");
        }
    }

    async fn inventory(&self, controller: SocketAddr) -> Inventory {
        let (accel, _) = self.servers.qemu.accelerator();
        let agent = self.clone();
        let read = move || {
            let address = inventory::address_towards(controller);
            let physical = agent.physical.clone();
            let mut found = inventory::read(&agent.dir, address, agent.underlay, physical, agent.qemu_version, accel == Accel::Kvm);
            found.unmanaged = unmanaged::find(&agent.dir.join("servers"));
            if let Some(name) = agent.name {
                found.host_name = name;
            }
            found
        };
        tokio::task::spawn_blocking(read).await.unwrap_or_default()
    }

    /// Lets go of images that nobody needs, and looks again for those that are to be at hand.
    async fn sweep(&self, workers: &Workers) {
        let mut tick = tokio::time::interval(SWEEP);
        loop {
            tick.tick().await;
            let wanted: Vec<_> = self.desired.keys().into_iter().filter(|key| key.kind == ItemKind::Image).collect();
            wanted.iter().for_each(|key| workers.wake(key));
            let ahead = wanted.iter().filter_map(|key| Some(self.servers.images.path(&self.desired.image(&key.id)?.image)));
            let used: Vec<_> = self.servers.bases_in_use().into_iter().chain(ahead).collect();
            let images = self.servers.images.clone();
            let _ = tokio::task::spawn_blocking(move || images.sweep(&used)).await;
        }
    }
}

impl Work for Agent {
    fn converge(&self, key: ItemKey) -> Pin<Box<dyn Future<Output = Result<Progress, Error>> + Send + '_>> {
        Box::pin(async move {
            match key.kind {
                ItemKind::Server => self.servers.converge(&key.id).await,
                ItemKind::Snapshot => {
                    let item = match self.desired.get(&key).as_deref() {
                        Some(Item::Snapshot(item)) => Some(item.clone()),
                        _ => None,
                    };
                    snapshot::converge(&self.servers, self.dir.join("snapshots"), item).await
                }
                ItemKind::Pool => self.pools.converge(&key.id).await,
                ItemKind::Volume => self.volumes.converge(&key.id).await,
                ItemKind::Backup => self.volumes.converge_backup(&key.id).await,
                ItemKind::Image => prefetch::converge(&self.servers, self.desired.image(&key.id)).await,
                _ => {
                    let result = network::converge(&self.servers.network, &self.desired, &key).await;
                    if key.kind == ItemKind::Router {
                        self.servers.say(Up::Router(network::router_report(&key.id, &result))).await;
                    }
                    result
                }
            }
        })
    }
}

fn external_spec(external: &External) -> Result<net::ExternalSpec, Error> {
    let addresses =
        external.addresses.iter().map(|text| text.parse().map_err(|e| Error::caused(format!("reading the address `{text}`"), e)));
    Ok(net::ExternalSpec {
        physical: external.physical.clone(),
        device: external.device.clone(),
        host_addresses: addresses.collect::<Result<_, _>>()?,
        mtu: 1500,
    })
}
