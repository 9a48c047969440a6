//! The source: describes the machine, sends disks and memory, lets go of the guest, and says so.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use unkai_crashpoint::point;
use unkai_driver_qemu::{Copied, LaunchSpec, Moved, Outgoing, RunState, Transfer, Vm, Wish};
use unkai_link::item::ServerItem;
use unkai_link::migration::{Method, MigrationItem, MigrationProgress, Role, Stage};
use unkai_link::peers;
use unkai_model::Error;
use unkai_model::compute::Run;
use uuid::Uuid;

use super::arrive::pair;
use super::channel::{self, Channel, FromDestination, FromSource, Portrait, Words};
use super::connections::Flows;
use super::files;
use super::plan::Part;
use super::portrait::Copies;
use crate::desired::Desired;
use crate::server::act::{Servers, chain};

/// How often it is told how far it is.
const TELL: Duration = Duration::from_secs(1);
/// How often it is looked whether something else is wanted by now.
const LOOK: Duration = Duration::from_millis(50);
/// How long the destination may take to say that the guest runs. What becomes of it then is for the controller to say.
const ANSWER: Duration = Duration::from_secs(10);

impl Servers {
    /// Moves the server away, as far as that goes: afterwards this host has let go of it, or has written down why it stays.
    pub(in crate::server) async fn leave(&self, uuid: Uuid, item: &ServerItem) -> Result<(), Error> {
        let Some(MigrationItem { id: migration, role: Role::Leave { to, address, token, method, .. }, .. }) = &item.migration else {
            return Ok(());
        };
        let id = item.id.as_str();
        let stays = |reason: &str| self.note_move(id, migration, Part::Stays(reason.to_owned()));
        let (authority, own) = self.membership()?.identity()?;
        let tls = peers::dialler(&authority, own, to.clone())?;
        let leaving = Leaving { servers: self, uuid, item, migration, tls, address: *address, token, method: *method };
        let vm = self.qemu.vm(uuid).await.filter(|vm| matches!(vm.status().state, RunState::Running | RunState::Paused));
        self.note_move(id, migration, Part::Leaving)?;
        let left = match (method, vm) {
            (Method::Cold, None) => leaving.send_files().await,
            (Method::Live | Method::StopAndCopy, Some(vm)) => leaving.send_guest(&vm).await,
            (Method::Cold, Some(_)) => return stays("it runs"),
            (_, None) => return stays("it does not run"),
        };
        match left {
            Ok(()) => Ok(()),
            Err(error) => {
                tracing::warn!(server = id, %error, "stays");
                stays(&chain(&error))
            }
        }
    }

    /// Ends what is left of a move, and lets the guest run on here. `stays`: why, if the move is not over for the controller.
    pub(in crate::server) async fn take_back(&self, uuid: Uuid, item: &ServerItem, stays: Option<&str>) -> Result<(), Error> {
        let id = item.id.as_str();
        if let Some(vm) = self.qemu.vm(uuid).await {
            self.take_ports_back(item).await;
            let taken = vm.take_back(item.run == Run::Running).await;
            taken.map_err(|e| Error::caused(format!("taking server {id} back"), e))?;
        }
        match (stays, &item.migration) {
            (Some(reason), Some(moving)) => self.note_move(id, &moving.id, Part::Stays(reason.to_owned())),
            _ => self.note(id, |done| done.moving = None),
        }
    }
}

struct Leaving<'a> {
    servers: &'a Servers,
    uuid: Uuid,
    item: &'a ServerItem,
    migration: &'a str,
    tls: Arc<ClientConfig>,
    address: SocketAddr,
    token: &'a str,
    method: Method,
}

