//! All servers of one host: define, launch, adopt, remove. Each server has a lock, so calls for one are serial and calls for different
//! servers are not.

mod adopt;
mod launch;
mod transfer;

use crate::disks::{self, Tools};
use crate::error::{Error, Result};
use crate::iso9660::{self, DiscFile};
use crate::layout::{ServerDir, lend, write_durably};
use crate::ledger::Ledger;
use crate::machine::{self, Accel};
use crate::process::Process;
use crate::spec::{Format, LaunchSpec};
use crate::vm::snapshot::{Progress, Snapshot};
use crate::vm::{Event, RunState, Vm, lock};
use crate::{cgroup, console};
pub use adopt::{Found, FoundState};
pub use launch::Tap;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{broadcast, watch};
use tokio::task::AbortHandle;
use unkai_crashpoint::point;
use uuid::Uuid;

#[derive(Debug, Clone)]
pub struct Config {
    /// A directory per server is kept here. Absolute, and short enough for sockets inside.
    pub dir: PathBuf,
    pub binary: PathBuf,
    pub tools: Tools,
    /// One user id (and group id of the same number) per server is taken from here. None: QEMU runs as this process does.
    pub users: Option<Range<u32>>,
    /// Control groups are made under this name. None: QEMU stays in ours.
    pub cgroup_parent: Option<String>,
    /// None: what the machine offers.
    pub accel: Option<Accel>,
    pub translation_cache_mib: u32,
    /// How much of a console log is kept.
    pub console_bytes: u64,
}

impl Config {
    pub fn new(dir: impl Into<PathBuf>) -> Config {
        Config {
            dir: dir.into(),
            binary: "/usr/bin/qemu-system-x86_64".into(),
            tools: Tools::default(),
            users: None,
            cgroup_parent: None,
            accel: None,
            translation_cache_mib: 128,
            console_bytes: 1 << 20,
        }
    }
}

/// What QEMU itself may use besides the guest's memory and, under TCG, the translation cache.
const OVERHEAD_MIB: u64 = 256;
const EVENT_BACKLOG: usize = 4096;

#[derive(Clone)]
pub struct Qemu {
    inner: Arc<Inner>,
}

struct Inner {
    config: Arc<Config>,
    accel: Accel,
    accel_reason: String,
    servers: Mutex<HashMap<Uuid, Arc<tokio::sync::Mutex<Entry>>>>,
    users: Mutex<BTreeMap<u32, Uuid>>,
    events: broadcast::Sender<Event>,
}

#[derive(Default)]
struct Entry {
    vm: Option<Vm>,
    monitor: Option<AbortHandle>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        // Only our watching ends; QEMU does not.
        if let Some(monitor) = &self.monitor {
            monitor.abort();
        }
    }
}

impl Qemu {
    pub fn new(config: Config) -> Result<Qemu> {
        if !config.dir.is_absolute() {
            return Err(Error::Invalid(format!("directory `{}` is not absolute", config.dir.display())));
        }
        std::fs::create_dir_all(&config.dir).map_err(Error::io("create directory", &config.dir))?;
        // the servers' users pass through to the directory that is theirs, and see nothing else
        let mode = std::fs::Permissions::from_mode(0o711);
        std::fs::set_permissions(&config.dir, mode).map_err(Error::io("set mode of directory", &config.dir))?;
        let (accel, accel_reason) = match config.accel {
            Some(accel) => (accel, "configured".to_owned()),
            None => machine::detect(),
        };
        let inner = Inner {
            accel,
            accel_reason,
            servers: Mutex::default(),
            users: Mutex::default(),
            events: broadcast::channel(EVENT_BACKLOG).0,
            config: Arc::new(config),
        };
        let qemu = Qemu { inner: Arc::new(inner) };
        qemu.load_users();
        Ok(qemu)
    }

    /// How guests run here, and why.
    pub fn accelerator(&self) -> (Accel, &str) {
        (self.inner.accel, &self.inner.accel_reason)
    }

