//! The destination: listens for the source, makes a machine like the source's, fills it, and starts the guest when the source has let go.

use std::collections::BTreeSet;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, UnixStream};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;
use unkai_crashpoint::point;
use unkai_driver_qemu::{ExitReason, LaunchSpec, Source, Tap, Vm};
use unkai_link::item::ServerItem;
use unkai_link::migration::{Partner, Role, Stage};
use unkai_link::peers;
use unkai_model::Error;
use unkai_model::compute::Run;
use uuid::Uuid;

use super::channel::{self, Channel, FromDestination, FromSource, Portrait, Words};
use super::files;
use super::plan::{Note, Part};
use super::portrait::{self, Copies};
use crate::server::act::{Servers, chain};
use crate::server::define::{self, Bases};
use crate::server::plan::{Done, Shape};

/// The last of the memory may still be on its way through this process when the source says that it has sent all.
const TAIL: Duration = Duration::from_secs(30);
/// The same when the source is gone.
const LOST_TAIL: Duration = Duration::from_secs(2);

/// A guest that is awaited here by this process.
pub struct Arriving {
    pub endpoint: (u16, String),
    /// Held by whoever starts the guest, or gives it up.
    gate: Arc<tokio::sync::Mutex<()>>,
    attending: AbortOnDropHandle<()>,
}

impl Arriving {
    pub fn is_attended(&self) -> bool {
        !self.attending.is_finished()
    }
}

/// How far the task that attends to an arrival came.
enum Took {
    Arrived,
    /// All of it is here, and the source is gone: whether it has let go is for the controller to say.
    Waits,
}

impl Servers {
    /// Begins to listen for the source.
    pub(in crate::server) async fn listen_for(&self, uuid: Uuid, item: &ServerItem) -> Result<(), Error> {
        let Some(moving) = &item.migration else { return Ok(()) };
        let Role::Arrive { from, cold, .. } = &moving.role else { return Ok(()) };
        let tls = self.listener_tls(from)?;
        let listener = channel::listen()?;
        let port = listener.local_addr().map_err(|e| Error::caused("listening for another host", e))?.port();
        let token = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let id = item.id.to_string();
        self.note_move(&id, &moving.id, Part::Arriving)?;
        let gate = Arc::new(tokio::sync::Mutex::new(()));
        let arrival = Arrival {
            servers: self.clone(),
            uuid,
            id: id.clone(),
            migration: moving.id.clone(),
            listener,
            tls,
            token: token.clone(),
            gate: gate.clone(),
            cold: *cold,
        };
        let attending = AbortOnDropHandle::new(tokio::spawn(arrival.attend()));
        let arriving = Arriving { endpoint: (port, token), gate, attending };
        self.lock_arrivals().insert(id, arriving);
        Ok(())
    }

    fn listener_tls(&self, from: &Partner) -> Result<Arc<ServerConfig>, Error> {
        let (authority, own) = self.membership()?.identity()?;
        peers::listener(&authority, own, from.clone())
    }

    /// Nothing of the guest will be started here in this move. What is here of it goes; the note stays.
    pub(in crate::server) async fn give_up(&self, uuid: Uuid, id: &str, migration: &str, reason: &str) -> Result<(), Error> {
        let gate = self.lock_arrivals().get(id).map(|arriving| arriving.gate.clone());
        let gate = gate.unwrap_or_default();
        let _held = gate.lock().await;
        self.lock_arrivals().remove(id);
        self.give_up_held(uuid, id, migration, reason).await
    }

    /// Nobody attends to it from now on.
    pub(in crate::server) async fn forget_arrival(&self, id: &str) {
        let gate = self.lock_arrivals().get(id).map(|arriving| arriving.gate.clone());
        let gate = gate.unwrap_or_default();
        let _held = gate.lock().await;
        self.lock_arrivals().remove(id);
    }

    async fn give_up_held(&self, uuid: Uuid, id: &str, migration: &str, reason: &str) -> Result<(), Error> {
        if self.moved(id)?.is_some_and(|note| note.migration == migration && matches!(note.part, Part::Going | Part::Arrived)) {
            return Ok(());
        }
        tracing::info!(server = id, migration, reason, "does not come");
        // First that it never runs here, then that this is known.
        self.clear(uuid, id).await?;
        self.note(id, |done| {
            let moving = Some(Note { migration: migration.to_owned(), part: Part::GaveUp(reason.to_owned()) });
            *done = Done { moving, ..Done::default() };
        })
    }