impl Leaving<'_> {
    fn failed(&self, what: &str) -> impl FnOnce(unkai_driver_qemu::Error) -> Error {
        let text = format!("{what} server {}", self.item.id);
        move |e| Error::caused(text, e)
    }

    async fn dial(&self, channel: Channel) -> Result<channel::Stream, Error> {
        channel::dial(self.address, &self.tls, self.token, channel).await
    }

    /// Keeps a wish what the item says, for as long as the task lives.
    fn follow(&self) -> (Arc<watch::Sender<Wish>>, watch::Receiver<Wish>, AbortOnDropHandle<()>) {
        let (wish, wished) = watch::channel(Wish::Move);
        let wish = Arc::new(wish);
        let follow = follow(self.servers.desired.clone(), self.item.id.to_string(), self.migration.to_owned(), wish.clone());
        (wish, wished, AbortOnDropHandle::new(tokio::spawn(follow)))
    }

    async fn introduce(&self, spec: &LaunchSpec) -> Result<Words, Error> {
        let mut words = Words::new(self.dial(Channel::Control).await?);
        let drive = match spec.config_drive {
            Some(_) => self.servers.qemu.config_drive(self.uuid).await.map_err(self.failed("describing"))?,
            None => None,
        };
        words.say(&FromSource::Hello(Box::new(Portrait::of(spec, drive)))).await?;
        Ok(words)
    }

    /// An error means that the guest is this host's, and runs as before.
    async fn send_guest(&self, vm: &Vm) -> Result<(), Error> {
        let (wish, wished, _follows) = self.follow();
        let spec = vm.portrait().await.map_err(self.failed("describing"))?;
        let mut words = self.introduce(&spec).await?;
        let copies = self.until_ready(&mut words, wished.clone()).await?;
        point("move: all is ready");
        let runs = vm.status().state == RunState::Running;
        let (sent, carriers) = self.send(vm, &mut words, copies, &wish, wished).await?;
        point("move: all is sent");
        let flows = self.servers.flows(self.item).await;
        // From here on this host takes it back only when it is told to.
        if let Err(error) = self.servers.note_move(self.item.id.as_str(), self.migration, Part::HandedOver(progress(&sent.transfer))) {
            vm.take_back(runs).await.map_err(self.failed("taking back"))?;
            return Err(error);
        }
        self.servers.leave_ports(self.item).await;
        point("move: the source has let go and has not said so");
        let stopped = Some(sent.stopped);
        if let Err(reason) = self.hand_over(&mut words, progress(&sent.transfer), stopped, flows).await? {
            self.servers.take_ports_back(self.item).await;
            vm.take_back(runs).await.map_err(self.failed("taking back"))?;
            return Err(Error::conflict(reason));
        }
        drop(carriers);
        Ok(())
    }

    /// The same for one that is off.
    async fn send_files(&self) -> Result<(), Error> {
        let (_wish, mut wished, _follows) = self.follow();
        let spec = self.servers.qemu.ledger(self.uuid).map_err(self.failed("describing"))?.spec;
        let mut words = self.introduce(&spec).await?;
        let copies = self.until_ready(&mut words, wished.clone()).await?;
        point("move: all is ready");
        let given_up = async { drop(wished.wait_for(|wish| *wish == Wish::Abort).await) };
        let progress = tokio::select! {
            sent = self.send_each(copies) => sent?,
            word = words.next::<FromDestination>() => return Err(refusal(word)),
            () = given_up => return Err(Error::conflict("it was given up as was asked")),
        };
        self.servers.note_move(self.item.id.as_str(), self.migration, Part::HandedOver(progress))?;
        point("move: the source has let go and has not said so");
        self.hand_over(&mut words, progress, None, Flows::new()).await?.map_err(Error::conflict)
    }

    async fn send_each(&self, copies: Copies) -> Result<MigrationProgress, Error> {
        let mut files = Vec::new();
        let mut progress = MigrationProgress::default();
        for (disk, whole) in copies {
            let file = self.servers.qemu.leaving_file(self.uuid, &disk, whole).await.map_err(self.failed("opening a disk of"))?;
            progress.disk_total += std::fs::metadata(&file.path).map_or(0, |meta| meta.blocks() * 512);
            files.push((disk, file));
        }
        let (tell, mut told) = watch::channel(progress);
        let sending = async {
            for (disk, file) in files {
                let mut stream = self.dial(Channel::Disk(disk)).await?;
                files::send(&file.path, &mut stream, |bytes| tell.send_modify(|progress| progress.disk_sent += bytes)).await?;
            }
            Ok(())
        };
        tokio::pin!(sending);
        let mut tick = tokio::time::interval(TELL);
        loop {
            tokio::select! {
                sent = &mut sending => return sent.map(|()| *told.borrow_and_update()),
                _ = tick.tick() => {
                    let progress = *told.borrow_and_update();
                    self.servers.say_stage(self.item.id.as_str(), self.migration, Stage::Moving(progress)).await;
                }
            }
        }
    }

    async fn until_ready(&self, words: &mut Words, mut wished: watch::Receiver<Wish>) -> Result<Copies, Error> {
        let said = tokio::select! {
            word = words.next::<FromDestination>() => word?,
            _ = wished.wait_for(|wish| *wish == Wish::Abort) => return Err(Error::conflict("it was given up as was asked")),
        };
        match said {
            FromDestination::Ready(copies) => Ok(copies),
            FromDestination::GaveUp(reason) => Err(Error::conflict(reason)),
            FromDestination::Arrived => Err(Error::invalid("the destination has what was not sent")),
        }
    }

    /// Sends all of it. When this is an error the guest runs on here, and is nowhere else.
    async fn send(
        &self,
        vm: &Vm,
        words: &mut Words,
        copies: Copies,
        wish: &watch::Sender<Wish>,
        wished: watch::Receiver<Wish>,
    ) -> Result<(Moved, JoinSet<()>), Error> {
        let runs = vm.status().state == RunState::Running;
        let mut carriers = JoinSet::new();
        for (disk, _) in &copies {
            let listener = vm.mirror_listener(disk).map_err(self.failed("opening a disk of"))?;
            let far = self.dial(Channel::Disk(disk.clone())).await?;
            carriers.spawn(async move {
                match listener.accept().await {
                    Ok((near, _)) => channel::pump(near, far).await,
                    Err(error) => tracing::warn!(%error, "QEMU does not send a disk"),
                }
            });
        }
        let (ours, theirs) = pair()?;
        carriers.spawn(channel::pump(ours, self.dial(Channel::Memory).await?));
        let disks = copies.into_iter().map(|(disk, whole)| Copied { disk, whole }).collect();
        let outgoing = Outgoing { memory: theirs.into(), disks, stop_first: self.method == Method::StopAndCopy };
        let (tell, told) = watch::channel(Transfer::default());
        let mut sending = Box::pin(vm.send(outgoing, wished, tell));
        let mut tick = tokio::time::interval(TELL);
        let mut refusal = None;
        let sent = loop {
            tokio::select! {
                sent = &mut sending => break sent,
                _ = tick.tick() => {
                    let progress = progress(&told.borrow());
                    self.servers.say_stage(self.item.id.as_str(), self.migration, Stage::Moving(progress)).await;
                }
                word = words.next::<FromDestination>(), if refusal.is_none() => {
                    refusal = Some(self::refusal(word));
                    wish.send_replace(Wish::Abort);
                }
            }
        };
        match (sent, refusal) {
            (Ok(sent), None) => Ok((sent, carriers)),
            // All of it is there, and it was never said that it may be started.
            (Ok(_), Some(refusal)) => {
                vm.take_back(runs).await.map_err(self.failed("taking back"))?;
                Err(refusal)
            }
            (Err(unkai_driver_qemu::Error::GivenUp), Some(refusal)) => Err(refusal),
            (Err(error), _) => Err(self.failed("moving")(error)),
        }
    }

    /// Says that the guest is the destination's, and hears what became of it, if that comes soon. `Ok(Err)`: it was given up there, for
    /// this reason, and is this host's again.
    async fn hand_over(
        &self,
        words: &mut Words,
        mut progress: MigrationProgress,
        stopped: Option<Instant>,
        flows: Flows,
    ) -> Result<Result<(), String>, Error> {
        let id = self.item.id.as_str();
        let go = async {
            words.say(&FromSource::Go(flows)).await?;
            words.next::<FromDestination>().await
        };
        match tokio::time::timeout(ANSWER, go).await {
            Ok(Ok(FromDestination::Arrived)) => {
                progress.downtime_millis = stopped.map(|stopped| stopped.elapsed().as_millis() as u64);
                tracing::info!(server = id, downtime = progress.downtime_millis, "has left");
            }
            Ok(Ok(FromDestination::GaveUp(reason))) => {
                self.servers.note_move(id, self.migration, Part::Leaving)?;
                return Ok(Err(reason));
            }
            Ok(Ok(FromDestination::Ready(_))) => tracing::warn!(server = id, "the destination speaks out of turn"),
            Ok(Err(error)) => tracing::warn!(server = id, %error, "whether it has arrived is not known yet"),
            Err(_) => tracing::warn!(server = id, "whether it has arrived is not known yet"),
        }
        self.servers.note_move(id, self.migration, Part::HandedOver(progress))?;
        self.servers.say_stage(id, self.migration, Stage::HandedOver(progress)).await;
        Ok(Ok(()))
    }
}

