//! From a definition to a running guest: prepare, spawn, settle.

use super::{Entry, OVERHEAD_MIB, Qemu, blocking};
use crate::cgroup::{self, Limits};
use crate::command_line::{Fds, Host, ImageFd, command_line};
use crate::console;
use crate::disks;
use crate::error::{Error, Result};
use crate::exit::last_words;
use crate::given::{self, Given, Storage};
use crate::layout::{ServerDir, give, touch};
use crate::ledger::{Desired, Ledger};
use crate::machine::Accel;
use crate::process::{Process, Start, inheritable};
use crate::qmp::Qmp;
use crate::vm::{EventKind, Intent, RunState, Shared, Status, Vm, monitor};
use std::fs::OpenOptions;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use unkai_crashpoint::point;
use uuid::Uuid;

/// An open tap device for one port.
pub struct Tap {
    pub port: String,
    pub fd: OwnedFd,
}

/// A host under load may take seconds to load QEMU from disk.
const START_PATIENCE: Duration = Duration::from_secs(60);
const TASKS: u32 = 512;

impl Qemu {
    /// Starts a defined server, or restores a suspended one. Returns the running one when it runs already. `given`: the disks that are not
    /// its own.
    pub async fn launch(&self, id: Uuid, taps: Vec<Tap>, given: Vec<Given>) -> Result<Vm> {
        let entry = self.entry(id);
        let mut entry = entry.lock().await;
        if let Some(vm) = self.adopt_into(&mut entry, id).await? {
            return Ok(vm);
        }
        let mut ledger = self.ledger(id)?;
        check_taps(&ledger, &taps)?;
        ledger.desired = Desired::Running;
        ledger.receiving = false;
        self.launch_as(&mut entry, ledger, taps, given).await
    }

    /// Starts a defined server's machine without its processors, to wait for a guest that comes from another host.
    pub async fn launch_incoming(&self, id: Uuid, taps: Vec<Tap>, given: Vec<Given>) -> Result<Vm> {
        let entry = self.entry(id);
        let mut entry = entry.lock().await;
        if self.adopt_into(&mut entry, id).await?.is_some() {
            return Err(Error::AlreadyRunning(id));
        }
        let mut ledger = self.ledger(id)?;
        check_taps(&ledger, &taps)?;
        (ledger.desired, ledger.receiving, ledger.suspended) = (Desired::Running, true, false);
        self.launch_as(&mut entry, ledger, taps, given).await
    }

    async fn launch_as(&self, entry: &mut Entry, ledger: Ledger, taps: Vec<Tap>, given: Vec<Given>) -> Result<Vm> {
        let (this, id) = (self.clone(), ledger.spec.id);
        let (ledger, child) = blocking(move || {
            let dir = this.dir(id);
            ledger.write(&dir)?;
            let child = this.start(&ledger, &dir, taps, &given)?;
            Ok((ledger, child))
        })
        .await?;
        self.settle(entry, id, ledger, child).await
    }

    fn start(&self, ledger: &Ledger, dir: &ServerDir, taps: Vec<Tap>, given: &[Given]) -> Result<Child> {
        let (spec, config) = (&ledger.spec, &self.inner.config);
        disks::prepare_all(spec, dir, ledger.owner, &config.tools)?;
        touch(&dir.console_log())?;
        give(&dir.console_log(), ledger.owner)?;
        let mut fds = Fds::default();
        let mut keep = Vec::new();
        let mut hand = |fd: &OwnedFd| -> Result<i32> {
            let copy = inheritable(fd)?;
            let number = copy.as_raw_fd();
            keep.push(copy);
            Ok(number)
        };
        fds.qmp = hand(&listen(&dir.qmp_socket())?)?;
        fds.serial = hand(&listen(&dir.serial_socket())?)?;
        fds.guest_agent = hand(&listen(&dir.agent_socket())?)?;
        for disk in &spec.disks {
            let mut image = disks::open_base(disk)?;
            if let Some(given) = given::of(disk, given)? {
                match &given.storage {
                    Storage::File(path) => image = Some(given::open(path, disk.source.format(), !disk.read_only)?),
                    Storage::Node { node, .. } => drop(fds.nodes.insert(disk.id.clone(), node.clone())),
                }
                for (id, secret) in given.secrets(disk) {
                    fds.secrets.insert(id, hand(&given::hidden(secret, ledger.owner)?)?);
                }
            }
            if let Some(image) = image {
                fds.images.insert(disk.id.clone(), ImageFd { fd: hand(&image.fd)?, block_device: image.block_device });
            }
        }
        for tap in &taps {
            fds.taps.insert(tap.port.clone(), hand(&tap.fd)?);
        }
        let host = Host { accel: self.inner.accel, translation_cache_mib: config.translation_cache_mib, dir };
        let mut args = command_line(spec, &host, &fds, ledger.suspended || ledger.receiving);
        if ledger.receiving {
            // Its processors stand still until the other host has let go of the guest.
            args.push("-S".to_owned());
        }
        let start = Start {
            binary: config.binary.clone(),
            args,
            log: fresh_log(dir)?,
            owner: ledger.owner,
            groups: self.groups(),
            keep,
            join: self.control_group(ledger),
        };
        let child = start.spawn();
        point("qemu: a process is started but not noted");
        child
    }

