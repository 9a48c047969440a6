//! What an agent says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use unkai_model::Id;
use unkai_model::compute::{Phase, Server, Timeline, Unmanaged};
use unkai_model::image::Image;
use unkai_model::network::Port;

use crate::migration::MigrationReport;
use crate::volume::{BackupReport, PoolReport, VolumeReport};

/// Agent to controller. The first is `Hello`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Up {
    Hello(Box<Inventory>),
    Inventory(Box<Inventory>),
    Server(ServerReport),
    Port(PortReport),
    Router(RouterReport),
    /// The snapshot could not be made; a success is the finished upload itself.
    SnapshotFailed {
        image: Id<Image>,
        reason: String,
    },
    Volume(VolumeReport),
    Pool(PoolReport),
    Backup(BackupReport),
    Migration(MigrationReport),
    /// Still here, and asks for the lease to be renewed; numbers grow within a session.
    Renew(u64),
}

/// What the machine is and has.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Inventory {
    pub host_name: String,
    pub agent_version: String,
    pub vcpus: i64,
    pub memory_mib: i64,
    pub disk_gib: i64,
    pub cpu_model: String,
    pub cpu_arch: String,
    pub traits: BTreeSet<String>,
    pub hypervisor: String,
    pub hypervisor_version: u64,
    pub address: Option<IpAddr>,
    pub underlay: Option<IpAddr>,
    pub booted: Option<Timestamp>,
    /// External networks this host can reach: physical names.
    pub physical_networks: BTreeSet<String>,
    /// Free-form facts for operators.
    pub facts: BTreeMap<String, String>,
    /// What runs here and is not ours.
    pub unmanaged: Vec<Unmanaged>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerReport {
    pub server: Id<Server>,
    /// The generation this is about.
    pub generation: u64,
    pub phase: Phase,
    pub incarnation: u64,
    /// It is run under a lease; true only when this survives the agent.
    #[serde(default)]
    pub leased: bool,
    #[serde(default)]
    pub timeline: Timeline,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PortReport {
    pub port: Id<Port>,
    pub up: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RouterReport {
    pub router: String,
    /// None: it works as wanted.
    pub fault: Option<String>,
}
