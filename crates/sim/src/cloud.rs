//! A whole cloud in one process: a store, a controller and its loops, and hosts on wires that can be cut.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::DuplexStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use unkai_control::volume::operate::{self, PoolWish};
use unkai_control::{Controller, Images};
use unkai_link::item::HostId;
use unkai_link::server::{BoxFuture, Bytes, LinkServer};
use unkai_model::compute::{BootDisk, FlavorCopy, Launch, Run, Server, ServerSpec, ServerStatus, Verb, VmState};
use unkai_model::image::Image;
use unkai_model::volume::{AttachState, Attachment, Backend, Mode, Pool, Source, Volume, VolumeSpec, VolumeType};
use unkai_model::{Error, Id, Meta};
use unkai_store::engine::Remote;
use unkai_store::{Revision, Store, Tx};

use crate::host::{self, Agent, Machine};
use crate::pause::{Gate, Held};
use crate::wire;

/// There are no images: simulated servers have no disks.
pub struct NoImages;

impl Images for NoImages {
    fn open(&self, image: Id<Image>) -> BoxFuture<'_, Result<(Bytes, u64), Error>> {
        Box::pin(async move { Err(Error::not_found::<Image>(&image)) })
    }
    fn take(&self, image: Id<Image>, _: Bytes) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move { Err(Error::not_found::<Image>(&image)) })
    }
}

/// A task that ends with its owner.
pub struct Task(JoinHandle<()>);

impl Task {
    pub fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Task(tokio::spawn(work))
    }
}

