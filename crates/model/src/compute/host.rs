//! A host: a machine whose agent dials in.
//!
//! Inventory and reachability are written by the link when the agent reports; `enabled` and its reason by operators. Heartbeats
//! are not written: only a change of reachability is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Derived, Kind, Meta};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// `name` is the host name.
    pub meta: Meta<Host>,
    /// The number that older compute APIs show as the hypervisor's id.
    #[serde(default)]
    pub number: u64,
    #[serde(default)]
    pub disabled: Option<String>,
    /// Its servers are to leave it; since when.
    #[serde(default)]
    pub drain: Option<Timestamp>,
    /// Set by an operator to say that the machine is known to be down.
    #[serde(default)]
    pub forced_down: bool,
    /// Traits that an operator added to those that the machine reports.
    #[serde(default)]
    pub tags: BTreeSet<String>,
    /// Resource class -> how much of it can be given out.
    #[serde(default)]
    pub capacity: BTreeMap<String, Capacity>,
    /// Set while it is not trusted to run what the cloud starts elsewhere when a host dies.
    #[serde(default)]
    pub fence: Option<Fence>,
    /// How often it has been fenced.
    #[serde(default)]
    pub fences: u64,
    #[serde(default)]
    pub status: HostStatus,
}

/// Written by control. From the transaction that sets it no lease of the host is renewed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fence {
    /// Counts the fences of this host.
    pub number: u64,
    pub since: Timestamp,
    /// Nothing of it can run there any more: since when, and how that is known.
    #[serde(default)]
    pub done: Option<(Timestamp, FencedBy)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FencedBy {
    /// Every lease that was ever given to it has run out.
    Lease,
    /// An operator said that the machine is down.
    Operator,
}

/// One resource class of one host, as in Placement inventories. Usable: `(total - reserved) * ratio`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Capacity {
    pub total: i64,
    pub reserved: i64,
    pub ratio: f64,
}

impl Capacity {
    pub fn usable(&self) -> i64 {
        ((self.total - self.reserved) as f64 * self.ratio) as i64
    }
}

/// What the agent reports.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostStatus {
    pub reachability: Reachability,
    pub since: Option<Timestamp>,
    pub address: Option<IpAddr>,
    /// Where VXLAN packets for this host go.
    pub underlay: Option<IpAddr>,
    pub hypervisor: String,
    /// For example 10000002 for 10.0.2, as compute APIs show it.
    pub hypervisor_version: u64,
    pub cpu_model: String,
    pub cpu_arch: String,
    pub traits: BTreeSet<String>,
    pub agent_version: String,
    pub booted: Option<Timestamp>,
    /// The process of the controller that hears this host: it alone judges the host's silence while it lives itself.
    pub heard_by: Option<String>,
    /// Counts sessions, so that what an earlier one still says is known to be old.
    pub session: u64,
    pub admission: Admission,
    /// External networks that this host can reach: physical names.
    pub physical_networks: BTreeSet<String>,
    /// Facts for operators: processors' nodes, disks, network devices.
    pub facts: BTreeMap<String, String>,
    /// What runs on the machine and is not ours.
    pub unmanaged: Vec<Unmanaged>,
}

/// Which certificates prove to be this host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Admission {
    /// Counts enrolments; certificates name the one they come from, and only those of the last are good.
    pub enrolment: u64,
    pub revoked: Option<Timestamp>,
}

impl Admission {
    /// Is a certificate of this enrolment good?
    pub fn admits(&self, enrolment: u64) -> bool {
        self.revoked.is_none() && self.enrolment == enrolment
    }
}

/// A virtual machine that others started.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Unmanaged {
    /// `qemu` or `libvirt`.
    pub by: String,
    pub name: String,
    pub id: String,
    pub state: String,
    pub memory_mib: u64,
    pub vcpus: u64,
}

/// Silence makes a host suspect, then lost; nothing destructive follows from suspicion.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reachability {
    #[default]
    Unknown,
    Up,
    Suspect,
    Lost,
}

impl Host {
    /// One that nothing is known of yet. `number`: see the field.
    pub fn new(meta: Meta<Host>, number: u64) -> Self {
        let (tags, capacity, status) = Default::default();
        Host { meta, number, disabled: None, drain: None, forced_down: false, tags, capacity, fence: None, fences: 0, status }
    }

    /// May new servers be placed here?
    pub fn takes_servers(&self) -> bool {
        self.fence.is_none()
            && self.disabled.is_none()
            && self.status.admission.revoked.is_none()
            && !self.forced_down
            && self.status.reachability == Reachability::Up
    }

    /// What needs a lease can run there no more.
    pub fn is_fenced(&self) -> bool {
        self.fence.as_ref().is_some_and(|fence| fence.done.is_some())
    }

    pub fn is_up(&self) -> bool {
        !self.forced_down && matches!(self.status.reachability, Reachability::Up | Reachability::Suspect)
    }

    pub fn usable(&self, class: &str) -> i64 {
        self.capacity.get(class).map_or(0, Capacity::usable)
    }

    pub fn traits(&self) -> impl Iterator<Item = &String> {
        self.status.traits.iter().chain(&self.tags)
    }
}

impl Kind for Host {
    const NAME: &'static str = "host";
    crate::meta_accessors!();

    /// Indexes: `fenced` and `drain`, while it is.
    fn derive(&self, d: &mut Derived) {
        if self.drain.is_some() {
            d.index("drain", "yes");
        }
        if self.fence.is_some() {
            d.index("fenced", "yes");
        }
        d.claim("host-name", &self.meta.name);
        d.claim("host-number", self.number.to_string());
    }
}