    /// The source has let go: from the note on the guest is this host's.
    pub(in crate::server) async fn begin(&self, uuid: Uuid, id: &str, migration: &str) -> Result<(), Error> {
        let gate = self.lock_arrivals().get(id).map(|arriving| arriving.gate.clone());
        let gate = gate.unwrap_or_default();
        let _held = gate.lock().await;
        self.begin_held(uuid, id, migration).await
    }

    async fn begin_held(&self, uuid: Uuid, id: &str, migration: &str) -> Result<(), Error> {
        match self.moved(id)?.filter(|note| note.migration == migration).map(|note| note.part) {
            Some(Part::Arriving) if self.is_cold(id, migration) => {
                self.adopt_files(uuid, id).await?;
                return self.note_move(id, migration, Part::Arrived);
            }
            Some(Part::Arriving) => {
                match tokio::time::timeout(TAIL, self.vm(uuid).await?.received()).await {
                    Ok(received) => received.map_err(|e| Error::caused(format!("receiving server {id}"), e))?,
                    Err(_) => return Err(Error::conflict("the last of the guest did not come")),
                }
                if !self.lease.covers(uuid) || !self.lease.holds() {
                    return Err(Error::conflict("the destination has no lease"));
                }
                self.note_move(id, migration, Part::Going)?;
            }
            Some(Part::Going) => {}
            Some(Part::Arrived) => return Ok(()),
            Some(Part::GaveUp(reason)) => return Err(Error::conflict(reason)),
            _ => return Err(Error::conflict("nothing of it is here")),
        }
        point("move: before the guest is started");
        let run = self.desired.server(id).is_none_or(|item| item.run != Run::Paused);
        match self.qemu.vm(uuid).await {
            Some(vm) => {
                vm.start_received(run).await.map_err(|e| Error::caused(format!("starting server {id}, which has come here"), e))?;
                point("move: the guest is started");
            }
            // Its disks are whole: it is this host's, and off.
            None => tracing::warn!(server = id, "its machine ended as it arrived"),
        }
        self.note_move(id, migration, Part::Arrived)
    }

    fn is_cold(&self, id: &str, migration: &str) -> bool {
        let moving = self.desired.server(id).and_then(|item| item.migration);
        moving.is_some_and(|moving| moving.id == migration && matches!(moving.role, Role::Arrive { cold: true, .. }))
    }

    /// The files that have come are the disks.
    async fn adopt_files(&self, uuid: Uuid, id: &str) -> Result<(), Error> {
        let spec = self.qemu.ledger(uuid).map_err(|e| Error::caused(format!("reading what server {id} is"), e))?.spec;
        for disk in spec.disks.iter().filter(|disk| !matches!(disk.source, Source::Given { .. })) {
            let adopted = self.qemu.adopt_file(uuid, &disk.id).await;
            adopted.map_err(|e| Error::caused(format!("taking disk {} of server {id}", disk.id), e))?;
        }
        Ok(())
    }

    /// The definition and the disks, as far as they are made here.
    async fn define_here(&self, uuid: Uuid, item: &ServerItem, portrait: &Portrait) -> Result<Copies, Error> {
        let id = item.id.as_str();
        let (spec, copies) = self.machine_like(uuid, item, portrait).await?;
        self.note(id, |done| {
            done.incarnation = item.incarnation;
            done.hard_reboots = item.hard_reboots;
            done.soft_reboots = item.soft_reboots;
        })?;
        let drive = portrait::config_drive(portrait)?;
        let defined = self.qemu.define_arriving(spec, item.generation, drive).await;
        defined.map_err(|e| Error::caused(format!("defining server {id}"), e))?;
        self.note(id, |done| {
            done.shape = Some(Shape::of(item));
            done.launched = true;
        })?;
        Ok(copies)
    }

