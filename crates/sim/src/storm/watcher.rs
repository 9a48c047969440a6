//! What is seen of all machines while a storm goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use unkai_model::Id;
use unkai_model::compute::Server;
use unkai_model::network::Port;
use unkai_store::Store;

use crate::cloud::Task;
use crate::host::Machine;

/// Between looks.
const LOOK: Duration = Duration::from_millis(20);
/// So many broken promises tell enough.
const MOST: usize = 10;

/// Looks at all machines all the time.
pub struct Watcher {
    seen: Arc<Mutex<Vec<String>>>,
    _task: Task,
}

impl Watcher {
    pub fn start(machines: Vec<Machine>, store: Store) -> Self {
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let (began, notes) = (Instant::now(), seen.clone());
        let task = Task::spawn(async move {
            let mut addresses = BTreeMap::new();
            loop {
                tokio::time::sleep(LOOK).await;
                addresses.extend(store.view().all::<Port>().filter_map(|port| Some((port.meta.id.clone(), port.addresses().next()?))));
                let broken = twice(&machines).into_iter().chain(writers(&machines)).chain(speakers(&machines, &addresses));
                let mut notes = notes.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                notes.extend(broken.map(|what| format!("at {:?} {what}", began.elapsed())));
                notes.truncate(MOST);
            }
        });
        Watcher { seen, _task: task }
    }

    pub fn broken(&self) -> Vec<String> {
        self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

/// Servers that run on two machines.
fn twice(machines: &[Machine]) -> Vec<String> {
    let mut places: BTreeMap<Id<Server>, Vec<(String, bool)>> = BTreeMap::new();
    for machine in machines {
        for (id, instance) in machine.running() {
            places.entry(id).or_default().push((machine.host.to_string(), instance.leased));
        }
    }
    places.into_iter().filter(|(_, places)| places.len() > 1).map(|(id, places)| format!("server {id} runs on {places:?}")).collect()
}

/// Every guest that runs writes to its volumes. None that was let run under a lease is fenced off while it does, and of those that are let
/// write to a volume there is one, unless it is shared.
fn writers(machines: &[Machine]) -> Vec<String> {
    let mut broken = Vec::new();
    let mut writers: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for machine in machines {
        for (id, instance) in machine.running() {
            for open in instance.volumes.iter().filter(|open| !open.read_only && !open.shared) {
                let written = machine.storage.write(&open.volume, open.fence, None);
                if written {
                    writers.entry(open.volume.clone()).or_default().insert(format!("{id} on {}", machine.host));
                }
                if !written && instance.leased {
                    let (volume, fence) = (&open.volume, open.fence);
                    broken.push(format!("server {id} on {} runs and cannot write to volume {volume} as {fence}", machine.host));
                }
            }
        }
    }
    let several = writers.into_iter().filter(|(_, writers)| writers.len() > 1);
    broken.extend(several.map(|(volume, writers)| format!("volume {volume} is written to by {writers:?}")));
    broken
}

/// No address is spoken from by two guests that were let run under a lease. One without may still run on a host that was given up, after
/// what it had was given to others.
fn speakers(machines: &[Machine], addresses: &BTreeMap<Id<Port>, IpAddr>) -> Vec<String> {
    let mut speakers: BTreeMap<IpAddr, BTreeSet<Id<Server>>> = BTreeMap::new();
    for (id, instance) in machines.iter().flat_map(Machine::running).filter(|(_, instance)| instance.leased) {
        for address in instance.ports.iter().filter_map(|port| addresses.get(port)) {
            speakers.entry(*address).or_default().insert(id.clone());
        }
    }
    let several = speakers.into_iter().filter(|(_, speakers)| speakers.len() > 1);
    several.map(|(address, speakers)| format!("{address} is spoken from by {speakers:?}")).collect()
}
