//! Carrying out the steps of [`super::plan`], and the worker around it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, RwLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::mpsc;
use unkai_driver_network::Driver;
use unkai_driver_qemu::{Disk, Nic, NicModel, Qemu, RunState, Source, Tap, Vm};
use unkai_link::client::Link;
use unkai_link::item::{ItemKey, ItemKind, ServerItem, net};
use unkai_link::migration::{MigrationReport, Stage};
use unkai_link::report::{PortReport, ServerReport, Up};
use unkai_model::compute::{Phase, Run, Timeline};
use unkai_model::{Error, Id};
use uuid::Uuid;

use super::define::{self, Bases};
use super::disks;
use super::moving::{Arriving, plan as moves};
use super::plan::{self, Done, Local, Power, Shape, Step, next};
use super::report;
use crate::desired::Desired;
use crate::dial::Membership;
use crate::full;
use crate::images::Images;
use crate::lease::Lease;
use crate::ledger::Ledger;
use crate::network::{before_port, failed};
use crate::worker::{Progress, Workers};

/// How long a guest has to power off when asked.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(60);
const ENDING_PATIENCE: Duration = Duration::from_secs(10);
const UNPLUG_PATIENCE: Duration = Duration::from_secs(30);
/// How often a step is tried for one generation before that generation is given up.
const TRIES: u32 = 4;
/// One that ran for so long begins anew.
const CALM: Duration = Duration::from_secs(300);
/// No plan needs nearly as many steps.
const MOST_STEPS: usize = 64;

/// The servers of this host. Cheap to clone.
#[derive(Clone)]
pub struct Servers {
    pub qemu: Qemu,
    pub network: Driver,
    pub images: Images,
    pub desired: Desired,
    pub lease: Lease,
    ledger: Ledger,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    link: RwLock<Option<Link>>,
    up: RwLock<Option<mpsc::Sender<Up>>>,
    /// The last report of each server, so that nothing is said twice in one session.
    said: Mutex<HashMap<String, ServerReport>>,
    ports_said: Mutex<HashMap<String, bool>>,
    tries: Mutex<HashMap<String, (u64, u32)>>,
    timelines: Mutex<HashMap<String, Timeline>>,
    /// All that is assigned to this host has been heard in the present session.
    synced: AtomicBool,
    /// How often each server was started again lately, and when last.
    restarts: Mutex<HashMap<String, (u32, Instant)>>,
    /// Guests that this process waits for.
    arrivals: Mutex<HashMap<String, Arriving>>,
    moves_said: Mutex<HashMap<String, MigrationReport>>,
    membership: OnceLock<Arc<dyn Membership>>,
    workers: OnceLock<Workers>,
}

impl Servers {
    pub fn new(qemu: Qemu, network: Driver, images: Images, desired: Desired, lease: Lease, ledger: Ledger) -> Self {
        Servers { qemu, network, images, desired, lease, ledger, shared: Arc::default() }
    }

    /// Before anything is done: who this host is to others, and whom to wake when something happens to a server.
    pub fn begin_work(&self, membership: Arc<dyn Membership>, workers: Workers) {
        let _ = self.shared.membership.set(membership);
        let _ = self.shared.workers.set(workers);
    }

    pub(super) fn membership(&self) -> Result<Arc<dyn Membership>, Error> {
        self.shared.membership.get().cloned().ok_or_else(|| Error::unavailable("the agent is starting"))
    }

    pub(super) fn wake(&self, id: &str) {
        if let Some(workers) = self.shared.workers.get() {
            workers.wake(&ItemKey { kind: ItemKind::Server, id: id.to_owned() });
        }
    }

