//! A server: a virtual machine.
//!
//! `spec` says what is wanted and is written by the APIs (and by control, when a guest stopped by itself); `status.host` by
//! placement; `status.observed` by the host's agent, through the link. The generation (`meta.generation`) counts changes that the
//! agent must act on; `observed.generation` says which of them it has reached.
//!
//! ```text
//! accepted ──placed──> Preparing ──> Running <──> Paused
//!     │                    │         │   ^  ^───> Suspended
//!     └─no valid host──> fault       v   │
//!                                  Stopped ──(shelve)──> no host
//! any ── spec.run = Deleted ──> Gone ──> deleted (kept without claims until purged)
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Host, Migration};
use crate::image::Image;
use crate::network::Port;
use crate::{Derived, Id, Kind, Meta};

/// Sums by host of what preemptible servers hold and give back when they are stopped.
pub const LENT_VCPU: &str = "LENT_VCPU";
pub const LENT_MEMORY_MB: &str = "LENT_MEMORY_MB";
/// Sums by host of the memory of servers that it keeps room for: more than it keeps, since not all of them can need it at once.
pub const SPARED_MEMORY_MB: &str = "SPARED_MEMORY_MB";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Server {
    pub meta: Meta<Server>,
    pub spec: ServerSpec,
    #[serde(default)]
    pub status: ServerStatus,
}

/// What the tenant asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerSpec {
    pub user: String,
    pub run: Run,
    pub launch: Launch,
    /// In the order of the guest's devices.
    #[serde(default)]
    pub ports: Vec<Id<Port>>,
    /// Those of `ports` that existed before and outlive the server; the others go with it.
    #[serde(default)]
    pub brought_ports: BTreeSet<Id<Port>>,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    #[serde(default)]
    pub tags: BTreeSet<String>,
    #[serde(default)]
    pub access_ipv4: Option<IpAddr>,
    #[serde(default)]
    pub access_ipv6: Option<IpAddr>,
    #[serde(default)]
    pub lock: Option<Lock>,
    #[serde(default)]
    pub wish: PlacementWish,
    #[serde(default)]
    pub availability: Availability,
    /// The generation in which `availability` was turned last; see [`Server::turn`].
    #[serde(default)]
    pub availability_since: u64,
    /// Started elsewhere, its local disks may begin anew from its image.
    #[serde(default)]
    pub discards_local: bool,
    /// A volume that it has or is being given is in a pool of one host alone. Written by control; see [`Server::hold`].
    #[serde(default)]
    pub local_volumes: bool,
    /// After the loss of a host, servers with a higher number are started elsewhere first.
    #[serde(default)]
    pub priority: i32,
    /// It may take room that is kept for the loss of a host, and is stopped when that is needed. Said once, when it is created.
    #[serde(default)]
    pub preemptible: bool,
    /// Counts hard and soft reboots asked for; a higher count than the agent's makes it reboot once.
    #[serde(default)]
    pub hard_reboots: u64,
    #[serde(default)]
    pub soft_reboots: u64,
    /// A higher number makes the agent throw the root disk away and build it anew from `launch.image` (rebuild).
    #[serde(default)]
    pub incarnation: u64,
    #[serde(default)]
    pub rescue: Option<Rescue>,
    #[serde(default)]
    pub resize: Option<Resize>,
    /// Names that the caller gave to devices, for the guest to find them by.
    #[serde(default)]
    pub port_tags: BTreeMap<Id<Port>, String>,
    /// The verb that was asked last: on the way there, APIs name it.
    #[serde(default)]
    pub asked: Option<Asked>,
    /// An administrator's word about its state, good until the next verb.
    #[serde(default)]
    pub reset: Option<Reset>,
}