    /// A machine like the one of the portrait, without running processors. Answers it, where its disks are written, and which are to be sent.
    async fn make_ready(&self, uuid: Uuid, item: &ServerItem, portrait: &Portrait) -> Result<(Vm, PathBuf, Copies), Error> {
        let id = item.id.as_str();
        let copies = self.define_here(uuid, item, portrait).await?;
        let failed = |what: &'static str| move |e: unkai_driver_qemu::Error| Error::caused(format!("{what} server {id}"), e);
        let mut taps = Vec::new();
        for port in self.ports(item)? {
            taps.push(Tap { fd: self.open_port(id, &port, true).await?, port: port.id });
        }
        let vm = self.qemu.launch_incoming(uuid, taps, self.give_all(item).await?).await.map_err(failed("making a machine for"))?;
        let disks: Vec<String> = copies.iter().map(|(disk, _)| disk.clone()).collect();
        let socket = vm.export_disks(&disks).await.map_err(failed("opening the disks of"))?;
        Ok((vm, socket, copies))
    }

    async fn machine_like(&self, uuid: Uuid, item: &ServerItem, portrait: &Portrait) -> Result<(LaunchSpec, Copies), Error> {
        let mut bases = self.bases(item, true).await?;
        let mut old = None;
        if !portrait::same_base(portrait, bases.root.as_ref()) {
            bases = Bases { root: None, ..bases };
            old = portrait::alone(uuid, portrait);
        }
        let ours = define::spec(item, &self.ports(item)?, self.volumes_of(item).await?, bases, old.as_ref())?;
        portrait::fit(ours, portrait)
    }
}

/// One arrival, as the task that attends to it has it.
struct Arrival {
    servers: Servers,
    uuid: Uuid,
    id: String,
    migration: String,
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    token: String,
    gate: Arc<tokio::sync::Mutex<()>>,
    /// Its disks come as files.
    cold: bool,
}

impl Arrival {
    async fn attend(self) {
        match self.take_in().await {
            Ok(Took::Arrived | Took::Waits) => {}
            Err(error) => {
                let _held = self.gate.lock().await;
                if let Err(error) = self.servers.give_up_held(self.uuid, &self.id, &self.migration, &chain(&error)).await {
                    tracing::error!(server = self.id, %error, "what came of a server is not cleared yet");
                }
            }
        }
        self.servers.wake(&self.id);
    }

    async fn take_in(&self) -> Result<Took, Error> {
        let mut words = self.first_words().await?;
        let portrait = match words.next::<FromSource>().await? {
            FromSource::Hello(portrait) => portrait,
            FromSource::Go(_) => return Err(Error::invalid("the source lets go of what it has not sent")),
        };
        let item = self.servers.desired.server(&self.id).ok_or_else(|| Error::conflict("it is not wanted here any more"))?;
        if self.cold {
            return self.take_files(&mut words, &item, &portrait).await;
        }
        let (vm, socket, copies) = match self.servers.make_ready(self.uuid, &item, &portrait).await {
            Ok(ready) => ready,
            Err(error) => return Err(self.refuse(&mut words, error).await),
        };
        words.say(&FromDestination::Ready(copies.clone())).await?;
        let mut carriers = JoinSet::new();
        let said = tokio::select! {
            word = words.next::<FromSource>() => Ok(word),
            Err(error) = self.carry(&vm, &socket, &copies, &mut carriers) => Err(error),
            exit = vm.exited() => Err(Error::conflict(format!("the machine at the destination ended: {}", words_of(&exit.reason)))),
        };
        let said = match said {
            Ok(said) => said,
            Err(error) => return Err(self.refuse(&mut words, error).await),
        };
        match said {
            Ok(FromSource::Go(flows)) => {
                point("move: the source says that it has let go");
                self.servers.adopt_flows(&item, flows).await;
                self.go(&mut words).await
            }
            Ok(FromSource::Hello(_)) => Err(Error::invalid("the source says twice what it sends")),
            Err(error) => match tokio::time::timeout(LOST_TAIL, vm.received()).await {
                Ok(Ok(())) => Ok(Took::Waits),
                _ => Err(error),
            },
        }
    }

    /// Tells the source why not.
    async fn refuse(&self, words: &mut Words, error: Error) -> Error {
        let _ = words.say(&FromDestination::GaveUp(chain(&error))).await;
        error
    }

