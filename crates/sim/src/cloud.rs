//! A whole cloud in one process: a store, a controller and its loops, and hosts on wires that can be cut.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::DuplexStream;
use tokio::task::JoinHandle;
use unkai_control::{Controller, Images};
use unkai_link::item::HostId;
use unkai_link::server::{BoxFuture, Bytes, LinkServer};
use unkai_model::compute::{FlavorCopy, Launch, Run, Server, ServerSpec, ServerStatus, Verb, VmState};
use unkai_model::image::Image;
use unkai_model::{Error, Id, Meta};
use unkai_store::{Store, Tx};

use crate::host::{self, Agent, Machine};
use crate::wire;

/// There are no images: simulated servers have no disks.
struct NoImages;

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

/// A controller on a store: the real loops and the real end of the link. Dropped, it is dead at once.
pub struct ControllerProcess {
    pub link: Arc<LinkServer>,
    _loops: Task,
    connections: Mutex<Vec<Task>>,
}

impl ControllerProcess {
    pub fn start(store: &Store) -> Self {
        let control = Controller::new(store.clone(), Arc::new(NoImages));
        let link = LinkServer::new(store.clone(), control);
        let loops = Task::spawn(unkai_control::run(store.clone(), link.clone()));
        ControllerProcess { link, _loops: loops, connections: Mutex::default() }
    }

    /// Serves a host's connection for as long as the process lives.
    pub fn serve(&self, stream: DuplexStream, host: &HostId) {
        let task = Task::spawn(self.link.clone().serve(stream, host.clone()));
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