impl ServerSpec {
    /// A server that runs as it is launched, with nothing else said about it.
    pub fn new(user: impl Into<String>, launch: Launch) -> Self {
        ServerSpec {
            user: user.into(),
            run: Run::Running,
            launch,
            ports: Vec::new(),
            brought_ports: BTreeSet::new(),
            description: None,
            metadata: BTreeMap::new(),
            tags: BTreeSet::new(),
            access_ipv4: None,
            access_ipv6: None,
            lock: None,
            wish: PlacementWish::default(),
            availability: Availability::None,
            availability_since: 0,
            discards_local: false,
            local_volumes: false,
            priority: 0,
            preemptible: false,
            hard_reboots: 0,
            soft_reboots: 0,
            incarnation: 0,
            rescue: None,
            resize: None,
            port_tags: BTreeMap::new(),
            asked: None,
            reset: None,
        }
    }
}

/// A verb, and what it was asked of. Never cleared: it is over when the agent has settled at `generation`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    pub verb: Verb,
    /// The state it was asked in, which APIs show until it is over.
    pub was: VmState,
    pub generation: u64,
}

/// What can be asked of a server and takes its host some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    Create,
    Start,
    Stop,
    SoftReboot,
    HardReboot,
    Pause,
    Unpause,
    Suspend,
    Resume,
    Rebuild,
    Resize,
    RevertResize,
    /// To another host, while it runs.
    LiveMigrate,
    /// To another host, while it is off.
    Migrate,
    /// Anew on another host, because its own is down.
    Evacuate,
    Rescue,
    Unrescue,
    Shelve,
    Offload,
    Unshelve,
    Delete,
}

/// The states between verbs, in the words of compute APIs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VmState {
    Building,
    Active,
    Paused,
    Suspended,
    Stopped,
    Rescued,
    /// Changed in size; to be confirmed or reverted.
    Resized,
    Shelved,
    ShelvedOffloaded,
    Error,
    Deleted,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reset {
    pub to: VmState,
    /// It counts while the server's generation is this one.
    pub generation: u64,
}

/// The state that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Run {
    Running,
    Stopped,
    Paused,
    Suspended,
    /// Off, disk kept on the host.
    Shelved,
    /// Off and on no host; the disk is the image named in `launch.shelved_image`.
    Offloaded,
    Deleted,
}

/// What it takes to start it. Copies of flavor and key, so that later changes of those do not change this server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Launch {
    pub flavor: FlavorCopy,
    pub image: Option<Id<Image>>,
    /// The image's properties when the disk was made from it; the image may change or go.
    #[serde(default)]
    pub image_properties: BTreeMap<String, String>,
    /// Set while shelved: the snapshot that unshelving starts from.
    #[serde(default)]
    pub shelved_image: Option<Id<Image>>,
    #[serde(default)]
    pub boot: BootDisk,
    /// Smaller than the flavor's, as the caller wished; 0: none.
    #[serde(default)]
    pub less_ephemeral_gib: Option<u64>,
    #[serde(default)]
    pub less_swap_mib: Option<u64>,
    pub hostname: String,
    #[serde(default)]
    pub key_name: Option<String>,
    #[serde(default)]
    pub public_key: Option<String>,
    /// As the caller sent it: base64.
    #[serde(default)]
    pub user_data: Option<String>,
    #[serde(default)]
    pub config_drive: bool,
    #[serde(default)]
    pub admin_password: Option<String>,
    /// Injected files: path -> base64 content.
    #[serde(default)]
    pub personality: BTreeMap<String, String>,
    /// Created together: reservation id and index.
    #[serde(default)]
    pub reservation: String,
    #[serde(default)]
    pub launch_index: u32,
    #[serde(default)]
    pub trusted_certs: Option<Vec<String>>,
    /// Partition and file system of the root disk are left as the image has them (`OS-DCF:diskConfig: MANUAL`).
    #[serde(default)]
    pub manual_disk: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootDisk {
    /// A disk on the host, made from the image.
    #[default]
    Local,
    /// The volume of its attachment with boot index 0.
    Volume,
}