impl Task {
    pub fn is_over(&self) -> bool {
        self.0.is_finished()
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How controllers in one process that share a store hear of each other. There is one writer, so every view has all that was written.
#[derive(Default)]
pub struct Neighbours(Mutex<BTreeMap<String, u64>>);

impl Remote for Neighbours {
    fn newest(&self) -> oneshot::Receiver<Result<Revision, Error>> {
        told(0)
    }

    fn beat(&self, name: &str) -> oneshot::Receiver<Result<Vec<(String, u64)>, Error>> {
        let mut beats = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *beats.entry(name.to_owned()).or_default() += 1;
        told(beats.iter().map(|(name, beats)| (name.clone(), *beats)).collect())
    }
}

fn told<T>(answer: T) -> oneshot::Receiver<Result<T, Error>> {
    let (tell, told) = oneshot::channel();
    // Its other end is in this function.
    let _ = tell.send(Ok(answer));
    told
}

/// A controller on a store: the real loops and the real end of the link. Dropped, it is dead at once.
pub struct ControllerProcess {
    pub link: Arc<LinkServer>,
    /// Closed while the process is stopped.
    pub gate: Gate,
    _loops: Task,
    connections: Mutex<Vec<Task>>,
}

impl ControllerProcess {
    pub fn start(store: &Store) -> Self {
        let gate = Gate::default();
        let control = Held { control: Controller::new(store.clone(), Arc::new(NoImages)), gate: gate.clone() };
        let link = LinkServer::new(store.clone(), Arc::new(control));
        let loops = Task::spawn(gate.clone().hold(unkai_control::run(store.clone(), link.clone())));
        ControllerProcess { link, gate, _loops: loops, connections: Mutex::default() }
    }

    /// Serves a host's connection for as long as the process lives.
    pub fn serve(&self, stream: DuplexStream, host: &HostId) {
        let task = Task::spawn(self.gate.clone().hold(self.link.clone().serve(stream, host.clone())));
        let mut connections = self.connections.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        connections.retain(|task| !task.is_over());
        connections.push(task);
    }
}

/// Starts a machine's agent towards this controller, over a wire of its own.
pub fn attach(controller: &ControllerProcess, machine: &Machine, pace: Duration) -> Task {
    let agent = Agent { machine: machine.clone(), inventory: host::inventory(machine.host.as_str()), pace };
    let (link, host) = (controller.link.clone(), machine.host.clone());
    Task::spawn(agent.run(move || std::future::ready(Ok(wire::connect(&link, &host)))))
}

pub fn machine(number: usize) -> Machine {
    Machine::new(HostId::new(format!("host-{number}")))
}

/// Asks for a server, as a dialect does.
pub fn create_server(tx: &mut Tx, name: &str) -> Result<Id<Server>, Error> {
    let flavor = FlavorCopy { id: "f".into(), name: "f".into(), vcpus: 1, ram_mib: 512, ..FlavorCopy::default() };
    let mut server = Server {
        meta: Meta::new(tx.new_id()).named(name),
        spec: ServerSpec::new("u", Launch::new(flavor, name)),
        status: ServerStatus::default(),
    };
    server.ask(Verb::Create, VmState::Building);
    tx.insert(server).map(|server| server.meta.id.clone())
}

/// Asks for another state.
pub fn ask(tx: &mut Tx, id: &Id<Server>, run: Run, verb: Verb) -> Result<(), Error> {
    tx.update(id, |server: &mut Server| {
        server.spec.run = run;
        server.ask(verb, VmState::Active);
        Ok::<_, Error>(())
    })
    .map(drop)
}

/// A pool for hosts, or for all, as operators make it; the directory means nothing here.
pub fn create_pool(tx: &mut Tx, name: &str, hosts: &[HostId], keeps_backups: bool) -> Result<Id<Pool>, Error> {
    operate::standard_type(tx)?;
    let backend = Backend::Files { dir: format!("/pools/{name}").into() };
    let (hosts, capabilities) = (hosts.iter().cloned().collect(), Default::default());
    operate::create(tx, PoolWish { name: name.into(), backend, hosts, keeps_backups, overcommit: 1.0, capabilities })
}

/// Asks for a volume. With the name of a pool it goes there, by a type of its own.
pub fn create_volume(tx: &mut Tx, name: &str, source: Source, pool: Option<&str>) -> Result<Id<Volume>, Error> {
    let volume_type = type_for(tx, pool.unwrap_or("standard"), pool)?;
    let spec = VolumeSpec { source, ..VolumeSpec::new("u", volume_type, 1) };
    let meta = Meta::new(tx.new_id()).named(name);
    tx.insert(Volume { meta, spec, status: Default::default() }).map(|volume| volume.meta.id.clone())
}

fn type_for(tx: &mut Tx, name: &str, pool: Option<&str>) -> Result<Id<VolumeType>, Error> {
    if let Some(known) = tx.holder("volume-type-name", name) {
        return Ok(known);
    }
    let extra_specs = pool.map(|pool| ("volume_backend_name".to_owned(), pool.to_owned())).into_iter().collect();
    let meta = Meta::new(tx.new_id()).named(name);
    let (access, description, encryption, encryption_id) = Default::default();
    tx.insert(VolumeType { meta, description, public: true, access, extra_specs, encryption, encryption_id })
        .map(|made| made.meta.id.clone())
}

/// Changes what is wanted of a volume.
pub fn change_volume(tx: &mut Tx, id: &Id<Volume>, change: impl FnOnce(&mut VolumeSpec)) -> Result<(), Error> {
    tx.update(id, |volume: &mut Volume| {
        change(&mut volume.spec);
        volume.meta.generation += 1;
        Ok::<_, Error>(())
    })
    .map(drop)
}

/// Asks for a server that starts from a new volume, which ends with it.
pub fn create_server_on_volume(tx: &mut Tx, name: &str, pool: Option<&str>) -> Result<Id<Server>, Error> {
    let volume = create_volume(tx, name, Source::Blank, pool)?;
    let server = create_server(tx, name)?;
    tx.update(&server, |server: &mut Server| {
        server.spec.launch.boot = BootDisk::Volume;
        Ok::<_, Error>(())
    })?;
    let id = attachment(tx, &volume, &server, "/dev/vda")?;
    tx.update(&id, |attachment: &mut Attachment| {
        (attachment.boot_index, attachment.delete_on_termination) = (Some(0), true);
        Ok::<_, Error>(())
    })?;
    Ok(server)
}

/// Asks for a volume to be attached to a server that is there.
pub fn attach_volume(tx: &mut Tx, volume: &Id<Volume>, server: &Id<Server>, device: &str) -> Result<Id<Attachment>, Error> {
    tx.update(server, |server: &mut Server| {
        server.meta.generation += 1;
        Ok::<_, Error>(())
    })?;
    attachment(tx, volume, server, device)
}

fn attachment(tx: &mut Tx, volume: &Id<Volume>, server: &Id<Server>, device: &str) -> Result<Id<Attachment>, Error> {
    let fence = tx.update(volume, |volume: &mut Volume| {
        volume.spec.fence += 1;
        Ok::<_, Error>(())
    })?;
    let new = Attachment::new(Meta::new(tx.new_id()), volume.clone(), Some(server.clone()), Mode::ReadWrite);
    let (state, device, fence, generation) =
        (AttachState::Attaching, Some(device.to_owned()), fence.spec.fence, tx.require(server)?.meta.generation);
    tx.insert(Attachment { state, device, fence, generation, ..new }).map(|made| made.meta.id.clone())
}

/// Asks for it to be taken away again.
pub fn detach_volume(tx: &mut Tx, id: &Id<Attachment>) -> Result<(), Error> {
    let server = tx.require(id)?.server.clone().ok_or_else(|| Error::invalid("it is attached to no server"))?;
    let generation = tx.update(&server, |server: &mut Server| {
        server.meta.generation += 1;
        Ok::<_, Error>(())
    })?;
    tx.update(id, |attachment: &mut Attachment| {
        (attachment.state, attachment.generation) = (AttachState::Detaching, generation.meta.generation);
        Ok::<_, Error>(())
    })
    .map(drop)
}
