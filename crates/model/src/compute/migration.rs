//! A server on its way from one host to another.
//!
//! Asked for by the APIs, or by control when a host is drained; control chooses the destination and ends it; what the two agents say moves it
//! on. While it is open the server names it, and the destination is charged for the server as its host is.
//!
//! ```text
//! Waiting ──destination chosen──> Preparing ──it listens──> Running ──the server runs there──> Completed
//!    └──────────none──────────────────┴──given up by either─────┴───> Failed, or Cancelled when that was asked
//! ```
//!
//! The server is its source's until the destination has said that it runs there. The source lets go of it for good (`handed_over`) before
//! the destination may start it; from then on it is the destination that says what became of it, or its fence.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{BootDisk, FlavorCopy, Host, Server};
use crate::{Derived, Id, Kind, Meta};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Migration {
    /// The name is the server's.
    pub meta: Meta<Migration>,
    /// The number by which older compute APIs know it.
    pub number: u64,
    pub server: Id<Server>,
    pub kind: MigrationKind,
    pub source: Id<Host>,
    #[serde(default)]
    pub destination: Option<Id<Host>>,
    #[serde(default)]
    pub wish: DestinationWish,
    /// The request that asked for it, and who asked.
    pub request: String,
    pub user: String,
    #[serde(default)]
    pub state: MigrationState,
    #[serde(default)]
    pub method: Method,
    /// The size that it gets there.
    #[serde(default)]
    pub flavor: Option<FlavorCopy>,
    /// Nobody is asked whether it may stay there.
    #[serde(default)]
    pub settles: bool,
    /// Where the destination listens.
    #[serde(default)]
    pub endpoint: Option<Endpoint>,
    /// It is to be given up, unless it is too late; why.
    #[serde(default)]
    pub abort: Option<String>,
    /// The guest is to stand still so that it comes to an end.
    #[serde(default)]
    pub finish: bool,
    /// The source has let go of it.
    #[serde(default)]
    pub handed_over: bool,
    #[serde(default)]
    pub progress: MigrationProgress,
    /// Why it failed.
    #[serde(default)]
    pub failure: Option<String>,
    #[serde(default)]
    pub ended: Option<Timestamp>,
    /// What the server takes from its destination.
    pub charge: Charge,
    /// By how much it grows, for the quota of its project and of its user.
    #[serde(default)]
    pub growth: Option<Growth>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Growth {
    pub user: String,
    pub cores: i64,
    pub ram: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MigrationKind {
    /// While it runs.
    Live,
    /// While it is off.
    Cold,
    /// While it is off, to become another size where there is room for that.
    Resize,
    /// Its host is down: it begins anew elsewhere.
    Evacuate,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DestinationWish {
    /// Name of a host.
    pub host: Option<String>,
    /// That host, unchecked.
    pub force: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MigrationState {
    /// For a destination.
    #[default]
    Waiting,
    Preparing,
    Running,
    Completed,
    Failed,
    Cancelled,
}

impl MigrationState {
    pub fn is_open(self) -> bool {
        matches!(self, MigrationState::Waiting | MigrationState::Preparing | MigrationState::Running)
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Memory is copied while the guest runs.
    #[default]
    Live,
    /// The guest stands still while its memory is copied: where a running one would arrive damaged.
    StopAndCopy,
    /// The guest is off: its disks are copied as files.
    Cold,
}

/// Where a destination listens, and the secret that lets in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub port: u16,
    pub token: String,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("port", &self.port).finish_non_exhaustive()
    }
}

/// Bytes, so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MigrationProgress {
    pub memory_total: u64,
    pub memory_sent: u64,
    pub memory_left: u64,
    pub disk_total: u64,
    pub disk_sent: u64,
    /// Rounds over the memory.
    pub rounds: u64,
    /// For how long the guest may stand still at the end.
    pub downtime_limit_millis: u64,
    /// For how long it did.
    pub downtime_millis: Option<u64>,
}

impl MigrationProgress {
    pub fn disk_left(&self) -> u64 {
        self.disk_total.saturating_sub(self.disk_sent)
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Charge {
    pub vcpus: i64,
    pub memory_mib: i64,
    pub disk_gib: i64,
}

impl Charge {
    /// By resource class.
    pub fn of(resources: &[(&'static str, i64)]) -> Self {
        let amount = |wanted: &str| resources.iter().filter(|(class, _)| *class == wanted).map(|(_, amount)| amount).sum();
        Charge { vcpus: amount("VCPU"), memory_mib: amount("MEMORY_MB"), disk_gib: amount("DISK_GB") }
    }

    pub fn resources(&self) -> [(&'static str, i64); 3] {
        [("VCPU", self.vcpus), ("MEMORY_MB", self.memory_mib), ("DISK_GB", self.disk_gib)]
    }
}

impl Migration {
    /// Of a server that is on a host. `meta`: with an id of its own.
    pub fn new(meta: Meta<Migration>, number: u64, kind: MigrationKind, server: &Server, source: Id<Host>) -> Self {
        Migration {
            meta: Meta { project: server.meta.project.clone(), name: server.meta.name.clone(), ..meta },
            number,
            server: server.meta.id.clone(),
            kind,
            source,
            destination: None,
            wish: DestinationWish::default(),
            request: String::new(),
            user: String::new(),
            state: MigrationState::Waiting,
            method: Method::Live,
            flavor: None,
            settles: kind != MigrationKind::Resize && kind != MigrationKind::Cold,
            endpoint: None,
            abort: None,
            finish: false,
            handed_over: false,
            progress: MigrationProgress::default(),
            failure: None,
            ended: None,
            charge: Charge::of(&server.spec.launch.resources()),
            growth: None,
        }
    }

    /// Of a server that becomes another size there.
    pub fn to_size(mut self, server: &Server, flavor: FlavorCopy) -> Self {
        let present = &server.spec.launch.flavor;
        self.charge = Charge::of(&server.spec.launch.resources_of(&flavor));
        self.growth = Some(Growth {
            user: server.spec.user.clone(),
            cores: (i64::from(flavor.vcpus) - i64::from(present.vcpus)).max(0),
            ram: (flavor.ram_mib as i64 - present.ram_mib as i64).max(0),
        });
        self.flavor = Some(flavor);
        self
    }

    pub fn is_open(&self) -> bool {
        self.state.is_open()
    }

    /// Asks for its end without success. The first reason stands.
    pub fn abort(&mut self, reason: impl Into<String>) {
        self.abort.get_or_insert_with(|| reason.into());
    }
}

impl Server {
    /// It has disks that are files of its host, to be copied when it leaves.
    pub fn has_local_disks(&self) -> bool {
        let (launch, flavor) = (&self.spec.launch, &self.spec.launch.flavor);
        let root = launch.boot == BootDisk::Local && (launch.image.is_some() || flavor.disk_gib > 0);
        root || flavor.ephemeral_gib + flavor.swap_mib > 0
    }
}

impl Kind for Migration {
    const NAME: &'static str = "migration";
    crate::meta_accessors!();

    /// Indexes: `server`; while it is open `open`, and by destination `arriving`. Tallies: use of the destination, while it is open.
    fn derive(&self, d: &mut Derived) {
        d.index("server", &self.server);
        if !self.is_open() {
            return;
        }
        d.index("open", "yes");
        d.refers(&self.source);
        if let (Some(growth), Some(project)) = (&self.growth, &self.meta.project) {
            let user = Server::user_key(project.as_str(), &growth.user);
            for (resource, amount) in [("cores", growth.cores), ("ram", growth.ram)].into_iter().filter(|(_, amount)| *amount > 0) {
                d.tally(resource, project, amount);
                d.tally(resource, &user, amount);
            }
        }
        let Some(destination) = &self.destination else { return };
        d.index("arriving", destination);
        d.refers(destination);
        for (class, amount) in self.charge.resources().into_iter().filter(|(_, amount)| *amount > 0) {
            d.tally(class, destination, amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::{FlavorCopy, Launch, ServerSpec};

    fn migration() -> Migration {
        let flavor = FlavorCopy { vcpus: 2, ram_mib: 512, disk_gib: 3, swap_mib: 1, ..FlavorCopy::default() };
        let launch: Launch = serde_json::from_value(serde_json::json!({
            "flavor": flavor, "image": null, "hostname": "s",
        }))
        .unwrap();
        let server = Server { meta: Meta::new("s").named("web"), spec: ServerSpec::new("u", launch), status: Default::default() };
        Migration::new(Meta::new("m"), 1, MigrationKind::Live, &server, Id::new("a"))
    }

    #[test]
    fn the_destination_is_charged_from_its_choice_to_the_end() {
        let mut migration = migration();
        let tallies = |migration: &Migration| {
            let mut derived = Derived::default();
            migration.derive(&mut derived);
            derived.tallies.iter().map(|(class, host, amount)| format!("{class} {host} {amount}")).collect::<Vec<_>>()
        };
        assert!(tallies(&migration).is_empty());
        migration.destination = Some(Id::new("b"));
        assert_eq!(tallies(&migration), ["VCPU b 2", "MEMORY_MB b 512", "DISK_GB b 4"]);
        migration.state = MigrationState::Completed;
        assert!(tallies(&migration).is_empty());
    }

    #[test]
    fn the_first_reason_to_give_up_stands() {
        let mut migration = migration();
        migration.abort("asked");
        migration.abort("lost");
        assert_eq!(migration.abort.as_deref(), Some("asked"));
    }
}
