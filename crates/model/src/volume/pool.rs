//! A place that holds volumes, or backups of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::compute::Host;
use crate::{Derived, Id, Kind, Meta};

/// Written by operators; `status` from hosts' reports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pool {
    /// `name` is what `pool_name` and `volume_backend_name` of a type's extra specs match.
    pub meta: Meta<Pool>,
    pub backend: Backend,
    /// Hosts that reach it; empty: all hosts.
    #[serde(default)]
    pub hosts: BTreeSet<Id<Host>>,
    /// May new volumes be placed in it? The text says why not.
    #[serde(default)]
    pub disabled: Option<String>,
    /// It takes backups too. Only pools of files can.
    #[serde(default)]
    pub keeps_backups: bool,
    /// How many GiB may be promised for each that is there.
    #[serde(default = "one")]
    pub overcommit: f64,
    /// What extra specs of types are compared with, beside `volume_backend_name`.
    #[serde(default)]
    pub capabilities: BTreeMap<String, String>,
    #[serde(default)]
    pub status: PoolStatus,
}

fn one() -> f64 {
    1.0
}

/// How a host reaches a pool. Complete: a host needs nothing else to use it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "driver", rename_all = "snake_case")]
pub enum Backend {
    /// A directory: of one host alone, or mounted at the same path on all hosts of the pool.
    Files { dir: PathBuf },
    /// Files on an NFS server, through QEMU's own client. Each fencing generation of a volume is another user, from `uid` (not root) on.
    Nfs { server: String, export: String, uid: u32, gid: u32 },
    /// Ceph, through `rbd` and QEMU's own client.
    Rbd { monitors: Vec<String>, pool: String, user: String, key: String },
    /// LUNs of a user-space target on one host of the pool (`target`: that host's id), made there and used from all through QEMU's own client.
    Iscsi { target: String, portal: String, iqn: String, dir: PathBuf, user: String, password: String },
}

impl Backend {
    /// The word in APIs and commands.
    pub fn driver(&self) -> &'static str {
        match self {
            Backend::Files { .. } => "files",
            Backend::Nfs { .. } => "nfs",
            Backend::Rbd { .. } => "rbd",
            Backend::Iscsi { .. } => "iscsi",
        }
    }
}

/// Never shows keys and passwords.
impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Backend::Files { dir } => write!(f, "files at {}", dir.display()),
            Backend::Nfs { server, export, .. } => write!(f, "nfs at {server}:{export}"),
            Backend::Rbd { monitors, pool, user, .. } => write!(f, "rbd pool {pool} at {} as {user}", monitors.join(",")),
            Backend::Iscsi { portal, iqn, .. } => write!(f, "iscsi target {iqn} at {portal}"),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PoolStatus {
    /// What hosts say of it: those that cannot use it, and of the others the one that sees it best. A pool is one place, so a host that is not
    /// here sees the same, and works.
    pub hosts: BTreeMap<Id<Host>, Reached>,
    /// What the first host that used it found, or left, there: a place without this mark is another.
    pub mark: Option<String>,
}

/// A pool as one host sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// None: it works.
    pub fault: Option<String>,
    pub total_gib: u64,
    pub free_gib: u64,
}

impl Pool {
    pub fn new(meta: Meta<Pool>, backend: Backend) -> Self {
        let (hosts, capabilities, status) = Default::default();
        Pool { meta, backend, hosts, disabled: None, keeps_backups: false, overcommit: 1.0, capabilities, status }
    }

    pub fn is_reached_by(&self, host: &Id<Host>) -> bool {
        self.hosts.is_empty() || self.hosts.contains(host)
    }

    /// Volumes in it can be used from another host when one is lost.
    pub fn is_shared(&self) -> bool {
        self.hosts.len() != 1
    }

    /// What extra specs are compared with: what the operator said, and what each pool has.
    pub fn offers(&self) -> BTreeMap<String, String> {
        let protocol = match self.backend {
            Backend::Rbd { .. } => "ceph",
            Backend::Iscsi { .. } => "iSCSI",
            Backend::Nfs { .. } => "nfs",
            Backend::Files { .. } => "file",
        };
        let own = [
            ("volume_backend_name", self.meta.name.as_str()),
            ("pool_name", self.meta.name.as_str()),
            ("vendor_name", "Unkai"),
            ("storage_protocol", protocol),
            ("driver", self.backend.driver()),
            ("multiattach", "True"),
            ("thin_provisioning_support", "True"),
        ];
        let own = own.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
        own.chain(self.capabilities.iter().map(|(key, value)| (key.clone(), value.clone()))).collect()
    }

    /// Total and free GiB, as the host says that sees it best; when none of those that spoke can use it, as was known before.
    pub fn space(&self) -> (u64, u64) {
        let space = |works: bool| {
            let hosts = self.status.hosts.values().filter(move |reached| reached.fault.is_none() == works);
            hosts.map(|reached| (reached.total_gib, reached.free_gib)).max()
        };
        space(true).or_else(|| space(false)).unwrap_or_default()
    }
}

impl Kind for Pool {
    const NAME: &'static str = "pool";
    const NOUN: &'static str = "storage pool";
    crate::meta_accessors!();

    fn derive(&self, d: &mut Derived) {
        d.claim("pool-name", &self.meta.name);
        for host in &self.hosts {
            d.refers(host);
        }
    }
}