    /// What happens to servers. A reader that is too slow loses the oldest and finds the truth in [`Vm::status`].
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.inner.events.subscribe()
    }

    /// Writes down what a server is to be and makes its disks. May be repeated, also with a changed specification (larger disks, more
    /// memory, other devices) while it does not run. Returns the specification with every slot filled.
    pub async fn define(&self, spec: LaunchSpec, generation: u64, config_drive: Option<Vec<DiscFile>>) -> Result<LaunchSpec> {
        let id = spec.id;
        let entry = self.entry(id);
        let _entry = entry.lock().await;
        let this = self.clone();
        blocking(move || {
            let dir = this.dir(id);
            let old = Ledger::read(&dir).ok();
            if let Some(old) = &old
                && this.live_process(old).is_some()
            {
                return Err(Error::AlreadyRunning(id));
            }
            this.write_definition(&dir, spec, generation, old, config_drive)
        })
        .await
    }

    /// The same for a guest that comes from another host: its configuration drive is the one that it has.
    pub async fn define_arriving(&self, spec: LaunchSpec, generation: u64, config_drive: Option<Vec<u8>>) -> Result<LaunchSpec> {
        let id = spec.id;
        let entry = self.entry(id);
        let _entry = entry.lock().await;
        let this = self.clone();
        blocking(move || {
            let dir = this.dir(id);
            if dir.exists() {
                return Err(Error::Invalid(format!("server {id} has something on this host already")));
            }
            if let Some(bytes) = config_drive {
                let owner = this.take_user(id)?;
                dir.create(owner)?;
                write_durably(&dir.config_drive(), &bytes)?;
                lend(&dir.config_drive(), owner)?;
            }
            this.write_definition(&dir, spec, generation, None, None)
        })
        .await
    }

    /// The bytes of a server's configuration drive, if it has one.
    pub async fn config_drive(&self, id: Uuid) -> Result<Option<Vec<u8>>> {
        let path = self.dir(id).config_drive();
        blocking(move || match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("read configuration drive", &path)(e)),
        })
        .await
    }

    fn write_definition(
        &self,
        dir: &ServerDir,
        mut spec: LaunchSpec,
        generation: u64,
        old: Option<Ledger>,
        config_drive: Option<Vec<DiscFile>>,
    ) -> Result<LaunchSpec> {
        if let Some(old) = &old {
            inherit_slots(&mut spec, &old.spec);
        }
        spec.assign_slots()?;
        spec.validate()?;
        if spec.config_drive.is_some() && config_drive.is_none() && !dir.config_drive().exists() {
            return Err(Error::Invalid("a configuration drive without content".to_owned()));
        }
        let owner = match &old {
            Some(old) => old.owner,
            None => self.take_user(spec.id)?,
        };
        dir.create(owner)?;
        let mut ledger = old.unwrap_or_else(|| Ledger::new(spec.clone(), generation, owner));
        ledger.spec = spec.clone();
        ledger.generation = generation;
        ledger.process = None;
        ledger.write(dir)?;
        disks::prepare_all(&spec, dir, owner, &self.inner.config.tools)?;
        if let Some(files) = config_drive {
            write_durably(&dir.config_drive(), &iso9660::write("config-2", &files)?)?;
            lend(&dir.config_drive(), owner)?;
        }
        Ok(spec)
    }

    /// The running server, if it is known to run.
    pub async fn vm(&self, id: Uuid) -> Option<Vm> {
        let entry = lock(&self.inner.servers).get(&id).cloned()?;
        let entry = entry.lock().await;
        entry.vm.clone().filter(|vm| vm.status().state != RunState::Exited)
    }

    pub fn ledger(&self, id: Uuid) -> Result<Ledger> {
        let dir = self.dir(id);
        if dir.exists() { Ledger::read(&dir) } else { Err(Error::NotDefined(id)) }
    }

    /// Notes the agent's newer generation without touching anything else.
    pub async fn set_generation(&self, id: Uuid, generation: u64) -> Result<()> {
        let entry = self.entry(id);
        let entry = entry.lock().await;
        if let Some(vm) = &entry.vm {
            return vm.shared.record(|ledger| ledger.generation = generation);
        }
        let mut ledger = self.ledger(id)?;
        ledger.generation = generation;
        ledger.write(&self.dir(id))
    }

    /// The end of the console log: `lines` lines, or all that is kept.
    pub async fn console(&self, id: Uuid, lines: Option<usize>) -> Result<Vec<u8>> {
        let (path, limit) = (self.dir(id).console_log(), self.inner.config.console_bytes);
        blocking(move || console::tail(&path, lines, limit)).await
    }

    /// Copies a disk into one file that stands alone, whether the server runs or not.
    pub async fn snapshot_disk(
        &self,
        id: Uuid,
        disk: &str,
        target: &Path,
        format: Format,
        progress: Option<watch::Sender<Progress>>,
    ) -> Result<Snapshot> {
        if let Some(vm) = self.vm(id).await {
            return vm.snapshot_disk(disk, target, format, progress).await;
        }
        let entry = self.entry(id);
        let _entry = entry.lock().await;
        let ledger = self.ledger(id)?;
        if self.live_process(&ledger).is_some() {
            return Err(Error::AlreadyRunning(id));
        }
        let disk = ledger.spec.disks.into_iter().find(|d| d.id == disk).ok_or_else(|| Error::NoDevice(disk.to_owned()))?;
        let (dir, tools, target) = (self.dir(id), self.inner.config.tools.clone(), target.to_path_buf());
        blocking(move || {
            disks::export(&disk, &dir, &target, format, &tools)?;
            let virtual_bytes = crate::qcow2::inspect(&target, format)?;
            Ok(Snapshot { path: target, virtual_bytes, frozen: false })
        })
        .await
    }

    /// Deletes a disk's file, so that the next [`Qemu::define`] makes it anew (rebuild) or without it.
    pub async fn discard_disk(&self, id: Uuid, disk: &str) -> Result<()> {
        let entry = self.entry(id);
        let _entry = entry.lock().await;
        if self.live_process(&self.ledger(id)?).is_some() {
            return Err(Error::AlreadyRunning(id));
        }
        disks::remove_file(&self.dir(id).disk(disk))
    }

    /// Forgets a saved state: the next launch starts the firmware.
    pub async fn discard_suspended(&self, id: Uuid) -> Result<()> {
        let entry = self.entry(id);
        let _entry = entry.lock().await;
        let mut ledger = self.ledger(id)?;
        ledger.suspended = false;
        ledger.write(&self.dir(id))?;
        disks::remove_file(&self.dir(id).saved_state())
    }

    /// Ends the process if there is one and deletes everything of the server. May be repeated, and works on what is left of a broken one.
    pub async fn remove(&self, id: Uuid) -> Result<()> {
        let entry = self.entry(id);
        let mut entry = entry.lock().await;
        if let Some(vm) = entry.vm.take() {
            vm.kill().await?;
        }
        point("qemu: a process is ended");
        for (_, process) in crate::process::scan(&self.inner.config.dir).into_iter().filter(|(server, _)| *server == id) {
            if let Some(process) = Process::adopt(process, id) {
                process.kill();
                let _ = tokio::time::timeout(Duration::from_secs(10), process.wait()).await;
            }
        }
        if let Some(parent) = &self.inner.config.cgroup_parent {
            cgroup::remove(parent, id);
        }
        point("qemu: before a directory is removed");
        let dir = self.dir(id);
        blocking(move || dir.remove()).await?;
        point("qemu: a directory is removed");
        lock(&self.inner.users).retain(|_, server| *server != id);
        lock(&self.inner.servers).remove(&id);
        Ok(())
    }

    fn dir(&self, id: Uuid) -> ServerDir {
        ServerDir::new(&self.inner.config.dir, id)
    }

    fn entry(&self, id: Uuid) -> Arc<tokio::sync::Mutex<Entry>> {
        lock(&self.inner.servers).entry(id).or_default().clone()
    }

    fn load_users(&self) {
        let mut users = lock(&self.inner.users);
        for id in self.defined() {
            if let Some(owner) = Ledger::read(&self.dir(id)).ok().and_then(|l| l.owner) {
                users.insert(owner, id);
            }
        }
    }

    fn take_user(&self, id: Uuid) -> Result<Option<u32>> {
        let Some(range) = self.inner.config.users.clone() else { return Ok(None) };
        let mut users = lock(&self.inner.users);
        users.retain(|_, server| *server != id);
        let free = range.clone().find(|user| !users.contains_key(user));
        let free = free.ok_or_else(|| Error::Invalid(format!("all users {range:?} are taken by servers")))?;
        users.insert(free, id);
        Ok(Some(free))
    }

    /// Ids of all server directories.
    fn defined(&self) -> Vec<Uuid> {
        let Ok(entries) = std::fs::read_dir(&self.inner.config.dir) else { return Vec::new() };
        entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
    }
}

/// Devices keep their places when a specification is written again.
fn inherit_slots(spec: &mut LaunchSpec, old: &LaunchSpec) {
    for disk in spec.disks.iter_mut().filter(|d| d.slot.is_none()) {
        disk.slot = old.disks.iter().find(|o| o.id == disk.id && o.bus == disk.bus).and_then(|o| o.slot);
    }
    for nic in spec.nics.iter_mut().filter(|n| n.slot.is_none()) {
        nic.slot = old.nics.iter().find(|o| o.port == nic.port).and_then(|o| o.slot);
    }
}

pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(Error::Disconnected("the program is ending".to_owned())),
    }
}
