//! The driver: what it was told, what it made of it, and one lock per network and per router.
//!
//! The kernel is the truth about what exists; what is kept here is only the last spec of each object, so that a small
//! change stays small. A driver that has just started knows nothing: applying everything again converges whatever an
//! earlier one left, without interrupting what is right already.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    path::Path,
    process::Command,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use tokio::sync::Mutex as AsyncMutex;

use crate::{
    Error, Result,
    names::{self, Names},
    netns::Netns,
    network::Network,
    policy::Groups,
    router::Router,
    service::Services,
};

#[derive(Clone, Debug)]
pub struct Config {
    /// Named namespace for the underlay and the external bridges, made when missing; the process's own when absent.
    pub dataplane_netns: Option<String>,
    /// Address of this host on the underlay; without one no network leaves this host.
    pub underlay: Option<IpAddr>,
    /// Begins the name of everything made where others also make things. One driver per prefix and machine.
    pub prefix: String,
    /// Where names that are not a network's own are asked; none: they are refused.
    pub dns_upstreams: Vec<SocketAddr>,
}

impl Default for Config {
    fn default() -> Self {
        Self { dataplane_netns: None, underlay: None, prefix: "uk".into(), dns_upstreams: crate::service::dns::system_upstreams() }
    }
}

/// Cheap to clone; all clones are one driver.
#[derive(Clone)]
pub struct Driver(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub config: Config,
    pub names: Names,
    pub dataplane: Netns,
    pub services: Arc<dyn Services>,
    pub networks: Slots<Network>,
    pub routers: Slots<Router>,
    /// Serialises work on external bridges; what exists is asked of the kernel.
    pub externals: AsyncMutex<()>,
    pub groups: RwLock<Groups>,
}

impl Driver {
    pub async fn open(config: Config, services: Arc<dyn Services>) -> Result<Self> {
        let names = Names::new(&config.prefix)?;
        load_bridge_filter();
        let dataplane = match &config.dataplane_netns {
            Some(name) => Netns::create(name).await?,
            None => Netns::own()?,
        };
        Ok(Self(Arc::new(Inner {
            config,
            names,
            dataplane,
            services,
            networks: Slots::default(),
            routers: Slots::default(),
            externals: AsyncMutex::default(),
            groups: RwLock::default(),
        })))
    }

    /// Runs a change to its end even when the caller stops waiting: half of a change is for crashes, not for timeouts.
    pub(crate) async fn whole<T, W>(&self, work: impl FnOnce(Driver) -> W) -> Result<T>
    where
        T: Send + 'static,
        W: Future<Output = Result<T>> + Send + 'static,
    {
        match tokio::spawn(work(self.clone())).await {
            Ok(result) => result,
            Err(e) => match e.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(Error::Invalid("the runtime is shutting down".into())),
            },
        }
    }

    pub(crate) fn groups(&self) -> Groups {
        self.0.groups.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Stateful rules on bridge ports need this part of the kernel. Where it is missing and cannot be loaded, the first
/// network says so.
fn load_bridge_filter() {
    if !Path::new("/proc/sys/net/bridge").exists() {
        let _ = Command::new("modprobe").arg("br_netfilter").output();
    }
}

/// A lock per object, so that work on one waits for nothing but earlier work on the same.
///
/// Objects are told apart as their names are: by the end of the id. So whoever says a short id from an inventory waits
/// for who says the full one.
pub(crate) struct Slots<T>(Mutex<HashMap<String, Known<T>>>);

pub(crate) type Slot<T> = Arc<AsyncMutex<Option<T>>>;

struct Known<T> {
    id: String,
    slot: Slot<T>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Slots<T> {
    pub fn slot(&self, id: &str) -> Slot<T> {
        let mut slots = self.lock();
        let known = slots.entry(names::tail(id, 12)).or_insert_with(|| Known { id: id.to_owned(), slot: Slot::default() });
        if known.id.len() < id.len() {
            known.id = id.to_owned();
        }
        known.slot.clone()
    }

    /// The full id of an object somebody works on, or worked on.
    pub fn full_id(&self, short: &str) -> Option<String> {
        self.lock().get(&names::tail(short, 12)).map(|known| known.id.clone())
    }

    pub fn all(&self) -> Vec<Slot<T>> {
        self.lock().values().map(|known| known.slot.clone()).collect()
    }

    /// Forgets slots that are empty and in nobody's hands.
    pub fn prune(&self) {
        self.lock().retain(|_, Known { slot, .. }| Arc::strong_count(slot) > 1 || slot.try_lock().map_or(true, |held| held.is_some()));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_full_ids_share_a_slot() {
        let slots = Slots::<()>::default();
        let full = "0193abcd-0000-7000-8000-000100000001";
        let a = slots.slot("000100000001");
        let b = slots.slot(full);
        assert!(Arc::ptr_eq(&a, &b));
        assert_eq!(slots.full_id("000100000001").as_deref(), Some(full));
        drop((a, b));
        slots.prune();
        assert_eq!(slots.full_id(full), None);
    }
}