    pub(super) fn lock_arrivals(&self) -> MutexGuard<'_, HashMap<String, Arriving>> {
        self.shared.arrivals.lock().unwrap_or_else(|p| p.into_inner())
    }

    /// A session began or ended. A new one is told everything anew.
    pub fn connected(&self, session: Option<(Link, mpsc::Sender<Up>)>) {
        self.shared.synced.store(false, Relaxed);
        let (link, up) = session.unzip();
        *self.shared.link.write().unwrap_or_else(|p| p.into_inner()) = link;
        *self.shared.up.write().unwrap_or_else(|p| p.into_inner()) = up;
        self.shared.said.lock().unwrap_or_else(|p| p.into_inner()).clear();
        self.shared.moves_said.lock().unwrap_or_else(|p| p.into_inner()).clear();
        self.shared.ports_said.lock().unwrap_or_else(|p| p.into_inner()).clear();
    }

    /// The present session has said all that is assigned to this host.
    pub fn synced(&self) {
        self.shared.synced.store(true, Relaxed);
    }

    pub fn link(&self) -> Result<Link, Error> {
        let link = self.shared.link.read().unwrap_or_else(|p| p.into_inner()).clone();
        link.ok_or_else(|| Error::unavailable("no controller is connected"))
    }

    /// Says something to the controller; lost when none is connected, and said again by the next session.
    pub async fn say(&self, up: Up) {
        let sender = self.shared.up.read().unwrap_or_else(|p| p.into_inner()).clone();
        if let Some(sender) = sender {
            let _ = sender.send(up).await;
        }
    }

    /// Ids of servers that have anything here, wanted or not.
    pub fn present(&self) -> Result<Vec<String>, Error> {
        self.ledger.all::<Named>().map(|all| all.into_iter().map(|named| named.id).collect())
    }

    /// Files that disks of servers here stand on.
    pub fn bases_in_use(&self) -> Vec<std::path::PathBuf> {
        let ids = self.present().unwrap_or_default();
        let specs = ids.iter().filter_map(|id| Some(self.qemu.ledger(Uuid::parse_str(id).ok()?).ok()?.spec));
        specs
            .flat_map(|spec| spec.disks)
            .filter_map(|disk| match disk.source {
                Source::Overlay { base, .. } => Some(base),
                _ => None,
            })
            .collect()
    }

    pub async fn converge(&self, id: &str) -> Result<Progress, Error> {
        let Some(item) = self.desired.server(id) else { return self.unwanted(id).await };
        match self.reach(&item).await {
            Ok(()) => {
                self.tried(id, item.generation, true);
                Ok(Progress::Settled)
            }
            Err(error @ Error::Unavailable(_)) => Err(error),
            Err(error) if plan::arrives(&item) => self.cannot_come(&item, error).await,
            Err(error) if self.tried(id, item.generation, false) < TRIES => Err(error),
            Err(error) => {
                let text = chain(&error);
                tracing::error!(server = id, generation = item.generation, error = text, "given up");
                self.report(&item, Phase::Failed(text)).await;
                // Room may be made without anybody touching this server.
                if full::is_full(&error) { Err(error) } else { Ok(Progress::Settled) }
            }
        }
    }

    /// What comes here is wanted elsewhere too: there it goes on.
    async fn cannot_come(&self, item: &ServerItem, error: Error) -> Result<Progress, Error> {
        if let Some(moving) = &item.migration {
            self.give_up(define::uuid(item)?, item.id.as_str(), &moving.id, &chain(&error)).await?;
        }
        Err(error)
    }

    /// Nobody wants it any more, and nobody waits for a report.
    async fn unwanted(&self, id: &str) -> Result<Progress, Error> {
        if let Ok(uuid) = Uuid::parse_str(id) {
            self.remove(uuid, id).await?;
        }
        Ok(Progress::Over)
    }

    async fn reach(&self, first: &ServerItem) -> Result<(), Error> {
        let uuid = define::uuid(first)?;
        for _ in 0..MOST_STEPS {
            let id = first.id.as_str();
            let Some(item) = self.desired.server(id) else { return Ok(()) };
            self.heed_lease(uuid, &item).await?;
            let local = self.look(uuid, id).await?;
            let Some(step) = next(&item, &local) else {
                return self.settled(&item, &local).await;
            };
            tracing::info!(server = id, generation = item.generation, ?step, "step");
            if let Some(text) = says(&step) {
                self.report(&item, Phase::Preparing(text.into())).await;
            }
            self.step(uuid, &item, &local, step).await?;
        }
        Err(Error::internal(format!("server {} does not settle", first.id)))
    }

    /// The lease names a server before it runs under it, and until it does no longer.
    async fn heed_lease(&self, uuid: Uuid, item: &ServerItem) -> Result<(), Error> {
        if matches!(item.run, Run::Deleted | Run::Offloaded) {
            return Ok(());
        }
        if plan::is_kept(item) {
            return self.lease.release(uuid);
        }
        // One that comes here is guarded until the store says that it is here: this host may be lost with it before.
        if !item.leased && !plan::arrives(item) {
            return if self.lease.names(uuid) { self.lease.release(uuid) } else { Ok(()) };
        }
        if self.lease.covers(uuid) {
            return Ok(());
        }
        // Named without a lease, it would be ended if it runs.
        if !self.lease.names(uuid) && !self.lease.holds() {
            return Err(Error::unavailable(format!("server {} needs a lease, and this host has none", item.id)));
        }
        self.lease.protect(uuid).await
    }

    async fn settled(&self, item: &ServerItem, local: &Local) -> Result<(), Error> {
        let elsewhere = moves::is_elsewhere(item, local.done.moving.as_ref());
        if local.done.generation != item.generation && local.traces && !elsewhere {
            self.note(item.id.as_str(), |done| done.generation = item.generation)?;
            if local.defined {
                let _ = self.qemu.set_generation(define::uuid(item)?, item.generation).await;
            }
        }
        let id = item.id.as_str();
        let endpoint = self.lock_arrivals().get(id).filter(|arriving| arriving.is_attended()).map(|arriving| arriving.endpoint.clone());
        if let (Some(stage), Some(moving)) = (moves::stage(item, local.done.moving.as_ref(), endpoint), &item.migration) {
            self.say_stage(id, &moving.id, stage).await;
        }
        if elsewhere {
            return Ok(());
        }
        for (port, _) in &local.done.ports {
            self.say_port(port, matches!(local.power, Power::Running | Power::Paused)).await;
        }
        if local.power == Power::Running {
            self.mark(item.id.as_str(), |line| line.launched = line.launched.or(Some(Timestamp::now())));
        }
        // Off for want of a lease is not off: it is started again, here or elsewhere.
        if !plan::waits(item, local) {
            self.report(item, report::phase(item, local)).await;
        }
        Ok(())
    }

    async fn look(&self, uuid: Uuid, id: &str) -> Result<Local, Error> {
        let done: Option<Done> = self.ledger.read::<Entry>(id)?.map(|entry| entry.done);
        let vm = match self.qemu.vm(uuid).await {
            Some(vm) => Some(vm),
            None => self.qemu.adopt(uuid).await.unwrap_or(None),
        };
        // A guest that has just ended still has a process for a moment; what it leaves is known when that is gone.
        let vm = match vm {
            Some(vm) if vm.status().state == RunState::Ending => {
                vm.exited_within(ENDING_PATIENCE).await;
                None
            }
            other => other,
        };
        let ledger = self.qemu.ledger(uuid).ok();
        let power = match (&vm, &ledger) {
            (Some(vm), _) => power_of(vm),
            (None, Some(ledger)) if ledger.suspended => Power::Suspended,
            _ => Power::Off,
        };
        let exit =
            ledger.as_ref().filter(|_| power == Power::Off).and_then(|ledger| report::stop_reason(&ledger.last_exit.as_ref()?.reason));
        let receiving = ledger.as_ref().is_some_and(|ledger| ledger.receiving);
        let attended = self.lock_arrivals().get(id).is_some_and(Arriving::is_attended);
        let here = moves::Here {
            attended,
            whole: match &vm {
                Some(vm) if receiving => vm.has_received().await.unwrap_or(false),
                _ => false,
            },
            machine: vm.is_some(),
            traces: done.is_some() || ledger.is_some(),
        };
        let spec = vm.as_ref().map(Vm::spec).or_else(|| ledger.as_ref().map(|ledger| ledger.spec.clone()));
        Ok(Local {
            traces: done.is_some() || ledger.is_some(),
            // A definition that was interrupted has no shape on record, and is made again.
            defined: ledger.is_some() && done.as_ref().is_some_and(|done| done.shape.is_some()),
            power,
            nics: spec.iter().flat_map(|spec| &spec.nics).map(|nic| nic.port.clone()).collect(),
            volumes: spec.iter().flat_map(|spec| &spec.disks).filter(|disk| is_given(disk)).map(|disk| disk.id.clone()).collect(),
            exit,
            lease: self.shared.synced.load(Relaxed) && self.lease.holds(),
            here,
            done: done.unwrap_or_default(),
        })
    }

    async fn step(&self, uuid: Uuid, item: &ServerItem, local: &Local, step: Step) -> Result<(), Error> {
        let id = item.id.as_str();
        let what = |e: unkai_driver_qemu::Error| Error::caused(format!("{step:?} of server {id}"), e);
        match &step {
            Step::Remove => self.remove(uuid, id).await,
            Step::DiscardRoot => {
                if disks::root(item).is_none() {
                    self.qemu.discard_disk(uuid, define::ROOT).await.map_err(what)?;
                }
                self.note(id, |done| {
                    done.incarnation = item.incarnation;
                    done.shape = None;
                })
            }
            Step::Define => self.define(uuid, item, local).await,
            Step::Launch => {
                if plan::restarts(item, local) {
                    self.restart_may_begin(id)?;
                }
                self.launch(uuid, item).await
            }
            Step::Resume => self.vm(uuid).await?.resume().await.map_err(what),
            Step::Pause => self.vm(uuid).await?.pause().await.map_err(what),
            Step::Suspend => self.vm(uuid).await?.suspend().await.map_err(what),
            Step::DiscardSaved => self.qemu.discard_suspended(uuid).await.map_err(what),
            Step::ShutDown => self.shut_down(uuid, item).await,
            Step::PowerOff => self.vm(uuid).await?.kill().await.map(drop).map_err(what),
            Step::SoftReboot => {
                self.vm(uuid).await?.soft_reboot(SHUTDOWN_PATIENCE).await.map_err(what)?;
                self.note(id, |done| done.soft_reboots = item.soft_reboots)
            }
            Step::Plug(port) => self.plug(uuid, item, port).await,
            Step::Unplug(port) => self.unplug(uuid, id, port).await,
            Step::PlugVolume(volume) => self.plug_volume(uuid, item, volume).await,
            Step::UnplugVolume(volume) => {
                let unplugged = self.vm(uuid).await?.unplug_disk(volume, UNPLUG_PATIENCE).await;
                unplugged.map_err(|e| Error::caused(format!("detaching volume {volume}"), e))
            }
            Step::Move(step) => self.move_on(uuid, item, step).await,
        }
    }

    async fn move_on(&self, uuid: Uuid, item: &ServerItem, step: &moves::Step) -> Result<(), Error> {
        let id = item.id.as_str();
        let noted = || Ok::<_, Error>(self.moved(id)?.map(|note| note.migration));
        let migration = item.migration.as_ref().map(|moving| moving.id.clone());
        match step {
            moves::Step::Clear => self.remove(uuid, id).await,
            moves::Step::Listen => self.listen_for(uuid, item).await,
            moves::Step::Begin => self.begin(uuid, id, &noted()?.unwrap_or_default()).await,
            moves::Step::GiveUp(reason) => self.give_up(uuid, id, &migration.unwrap_or_default(), reason).await,
            moves::Step::SwitchOff => self.shut_down(uuid, item).await,
            moves::Step::Leave => self.leave(uuid, item).await,
            moves::Step::TakeBack(stays) => self.take_back(uuid, item, stays.as_deref()).await,
        }
    }

    /// One that ends again and again is started again ever later.
    fn restart_may_begin(&self, id: &str) -> Result<(), Error> {
        let mut restarts = self.shared.restarts.lock().unwrap_or_else(|p| p.into_inner());
        let now = Instant::now();
        let (count, last) = restarts.get(id).copied().filter(|(_, last)| now - *last < CALM).unwrap_or((0, now));
        let pause = if count == 0 { Duration::ZERO } else { Duration::from_secs(1 << count.min(6)) };
        if now - last < pause {
            return Err(Error::unavailable(format!("server {id} has ended {count} times lately and is started again a little later")));
        }
        restarts.insert(id.to_owned(), (count + 1, now));
        Ok(())
    }

    pub(super) async fn vm(&self, uuid: Uuid) -> Result<Vm, Error> {
        self.qemu.vm(uuid).await.ok_or_else(|| Error::conflict(format!("server {uuid} does not run any more")))
    }

    /// Asks the guest, waits, insists. A newer wish (a deletion, most likely) ends the wait.
    async fn shut_down(&self, uuid: Uuid, item: &ServerItem) -> Result<(), Error> {
        let vm = self.vm(uuid).await?;
        let newer = async {
            loop {
                tokio::time::sleep(Duration::from_millis(100)).await;
                if self.desired.server(item.id.as_str()).is_none_or(|now| now.generation != item.generation) {
                    return;
                }
            }
        };
        tokio::select! {
            stopped = vm.stop(SHUTDOWN_PATIENCE) => stopped.map(drop).map_err(|e| Error::caused(format!("stopping server {uuid}"), e)),
            () = newer => Ok(()),
        }
    }

    async fn define(&self, uuid: Uuid, item: &ServerItem, local: &Local) -> Result<(), Error> {
        let id = item.id.as_str();
        if !local.traces {
            self.note(id, |done| {
                *done = Done {
                    incarnation: item.incarnation,
                    hard_reboots: item.hard_reboots,
                    soft_reboots: item.soft_reboots,
                    ..Done::default()
                };
            })?;
        }
        let old = self.qemu.ledger(uuid).ok().map(|ledger| ledger.spec);
        let ports = self.ports(item)?;
        let fresh = old.is_none() || local.done.shape.is_none();
        let bases = self.bases(item, fresh).await?;
        let networks: Vec<_> = ports.iter().filter_map(|port| self.desired.network(&port.network_id)).collect();
        let spec = define::spec(item, &ports, self.volumes_of(item).await?, bases, old.as_ref())?;
        let drive = define::config_drive(item, &ports, &networks);
        let defined = self.qemu.define(spec, item.generation, drive).await;
        defined.map_err(|e| Error::caused(format!("defining server {id}"), e))?;
        self.note(id, |done| done.shape = Some(Shape::of(item)))
    }

    pub(super) async fn bases(&self, item: &ServerItem, fresh: bool) -> Result<Bases, Error> {
        let mut bases = Bases { root: None, rescue: None, kernel: None, ramdisk: None };
        if let (Some(image), true) = (&item.image, fresh) {
            bases.root = Some(self.images.base(&self.link()?, image).await?);
        }
        if let Some(image) = item.rescue.as_ref().and_then(|rescue| rescue.image.as_ref()) {
            bases.rescue = Some(self.images.base(&self.link()?, image).await?);
        }
        if let Some(kernel) = &item.kernel {
            bases.kernel = Some(self.images.fetch(&self.link()?, kernel).await?);
        }
        if let Some(ramdisk) = &item.ramdisk {
            bases.ramdisk = Some(self.images.fetch(&self.link()?, ramdisk).await?);
        }
        Ok(bases)
    }

    pub(super) fn ports(&self, item: &ServerItem) -> Result<Vec<net::PortSpec>, Error> {
        let known = |id: &String| self.desired.port(id).ok_or_else(|| Error::unavailable(format!("port {id} is not known yet")));
        item.ports.iter().map(known).collect()
    }

    async fn launch(&self, uuid: Uuid, item: &ServerItem) -> Result<(), Error> {
        let id = item.id.as_str();
        let mut taps = Vec::new();
        for port in self.ports(item)? {
            taps.push(Tap { fd: self.open_port(id, &port, false).await?, port: port.id });
        }
        let now = Timestamp::now();
        self.mark(id, |line| line.network_ready = line.network_ready.or(Some(now)));
        let given = self.give_all(item).await?;
        self.qemu.launch(uuid, taps, given).await.map_err(|e| Error::caused(format!("starting server {id}"), e))?;
        let now = Timestamp::now();
        self.mark(id, |line| line.started = line.started.or(Some(now)));
        self.note(id, |done| {
            done.hard_reboots = item.hard_reboots;
            done.soft_reboots = item.soft_reboots;
            done.generation = item.generation;
            done.launched = true;
        })
    }

    pub(super) async fn open_port(&self, server: &str, port: &net::PortSpec, arrives: bool) -> Result<std::os::fd::OwnedFd, Error> {
        before_port(&self.network, &self.desired, port).await?;
        self.note(server, |done| {
            let entry = (port.id.clone(), port.network_id.clone());
            if !done.ports.contains(&entry) {
                done.ports.push(entry);
            }
        })?;
        let opened = if arrives { self.network.open_port_of_guest(port).await } else { self.network.open_port(port).await };
        let opened = opened.map_err(failed(format!("opening port {}", port.id)))?;
        opened.ok_or_else(|| Error::internal(format!("port {} has no tap", port.id)))
    }

    async fn plug(&self, uuid: Uuid, item: &ServerItem, port: &str) -> Result<(), Error> {
        let spec = self.desired.port(port).ok_or_else(|| Error::unavailable(format!("port {port} is not known yet")))?;
        let tap = self.open_port(item.id.as_str(), &spec, false).await?;
        let nic = Nic { port: port.to_owned(), mac: spec.mac.to_string(), model: NicModel::Virtio, slot: None };
        self.vm(uuid).await?.plug_nic(nic, tap).await.map_err(|e| Error::caused(format!("plugging port {port}"), e))?;
        self.say_port(port, true).await;
        Ok(())
    }

    async fn unplug(&self, uuid: Uuid, id: &str, port: &str) -> Result<(), Error> {
        let unplugged = self.vm(uuid).await?.unplug_nic(port, UNPLUG_PATIENCE).await;
        unplugged.map_err(|e| Error::caused(format!("unplugging port {port}"), e))?;
        let done = self.ledger.read::<Entry>(id)?.map(|entry| entry.done).unwrap_or_default();
        if let Some((port, network)) = done.ports.iter().find(|(known, _)| known == port) {
            self.network.remove_port(network, port).await.map_err(failed(format!("removing port {port}")))?;
        }
        self.note(id, |done| done.ports.retain(|(known, _)| known != port))
    }

    /// Everything of the server goes: process, disks, devices, and last the note that there was one.
    async fn remove(&self, uuid: Uuid, id: &str) -> Result<(), Error> {
        self.forget_arrival(id).await;
        self.clear(uuid, id).await?;
        self.ledger.remove(id)?;
        self.shared.restarts.lock().unwrap_or_else(|p| p.into_inner()).remove(id);
        self.shared.timelines.lock().unwrap_or_else(|p| p.into_inner()).remove(id);
        Ok(())
    }

    /// Everything but the note goes.
    pub(super) async fn clear(&self, uuid: Uuid, id: &str) -> Result<(), Error> {
        self.qemu.remove(uuid).await.map_err(|e| Error::caused(format!("removing server {id}"), e))?;
        let done = self.ledger.read::<Entry>(id)?.map(|entry| entry.done).unwrap_or_default();
        for (port, network) in &done.ports {
            self.network.remove_port(network, port).await.map_err(failed(format!("removing port {port}")))?;
        }
        self.lease.release(uuid)
    }

    /// What is written down of the last move.
    pub(super) fn moved(&self, id: &str) -> Result<Option<moves::Note>, Error> {
        Ok(self.ledger.read::<Entry>(id)?.and_then(|entry| entry.done.moving))
    }

    pub(super) fn note_move(&self, id: &str, migration: &str, part: moves::Part) -> Result<(), Error> {
        self.note(id, |done| done.moving = Some(moves::Note { migration: migration.to_owned(), part }))
    }

    pub(super) async fn say_stage(&self, id: &str, migration: &str, stage: Stage) {
        let report = MigrationReport { migration: migration.to_owned(), stage };
        let before = self.shared.moves_said.lock().unwrap_or_else(|p| p.into_inner()).insert(id.to_owned(), report.clone());
        if before.as_ref() != Some(&report) {
            self.say(Up::Migration(report)).await;
        }
    }

    pub(super) fn note(&self, id: &str, change: impl FnOnce(&mut Done)) -> Result<(), Error> {
        let mut entry = self.ledger.read::<Entry>(id)?.unwrap_or_else(|| Entry { id: id.to_owned(), done: Done::default() });
        change(&mut entry.done);
        self.ledger.write(id, &entry)
    }

    fn mark(&self, id: &str, change: impl FnOnce(&mut Timeline)) {
        change(self.shared.timelines.lock().unwrap_or_else(|p| p.into_inner()).entry(id.to_owned()).or_default());
    }

    async fn report(&self, item: &ServerItem, phase: Phase) {
        let id = item.id.as_str();
        let timeline = self.shared.timelines.lock().unwrap_or_else(|p| p.into_inner()).get(id).cloned().unwrap_or_default();
        let report = ServerReport {
            server: item.id.clone(),
            generation: item.generation,
            phase,
            incarnation: item.incarnation,
            leased: item.leased && define::uuid(item).is_ok_and(|uuid| self.lease.covers(uuid)),
            timeline,
        };
        let before = self.shared.said.lock().unwrap_or_else(|p| p.into_inner()).insert(id.to_owned(), report.clone());
        if before.as_ref() != Some(&report) {
            self.say(Up::Server(report)).await;
        }
    }

    async fn say_port(&self, port: &str, up: bool) {
        let before = self.shared.ports_said.lock().unwrap_or_else(|p| p.into_inner()).insert(port.to_owned(), up);
        if before != Some(up) {
            self.say(Up::Port(PortReport { port: Id::new(port), up })).await;
        }
    }

    /// Counts a failure for this generation, or forgets them.
    fn tried(&self, id: &str, generation: u64, success: bool) -> u32 {
        let mut tries = self.shared.tries.lock().unwrap_or_else(|p| p.into_inner());
        if success {
            tries.remove(id);
            return 0;
        }
        let entry = tries.entry(id.to_owned()).or_insert((generation, 0));
        if entry.0 != generation {
            *entry = (generation, 0);
        }
        entry.1 += 1;
        entry.1
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Entry {
    id: String,
    done: Done,
}

#[derive(serde::Deserialize)]
struct Named {
    id: String,
}

fn is_given(disk: &Disk) -> bool {
    matches!(disk.source, Source::Given { .. })
}

fn power_of(vm: &Vm) -> Power {
    match vm.status().state {
        RunState::Running => Power::Running,
        RunState::Paused => Power::Paused,
        RunState::Exited | RunState::Ending => Power::Off,
    }
}

/// Steps that take long enough to be told.
fn says(step: &Step) -> Option<&'static str> {
    match step {
        Step::Define => Some("disks"),
        Step::Launch => Some("starting"),
        _ => None,
    }
}

pub fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