    fn groups(&self) -> Vec<u32> {
        match (self.inner.accel, std::fs::metadata("/dev/kvm")) {
            (Accel::Kvm, Ok(metadata)) => vec![metadata.gid()],
            _ => Vec::new(),
        }
    }

    fn control_group(&self, ledger: &Ledger) -> Vec<OwnedFd> {
        let Some(parent) = &self.inner.config.cgroup_parent else { return Vec::new() };
        let spec = &ledger.spec;
        let memory_mib = spec.memory_mib + u64::from(self.inner.config.translation_cache_mib) + OVERHEAD_MIB;
        let limits = Limits { vcpus: spec.vcpus, memory_bytes: memory_mib << 20, tasks: TASKS + u32::from(spec.vcpus) };
        let prepared = cgroup::prepare(parent, spec.id, limits);
        for problem in &prepared.problems {
            tracing::warn!(server = %spec.id, %problem, "control group");
        }
        prepared.join
    }

    /// A child that was just started becomes a running server, or an error that says why not.
    async fn settle(&self, entry: &mut Entry, id: Uuid, mut ledger: Ledger, child: Child) -> Result<Vm> {
        let process = Process::of_child(child)?;
        ledger.process = Some(process.id);
        let dir = self.dir(id);
        let suspended = ledger.suspended;
        let noted = {
            let (ledger, dir) = (ledger.clone(), dir.clone());
            blocking(move || ledger.write(&dir))
        };
        let socket = dir.qmp_socket();
        let connected = async {
            tokio::select! {
                ended = process.wait() => Err(Error::LaunchFailed(format!("{ended:?}: {}", self.said(&dir)))),
                qmp = Qmp::connect(&socket, START_PATIENCE) => qmp,
            }
        };
        let (noted, connected) = tokio::join!(noted, connected);
        let qmp = match noted.and(connected) {
            Ok(qmp) => qmp,
            Err(error) => {
                process.kill();
                let _ = tokio::time::timeout(Duration::from_secs(5), process.wait()).await;
                ledger.process = None;
                ledger.write(&dir)?;
                // A connection that broke is QEMU ending; its own words say more.
                return Err(match error {
                    Error::Disconnected(_) => Error::LaunchFailed(self.said(&dir)),
                    other => other,
                });
            }
        };
        let vm = self.watch(entry, ledger, process, qmp);
        if suspended && let Err(error) = vm.restore().await {
            vm.kill().await?;
            return Err(error);
        }
        vm.shared.emit(EventKind::Started);
        Ok(vm)
    }

    fn said(&self, dir: &ServerDir) -> String {
        last_words(&String::from_utf8_lossy(&console::tail(&dir.qemu_log(), Some(5), 16 * 1024).unwrap_or_default()))
    }

    /// Makes the handle and starts its monitor.
    pub(super) fn watch(&self, entry: &mut Entry, ledger: Ledger, process: Process, qmp: Qmp) -> Vm {
        let id = ledger.spec.id;
        let state = if ledger.suspended || ledger.receiving { RunState::Paused } else { RunState::Running };
        let events = qmp.events();
        let shared = Arc::new(Shared {
            id,
            dir: self.dir(id),
            config: self.inner.config.clone(),
            process,
            qmp: Mutex::new(qmp),
            ledger: Mutex::new(ledger),
            intent: Mutex::new(Intent::default()),
            status: watch::channel(Status { state, exit: None }).0,
            events: self.inner.events.clone(),
            resets: watch::channel(0).0,
            operation: tokio::sync::Mutex::new(()),
        });
        let task = tokio::spawn(monitor::run(shared.clone(), events));
        let vm = Vm { shared };
        entry.vm = Some(vm.clone());
        if let Some(old) = entry.monitor.replace(task.abort_handle()) {
            old.abort();
        }
        vm
    }
}

fn check_taps(ledger: &Ledger, taps: &[Tap]) -> Result<()> {
    for nic in &ledger.spec.nics {
        if !taps.iter().any(|tap| tap.port == nic.port) {
            return Err(Error::Invalid(format!("no tap was given for port {}", nic.port)));
        }
    }
    match taps.iter().find(|tap| !ledger.spec.nics.iter().any(|nic| nic.port == tap.port)) {
        Some(tap) => Err(Error::Invalid(format!("a tap was given for port {}, which the server does not have", tap.port))),
        None => Ok(()),
    }
}

/// A listening socket is there before QEMU is, so connecting needs no polling and QEMU no right to make it.
fn listen(path: &Path) -> Result<OwnedFd> {
    disks::remove_file(path)?;
    UnixListener::bind(path).map(OwnedFd::from).map_err(Error::io("make socket", path))
}

/// What QEMU says goes to a new file; that of the run before is kept once.
fn fresh_log(dir: &ServerDir) -> Result<std::fs::File> {
    let path = dir.qemu_log();
    let _ = std::fs::rename(&path, path.with_extension("log.1"));
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    options.open(&path).map_err(Error::io("create log", &path))
}