/// What a destination says while it should only listen.
fn refusal(word: Result<FromDestination, Error>) -> Error {
    match word {
        Ok(FromDestination::GaveUp(reason)) => Error::conflict(reason),
        Ok(_) => Error::invalid("the destination speaks out of turn"),
        Err(error) => error,
    }
}

fn progress(transfer: &Transfer) -> MigrationProgress {
    MigrationProgress {
        memory_total: transfer.memory_total,
        memory_sent: transfer.memory_sent,
        memory_left: transfer.memory_left,
        disk_total: transfer.disk_total,
        disk_sent: transfer.disk_sent,
        rounds: transfer.rounds,
        downtime_limit_millis: transfer.downtime_limit_millis,
        downtime_millis: None,
    }
}

/// Keeps the wish what the item says.
async fn follow(desired: Desired, id: String, migration: String, wish: Arc<watch::Sender<Wish>>) {
    let began = Instant::now();
    loop {
        let item = desired.server(&id);
        let wanted = match item.as_ref().and_then(|item| item.migration.as_ref()) {
            _ if item.as_ref().is_none_or(|item| item.run == Run::Deleted) => Wish::Abort,
            Some(MigrationItem { id, abort: false, role: Role::Leave { finish, .. } }) if *id == migration => {
                if *finish {
                    Wish::Finish
                } else {
                    Wish::Move
                }
            }
            _ => Wish::Abort,
        };
        let changed = wish.send_if_modified(|present| {
            // One that is given up stays so.
            let changes = *present != wanted && *present != Wish::Abort;
            if changes {
                *present = wanted;
            }
            changes
        });
        if changed {
            tracing::info!(server = id, ?wanted, after = ?began.elapsed(), "of the move is wanted");
        }
        tokio::time::sleep(LOOK).await;
    }
}
