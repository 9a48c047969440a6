//! What a host is told to have. Items say facts wanted, each complete in itself.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
pub use unkai_driver_network::{Mac, spec as net};
use unkai_model::Id;
use unkai_model::compute::{Host, Run, Server};
use unkai_model::image::Image;

use crate::migration::MigrationItem;
use crate::volume::{BackupItem, PoolItem, VolumeItem, VolumeUse};

/// Controller to agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Down {
    Put(Box<Item>),
    Drop(ItemKey),
    /// Everything assigned at this moment has been sent.
    Synced,
    /// Dial `POST /tunnels/{id}` and join it to `target`.
    Tunnel {
        id: String,
        target: serde_json::Value,
    },
    Ping,
    /// Where the cloud's controllers answer, now.
    Controllers(Vec<String>),
    /// The answer to [`crate::report::Up::Renew`]: servers with `leased` may run for `millis` from the moment that renewal was sent.
    /// 0: they may not run; the cloud may be about to start them elsewhere.
    Lease {
        number: u64,
        millis: u64,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "items live behind a pointer, one each")]
pub enum Item {
    Network(net::NetworkSpec),
    Group(net::GroupSpec),
    Port(net::PortSpec),
    Router(net::RouterSpec),
    Server(ServerItem),
    Snapshot(SnapshotItem),
    Image(ImageItem),
    Pool(PoolItem),
    Volume(VolumeItem),
    Backup(BackupItem),
}

/// Names an item: `server/0198...`. Order of kinds is order of dependence.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ItemKey {
    pub kind: ItemKind,
    pub id: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemKind {
    Network,
    Group,
    Port,
    Router,
    Pool,
    Volume,
    Backup,
    Server,
    Snapshot,
    Image,
}

impl fmt::Display for ItemKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ItemKind::Network => "network",
            ItemKind::Group => "group",
            ItemKind::Port => "port",
            ItemKind::Router => "router",
            ItemKind::Pool => "pool",
            ItemKind::Volume => "volume",
            ItemKind::Backup => "backup",
            ItemKind::Server => "server",
            ItemKind::Snapshot => "snapshot",
            ItemKind::Image => "image",
        };
        write!(f, "{kind}/{}", self.id)
    }
}

impl Item {
    pub fn key(&self) -> ItemKey {
        let (kind, id) = match self {
            Item::Network(spec) => (ItemKind::Network, spec.id.as_str()),
            Item::Group(spec) => (ItemKind::Group, spec.id.as_str()),
            Item::Port(spec) => (ItemKind::Port, spec.id.as_str()),
            Item::Router(spec) => (ItemKind::Router, spec.id.as_str()),
            Item::Server(item) => (ItemKind::Server, item.id.as_str()),
            Item::Snapshot(item) => (ItemKind::Snapshot, item.image.as_str()),
            Item::Image(item) => (ItemKind::Image, item.image.id.as_str()),
            Item::Pool(item) => (ItemKind::Pool, item.id.as_str()),
            Item::Volume(item) => (ItemKind::Volume, item.id.as_str()),
            Item::Backup(item) => (ItemKind::Backup, item.id.as_str()),
        };
        ItemKey { kind, id: id.to_owned() }
    }
}

/// A server as its host needs to know it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerItem {
    pub id: Id<Server>,
    /// Older generations than the one already seen are refused.
    pub generation: u64,
    pub run: Run,
    /// The guest is not asked to power off before it is.
    #[serde(default)]
    pub off_at_once: bool,
    pub incarnation: u64,
    pub hard_reboots: u64,
    pub soft_reboots: u64,
    pub vcpus: u32,
    pub memory_mib: u64,
    /// 0: as large as the image.
    pub root_gib: u64,
    pub ephemeral_gib: u64,
    pub swap_mib: u64,
    pub image: Option<ImageRef>,
    pub kernel: Option<ImageRef>,
    pub ramdisk: Option<ImageRef>,
    /// From the image and flavor: machine and device models and the like.
    #[serde(default)]
    pub hardware: BTreeMap<String, String>,
    pub config_drive: bool,
    /// Ids of port items, in the order of the guest's devices.
    pub ports: Vec<String>,
    pub rescue: Option<RescueItem>,
    /// In the order of the guest's disks; with a boot index of 0 one is the root disk, and there is no local one.
    #[serde(default)]
    pub volumes: Vec<VolumeUse>,
    /// It may run only while this host holds a lease: the cloud starts it elsewhere when the host is lost.
    #[serde(default)]
    pub leased: bool,
    /// It moves between this host and another.
    #[serde(default)]
    pub migration: Option<MigrationItem>,
    pub guest: GuestData,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RescueItem {
    pub image: Option<ImageRef>,
    pub admin_password: String,
}

/// An image to fetch with `GET /images/{id}`, and what its bytes must be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageRef {
    pub id: Id<Image>,
    pub format: String,
    pub size: u64,
    pub sha512: String,
    #[serde(default)]
    pub min_disk_gib: u64,
}

/// What the guest learns from metadata service and config drive.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GuestData {
    pub name: String,
    pub hostname: String,
    pub project: String,
    pub zone: String,
    pub flavor: String,
    pub reservation: String,
    pub launch_index: u32,
    pub key_name: Option<String>,
    pub public_key: Option<String>,
    /// Base64, as the tenant sent it.
    pub user_data: Option<String>,
    pub admin_password: Option<String>,
    pub metadata: BTreeMap<String, String>,
    pub personality: BTreeMap<String, String>,
    pub security_groups: Vec<String>,
    /// Floating address of each fixed address that has one.
    pub floating: BTreeMap<String, String>,
    /// Tags of devices: port id -> tag.
    pub port_tags: BTreeMap<String, String>,
}

/// A snapshot of a server's disk to be uploaded as `PUT /images/{image}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SnapshotItem {
    pub image: Id<Image>,
    pub server: Id<Server>,
    pub format: String,
}

/// An image to have at hand before a server asks for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageItem {
    pub image: ImageRef,
    /// Changes when it is asked for again.
    pub request: u64,
}

/// Which host a session is for; proven by its certificate.
pub type HostId = Id<Host>;