    async fn take_files(&self, words: &mut Words, item: &ServerItem, portrait: &Portrait) -> Result<Took, Error> {
        let copies = match self.servers.define_here(self.uuid, item, portrait).await {
            Ok(copies) => copies,
            Err(error) => return Err(self.refuse(words, error).await),
        };
        words.say(&FromDestination::Ready(copies.clone())).await?;
        let mut awaited: BTreeSet<String> = copies.into_iter().map(|(disk, _)| disk).collect();
        let said = tokio::select! {
            word = words.next::<FromSource>() => word?,
            Err(error) = self.take_each(&mut awaited) => return Err(error),
        };
        match said {
            FromSource::Go(_) if awaited.is_empty() => self.go(words).await,
            _ => Err(Error::invalid("the source lets go of what it has not sent")),
        }
    }

    /// Takes files for as long as it is polled.
    async fn take_each(&self, awaited: &mut BTreeSet<String>) -> Result<(), Error> {
        loop {
            match channel::accept(&self.listener, &self.tls, &self.token).await? {
                (Channel::Disk(id), mut stream) if awaited.contains(&id) => {
                    files::receive(&self.servers.qemu.arriving_file(self.uuid, &id), &mut stream).await?;
                    awaited.remove(&id);
                    files::acknowledge(&mut stream).await?;
                }
                (other, _) => tracing::warn!(server = self.id, ?other, "the source sends what was not asked for"),
            }
        }
    }

    /// The source has let go.
    async fn go(&self, words: &mut Words) -> Result<Took, Error> {
        let begun = {
            let _held = self.gate.lock().await;
            self.servers.begin_held(self.uuid, &self.id, &self.migration).await
        };
        if let Err(error) = &begun {
            // If the guest is this host's by now, the worker goes on with it.
            if self.servers.moved(&self.id)?.is_some_and(|note| matches!(note.part, Part::Going)) {
                return Ok(Took::Waits);
            }
            let reason = chain(error);
            let _held = self.gate.lock().await;
            self.servers.give_up_held(self.uuid, &self.id, &self.migration, &reason).await?;
            let _ = words.say(&FromDestination::GaveUp(reason)).await;
            return Ok(Took::Waits);
        }
        let _ = words.say(&FromDestination::Arrived).await;
        self.servers.say_stage(&self.id, &self.migration, Stage::Arrived).await;
        Ok(Took::Arrived)
    }

    async fn first_words(&self) -> Result<Words, Error> {
        loop {
            match channel::accept(&self.listener, &self.tls, &self.token).await? {
                (Channel::Control, stream) => return Ok(Words::new(stream)),
                (other, _) => tracing::warn!(server = self.id, ?other, "the source begins with something else than words"),
            }
        }
    }

    /// Joins what comes to the machine, for as long as it is polled.
    async fn carry(&self, vm: &Vm, disks: &PathBuf, copies: &Copies, carriers: &mut JoinSet<()>) -> Result<(), Error> {
        loop {
            match channel::accept(&self.listener, &self.tls, &self.token).await? {
                (Channel::Disk(id), stream) if copies.iter().any(|(disk, _)| *disk == id) => {
                    let near = UnixStream::connect(disks).await.map_err(|e| Error::caused(format!("opening disk {id}"), e))?;
                    carriers.spawn(channel::pump(near, stream));
                }
                (Channel::Memory, stream) => {
                    let (ours, theirs) = pair()?;
                    vm.receive(theirs.into()).await.map_err(|e| Error::caused(format!("receiving server {}", self.id), e))?;
                    carriers.spawn(channel::pump(ours, stream));
                }
                (other, _) => tracing::warn!(server = self.id, ?other, "the source sends what was not asked for"),
            }
        }
    }
}

fn words_of(reason: &ExitReason) -> String {
    match reason {
        ExitReason::QemuError { text } => text.clone(),
        ExitReason::HostKill { .. } => "it was killed".into(),
        other => format!("{other:?}"),
    }
}

/// A stream socket for QEMU, and its other end.
pub(super) fn pair() -> Result<(UnixStream, StdUnixStream), Error> {
    let made = || {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        Ok((UnixStream::from_std(ours)?, theirs))
    };
    made().map_err(|e: std::io::Error| Error::caused("making a socket for a server's memory", e))
}