impl Launch {
    /// A disk as large as the flavor says, and nothing on it.
    pub fn new(flavor: FlavorCopy, hostname: impl Into<String>) -> Self {
        let (image_properties, boot, personality, reservation) = Default::default();
        Launch {
            flavor,
            image: None,
            image_properties,
            shelved_image: None,
            boot,
            less_ephemeral_gib: None,
            less_swap_mib: None,
            hostname: hostname.into(),
            key_name: None,
            public_key: None,
            user_data: None,
            config_drive: false,
            admin_password: None,
            personality,
            reservation,
            launch_index: 0,
            trusted_certs: None,
            manual_disk: false,
        }
    }

    pub fn ephemeral_gib(&self) -> u64 {
        self.less_ephemeral_gib.map_or(self.flavor.ephemeral_gib, |less| less.min(self.flavor.ephemeral_gib))
    }

    pub fn swap_mib(&self) -> u64 {
        self.less_swap_mib.map_or(self.flavor.swap_mib, |less| less.min(self.flavor.swap_mib))
    }

    /// What a server that is launched so takes from its host, by resource class. A root disk that is a volume takes nothing.
    pub fn resources(&self) -> [(&'static str, i64); 3] {
        self.resources_of(&self.flavor)
    }

    /// The same with another flavor.
    pub fn resources_of(&self, flavor: &FlavorCopy) -> [(&'static str, i64); 3] {
        match self.boot {
            BootDisk::Local => flavor.resources(),
            BootDisk::Volume => FlavorCopy { disk_gib: 0, ..flavor.clone() }.resources(),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FlavorCopy {
    pub id: String,
    pub name: String,
    pub vcpus: u32,
    pub ram_mib: u64,
    /// 0: as large as the image.
    pub disk_gib: u64,
    #[serde(default)]
    pub ephemeral_gib: u64,
    #[serde(default)]
    pub swap_mib: u64,
    #[serde(default)]
    pub rxtx_factor: f64,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub extra_specs: BTreeMap<String, String>,
}

impl FlavorCopy {
    /// What one server of this flavor with a local root disk takes from its host, by resource class.
    pub fn resources(&self) -> [(&'static str, i64); 3] {
        let disk = self.disk_gib + self.ephemeral_gib + self.swap_mib.div_ceil(1024);
        [("VCPU", i64::from(self.vcpus)), ("MEMORY_MB", self.ram_mib as i64), ("DISK_GB", disk as i64)]
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lock {
    pub by_admin: bool,
    #[serde(default)]
    pub reason: Option<String>,
}

/// Where the caller wants it, and with or without whom.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlacementWish {
    pub zone: Option<String>,
    /// Exactly this host, checked like any other (`requested_destination`).
    pub host: Option<String>,
    /// This host, unchecked (`az:host` of an administrator).
    pub forced_host: Option<String>,
    /// Id of a server group.
    pub group: Option<String>,
    pub same_host: BTreeSet<String>,
    pub different_host: BTreeSet<String>,
    /// Hints as given, for the answer of APIs that show them.
    pub hints: BTreeMap<String, serde_json::Value>,
    /// Hosts that already failed this server, so that another is tried.
    pub avoid: BTreeSet<String>,
}

/// What happens when its host dies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Availability {
    #[default]
    None,
    Ha,
    Ft,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rescue {
    pub image: Option<Id<Image>>,
    pub admin_password: String,
}

/// A resize that waits to be confirmed or reverted. While it does, the host is charged for both sizes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Resize {
    pub from: FlavorCopy,
    pub from_host: Option<Id<Host>>,
    pub was: Run,
    pub state: ResizeState,
    pub since: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResizeState {
    /// The server is being changed to `launch.flavor`.
    Changing,
    /// It runs with `launch.flavor`; confirm or revert.
    WaitsForConfirm,
    /// It is being changed back.
    Reverting,
}

/// What we know.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerStatus {
    /// Written by placement. None: not placed (yet, or offloaded).
    pub host: Option<Id<Host>>,
    /// The generation in which it was given to `host`.
    pub assigned: u64,
    /// It is on its way to another host.
    pub migration: Option<Id<Migration>>,
    /// Where room is kept for it, should its host be lost. Written by control.
    pub spare: Option<Id<Host>>,
    /// Its processors and memory were taken for servers of a lost host.
    pub preempted: Option<Preempted>,
    pub fault: Option<Fault>,
    pub observed: Observed,
    pub timeline: Timeline,
    /// Set when it is gone; the document then claims nothing and is purged later.
    pub deleted: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preempted {
    pub since: Timestamp,
    /// What it goes on as when there is room again.
    pub was: Run,
}

/// Written from the agent's reports.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Observed {
    pub generation: u64,
    pub phase: Phase,
    pub since: Option<Timestamp>,
    pub incarnation: u64,
    /// The agent runs it only while it holds a lease.
    pub leased: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// No report yet for this assignment.
    #[default]
    Unknown,
    /// Disks and network are being made; the text says which step.
    Preparing(String),
    Running,
    Paused,
    Suspended,
    Stopped(StopReason),
    /// The agent could not do what was asked; it says what and why, and does not try again for this generation.
    Failed(String),
    /// Nothing of it is left on the host.
    Gone,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// It was asked for.
    #[default]
    Asked,
    GuestShutdown,
    GuestPanic,
    /// The process ended: signal or error text.
    Killed(String),
}

/// Why the last thing asked for did not happen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    pub code: u16,
    pub message: String,
    #[serde(default)]
    pub details: String,
    pub at: Timestamp,
}

/// When what happened, for the first start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timeline {
    pub placed: Option<Timestamp>,
    pub network_ready: Option<Timestamp>,
    pub started: Option<Timestamp>,
    pub launched: Option<Timestamp>,
}

impl Server {
    /// Notes a verb: the next generation is about it.
    pub fn ask(&mut self, verb: Verb, was: VmState) {
        self.meta.generation += 1;
        self.spec.asked = Some(Asked { verb, was, generation: self.meta.generation });
    }

    /// The key of the sums of what one user has in one project; those of the whole project are kept by its id.
    pub fn user_key(project: &str, user: &str) -> String {
        format!("{project}/{user}")
    }

    pub fn is_live(&self) -> bool {
        self.status.deleted.is_none()
    }

    /// Notes a verb that control carries out before any host has something to do: no generation is about it yet.
    pub fn ask_control(&mut self, verb: Verb, was: VmState) {
        self.spec.asked = Some(Asked { verb, was, generation: self.meta.generation });
    }

    /// Where it came from and may go back to: that host keeps its disks.
    pub fn kept_at(&self) -> Option<&Id<Host>> {
        let from = self.spec.resize.as_ref()?.from_host.as_ref()?;
        (self.status.host.as_ref() != Some(from)).then_some(from)
    }

    /// It is to go back to the host that it came from.
    pub fn goes_back(&self) -> bool {
        self.kept_at().is_some() && self.spec.resize.as_ref().is_some_and(|resize| resize.state == ResizeState::Reverting)
    }

    /// The agent has done what the newest generation asks for, or given up on it.
    pub fn is_settled(&self) -> bool {
        self.status.observed.generation == self.meta.generation
            && !matches!(self.status.observed.phase, Phase::Unknown | Phase::Preparing(_))
    }

    /// Why it could not be started on another host with what it has; none when it could.
    pub fn bound_to_host(&self) -> Option<&'static str> {
        let (launch, flavor) = (&self.spec.launch, &self.spec.launch.flavor);
        if self.spec.local_volumes {
            return Some("a volume of it is in a pool of its host alone");
        }
        let root = launch.boot == BootDisk::Local && (launch.image.is_some() || flavor.disk_gib > 0);
        let local = root || launch.ephemeral_gib() + launch.swap_mib() > 0;
        (local && !self.spec.discards_local).then_some("its disks are on its host alone")
    }

    /// Says whether a volume of it is in a pool of one host alone. Its host has to learn of it, as of a turn of the dial.
    pub fn hold(&mut self, local_volumes: bool) {
        if self.spec.local_volumes != local_volumes {
            self.meta.generation += 1;
            self.spec.local_volumes = local_volumes;
            self.spec.availability_since = self.meta.generation;
        }
    }

    /// Turns the dial, also while it runs. Its host has to learn of it before the cloud may rely on it.
    pub fn turn(&mut self, availability: Availability, discards_local: bool) {
        if (self.spec.availability, self.spec.discards_local) != (availability, discards_local) {
            self.meta.generation += 1;
            (self.spec.availability, self.spec.discards_local) = (availability, discards_local);
            self.spec.availability_since = self.meta.generation;
        }
    }

    /// Its host is to run it only under a lease.
    pub fn is_leased(&self) -> bool {
        self.spec.availability != Availability::None && self.bound_to_host().is_none()
    }

    /// The cloud may start it elsewhere when its host is lost: its host has known nothing but [`Server::is_leased`] since it was given to
    /// it, or has said that it knows.
    pub fn is_protected(&self) -> bool {
        let since = self.spec.availability_since;
        let observed = &self.status.observed;
        let knows = self.status.assigned >= since || (observed.leased && observed.generation >= since);
        self.is_leased() && knows
    }

    /// Room has to be kept for it somewhere, and none is.
    pub fn lacks_spare(&self) -> bool {
        let runs = self.status.host.is_some() && !matches!(self.spec.run, Run::Deleted | Run::Offloaded);
        runs && self.is_leased() && self.status.spare.is_none()
    }

    /// Its processors and memory can be had by stopping it now.
    pub fn is_displaceable(&self) -> bool {
        self.spec.preemptible && self.status.preempted.is_none() && self.status.migration.is_none() && self.spec.run != Run::Deleted
    }

    /// What this server takes from its host now, by resource class. One that was preempted has its disk there, and nothing else.
    pub fn charges(&self) -> impl Iterator<Item = (Id<Host>, &'static str, i64)> + '_ {
        let kept = move |(class, amount)| (class, if self.status.preempted.is_some() && class != "DISK_GB" { 0 } else { amount });
        let now = self.status.host.iter().flat_map(move |host| charge(host, self.spec.launch.resources().map(kept)));
        let before = self.spec.resize.iter().flat_map(move |resize| {
            let host = resize.from_host.as_ref().or(self.status.host.as_ref());
            host.into_iter().flat_map(|host| charge(host, self.spec.launch.resources_of(&resize.from)))
        });
        now.chain(before)
    }
}

fn charge(host: &Id<Host>, resources: [(&'static str, i64); 3]) -> impl Iterator<Item = (Id<Host>, &'static str, i64)> {
    resources.into_iter().filter(|(_, amount)| *amount > 0).map(|(class, amount)| (host.clone(), class, amount))
}

impl Kind for Server {
    const NAME: &'static str = "server";
    crate::meta_accessors!();

    /// Indexes: `project`, `host`, `kept` (by the host that keeps its disks), `goes_back`, `unplaced`, `shelved`, `group`, `protected` (by
    /// host), `spare` (by the host that keeps room for it), `unspared`, `displaceable` (by host), `preempted`; `deleted` when it is gone.
    /// Tallies: quota of the project and of its users, use of the host (`VCPU` and so on, by host id), what of that can be had
    /// back, and what it keeps room for.
    fn derive(&self, d: &mut Derived) {
        let project = self.meta.project.as_ref().map_or("", |p| p.as_str());
        if !self.is_live() {
            d.index("deleted", project);
            return;
        }
        d.index("project", project);
        let flavor = &self.spec.launch.flavor;
        let larger = self.spec.resize.as_ref().map_or(flavor.clone(), |r| FlavorCopy {
            vcpus: flavor.vcpus.max(r.from.vcpus),
            ram_mib: flavor.ram_mib.max(r.from.ram_mib),
            ..flavor.clone()
        });
        let sums = [("instances", 1), ("cores", i64::from(larger.vcpus)), ("ram", larger.ram_mib as i64)];
        let user = Self::user_key(project, &self.spec.user);
        for (resource, amount) in sums {
            d.tally(resource, project, amount);
            d.tally(resource, &user, amount);
        }
        match &self.status.host {
            Some(host) => {
                d.index("host", host);
                d.refers(host);
            }
            None => d.index("unplaced", "yes"),
        }
        if let Some(kept) = self.kept_at() {
            d.index("kept", kept);
            d.refers(kept);
        }
        if self.goes_back() {
            d.index("goes_back", "yes");
        }
        for (host, class, amount) in self.charges() {
            d.tally(class, &host, amount);
        }
        if let Some(host) = self.status.host.as_ref().filter(|_| self.is_protected()) {
            d.index("protected", host);
        }
        if let Some(spare) = self.status.spare.as_ref().filter(|_| self.is_leased()) {
            d.index("spare", spare);
            let [_, memory, _] = self.spec.launch.resources();
            d.tally(SPARED_MEMORY_MB, spare, memory.1);
        }
        if self.lacks_spare() {
            d.index("unspared", "yes");
        }
        if let Some(host) = self.status.host.as_ref().filter(|_| self.is_displaceable()) {
            d.index("displaceable", host);
            let [processors, memory, _] = self.spec.launch.resources();
            d.tally(LENT_VCPU, host, processors.1);
            d.tally(LENT_MEMORY_MB, host, memory.1);
        }
        if self.status.preempted.is_some() {
            d.index("preempted", "yes");
        }
        let leaves = self.spec.run == Run::Shelved && self.spec.launch.boot == BootDisk::Volume;
        if self.spec.launch.shelved_image.is_some() || leaves {
            d.index("shelved", "yes");
        }
        if let Some(group) = &self.spec.wish.group {
            d.index("group", group);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(boot: BootDisk, flavor: FlavorCopy) -> Server {
        let launch = Launch { boot, ..Launch::new(flavor, "s") };
        let mut server = Server { meta: Meta::new("s"), spec: ServerSpec::new("u", launch), status: ServerStatus::default() };
        server.spec.availability = Availability::Ha;
        server
    }

    #[test]
    fn what_binds_a_server_to_its_host() {
        let disk = FlavorCopy { disk_gib: 20, ..FlavorCopy::default() };
        let swap = FlavorCopy { disk_gib: 20, swap_mib: 1, ..FlavorCopy::default() };
        assert!(server(BootDisk::Local, disk.clone()).bound_to_host().is_some());
        assert_eq!(server(BootDisk::Volume, disk.clone()).bound_to_host(), None, "its root disk is a volume");
        assert!(server(BootDisk::Volume, swap.clone()).bound_to_host().is_some());
        let mut careless = server(BootDisk::Local, swap);
        careless.spec.discards_local = true;
        assert_eq!(careless.bound_to_host(), None);
        careless.spec.local_volumes = true;
        assert!(careless.bound_to_host().is_some(), "volumes are never thrown away");
    }

    #[test]
    fn a_root_disk_that_is_a_volume_costs_its_host_nothing() {
        let flavor = FlavorCopy { vcpus: 1, ram_mib: 512, disk_gib: 20, ephemeral_gib: 3, ..FlavorCopy::default() };
        assert_eq!(server(BootDisk::Local, flavor.clone()).spec.launch.resources()[2], ("DISK_GB", 23));
        assert_eq!(server(BootDisk::Volume, flavor).spec.launch.resources()[2], ("DISK_GB", 3));
    }

    /// Between a new local volume and the host's knowing of it, the cloud does not rely on the old arrangement.
    #[test]
    fn a_server_is_protected_again_when_its_host_has_learnt() {
        let mut server = server(BootDisk::Volume, FlavorCopy::default());
        server.status.assigned = server.meta.generation;
        assert!(server.is_protected());
        server.hold(true);
        assert!(!server.is_protected());
        server.hold(false);
        assert!(!server.is_protected());
        (server.status.observed.generation, server.status.observed.leased) = (server.meta.generation, true);
        assert!(server.is_protected());
        let before = server.meta.generation;
        server.hold(false);
        assert_eq!(server.meta.generation, before, "nothing changed");
    }
}
