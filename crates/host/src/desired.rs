//! What is wanted on this machine: the items, in memory and in the ledger.
//!
//! An item that the ledger cannot take (the disk is full) is wanted all the same: the deletion that makes room may be one. Until it is
//! written, the ledger has no older one of its name either, so that an agent that starts meanwhile knows nothing of it rather than
//! something that is no longer true, and waits for a controller.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};

use unkai_link::item::{ImageItem, Item, ItemKey, ItemKind, ServerItem, net};
use unkai_link::volume::{BackupItem, PoolItem, VolumeItem};
use unkai_model::Error;
use uuid::Uuid;

use crate::ledger::Ledger;

/// The present items; cheap to clone, all clones are one.
#[derive(Clone)]
pub struct Desired {
    items: Arc<RwLock<BTreeMap<ItemKey, Arc<Item>>>>,
    /// Items that the ledger did not take.
    unwritten: Arc<Mutex<BTreeSet<ItemKey>>>,
    ledger: Ledger,
}

impl Desired {
    /// Reads what an earlier agent was told.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let ledger = Ledger::open(dir.join("items"))?;
        let items = ledger.all::<Item>()?.into_iter().map(|item| (item.key(), Arc::new(item))).collect();
        Ok(Desired { items: Arc::new(RwLock::new(items)), unwritten: Arc::default(), ledger })
    }

    /// Takes an item. False when it is of an older generation than the one already known: that is refused.
    pub fn put(&self, item: Item) -> Result<bool, Error> {
        let key = item.key();
        let known = self.get(&key).map_or(Default::default(), |old| age(&old));
        if age(&item) < known {
            tracing::warn!(item = %key, new = ?age(&item), ?known, "refused an older generation");
            return Ok(false);
        }
        match self.ledger.write(&key.to_string(), &item) {
            Ok(()) => drop(self.unwritten().remove(&key)),
            Err(error) => {
                tracing::error!(item = %key, %error, cause = ?std::error::Error::source(&error), "not noted; a restart needs the controller");
                self.ledger.remove(&key.to_string())?;
                self.unwritten().insert(key.clone());
            }
        }
        self.write().insert(key, Arc::new(item));
        Ok(true)
    }

    /// Tries again to write what the ledger did not take.
    pub fn write_missing(&self) {
        let missing: Vec<ItemKey> = self.unwritten().iter().cloned().collect();
        for key in missing {
            let written = self.get(&key).is_none_or(|item| self.ledger.write(&key.to_string(), &*item).is_ok());
            if !written {
                return;
            }
            tracing::info!(item = %key, "noted after all");
            self.unwritten().remove(&key);
        }
    }

    fn unwritten(&self) -> std::sync::MutexGuard<'_, BTreeSet<ItemKey>> {
        self.unwritten.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn drop(&self, key: &ItemKey) -> Result<(), Error> {
        self.ledger.remove(&key.to_string())?;
        self.unwritten().remove(key);
        self.write().remove(key);
        Ok(())
    }

    pub fn keys(&self) -> Vec<ItemKey> {
        self.read().keys().cloned().collect()
    }

    pub fn get(&self, key: &ItemKey) -> Option<Arc<Item>> {
        self.read().get(key).cloned()
    }

    fn one(&self, kind: ItemKind, id: &str) -> Option<Arc<Item>> {
        self.get(&ItemKey { kind, id: id.to_owned() })
    }

    pub fn server(&self, id: &str) -> Option<ServerItem> {
        match self.one(ItemKind::Server, id).as_deref() {
            Some(Item::Server(server)) => Some(server.clone()),
            _ => None,
        }
    }

    /// The servers that may run here only while this host holds a lease.
    pub fn leased(&self) -> BTreeSet<Uuid> {
        let leased = |item: &Arc<Item>| match &**item {
            Item::Server(server) if server.leased || crate::server::arrives(server) => Uuid::parse_str(server.id.as_str()).ok(),
            _ => None,
        };
        self.read().values().filter_map(leased).collect()
    }

    pub fn servers(&self) -> Vec<ServerItem> {
        let servers = |item: &Arc<Item>| match &**item {
            Item::Server(server) => Some(server.clone()),
            _ => None,
        };
        self.read().values().filter_map(servers).collect()
    }

    pub fn volume(&self, id: &str) -> Option<VolumeItem> {
        match self.one(ItemKind::Volume, id).as_deref() {
            Some(Item::Volume(volume)) => Some(volume.clone()),
            _ => None,
        }
    }

    pub fn pool(&self, id: &str) -> Option<PoolItem> {
        match self.one(ItemKind::Pool, id).as_deref() {
            Some(Item::Pool(pool)) => Some(pool.clone()),
            _ => None,
        }
    }

    pub fn backup(&self, id: &str) -> Option<BackupItem> {
        match self.one(ItemKind::Backup, id).as_deref() {
            Some(Item::Backup(backup)) => Some(backup.clone()),
            _ => None,
        }
    }

    pub fn network(&self, id: &str) -> Option<net::NetworkSpec> {
        match self.one(ItemKind::Network, id).as_deref() {
            Some(Item::Network(network)) => Some(network.clone()),
            _ => None,
        }
    }

    pub fn port(&self, id: &str) -> Option<net::PortSpec> {
        match self.one(ItemKind::Port, id).as_deref() {
            Some(Item::Port(port)) => Some(port.clone()),
            _ => None,
        }
    }

    pub fn group(&self, id: &str) -> Option<net::GroupSpec> {
        match self.one(ItemKind::Group, id).as_deref() {
            Some(Item::Group(group)) => Some(group.clone()),
            _ => None,
        }
    }

    pub fn image(&self, id: &str) -> Option<ImageItem> {
        match self.one(ItemKind::Image, id).as_deref() {
            Some(Item::Image(image)) => Some(image.clone()),
            _ => None,
        }
    }

    /// The port of `network` that has this address, and the server it belongs to: who asks the metadata service.
    pub fn server_at(&self, network: &str, address: std::net::IpAddr) -> Option<(ServerItem, Vec<net::PortSpec>)> {
        let items = self.read();
        let port = items.values().find_map(|item| match &**item {
            Item::Port(port) if port.network_id == network && port.fixed_ips.iter().any(|ip| ip.address == address) => Some(port),
            _ => None,
        })?;
        let server = items.values().find_map(|item| match &**item {
            Item::Server(server) if server.ports.contains(&port.id) => Some(server.clone()),
            _ => None,
        })?;
        drop(items);
        let ports = server.ports.iter().filter_map(|id| self.port(id)).collect();
        Some((server, ports))
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<ItemKey, Arc<Item>>> {
        self.items.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<ItemKey, Arc<Item>>> {
        self.items.write().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Fencing generation and generation of what has them; nothing is older than what has not.
fn age(item: &Item) -> (u64, u64) {
    match item {
        Item::Server(server) => (0, server.generation),
        Item::Volume(volume) => (volume.fence, volume.generation),
        Item::Backup(backup) => (0, backup.generation),
        _ => (0, 0),
    }
}
