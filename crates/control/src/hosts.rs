//! Hosts as documents: what an agent's introduction makes of them, and whether they are heard.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use unkai_link::item::HostId;
use unkai_link::report::Inventory;
use unkai_model::compute::{Capacity, Host, HostStatus, Reachability};
use unkai_model::{Error, Meta, Timestamp};
use unkai_store::{Tx, View};

/// Silence after which a host is suspect, and after which it is lost.
const SUSPECT: Duration = Duration::from_secs(6);
const LOST: Duration = Duration::from_secs(30);

/// Overcommitment that hosts begin with, as the field has it.
const RATIOS: [(&str, f64); 3] = [("VCPU", 16.0), ("MEMORY_MB", 1.5), ("DISK_GB", 1.0)];
/// Memory kept for the machine itself.
const RESERVED_MEMORY_MIB: i64 = 512;

/// Enters or refreshes a host from its own words.
pub fn hello(tx: &mut Tx, id: &HostId, inventory: &Inventory) -> Result<(), Error> {
    let now = tx.now();
    if tx.get(id).is_none() {
        let number = tx.all::<Host>().map(|host| host.number).max().unwrap_or(0) + 1;
        let meta = Meta::new(id.clone()).named(inventory.host_name.clone());
        tx.insert(Host {
            meta,
            number,
            disabled: None,
            forced_down: false,
            tags: Default::default(),
            capacity: BTreeMap::new(),
            status: HostStatus::default(),
        })?;
    }
    tx.update(id, |host: &mut Host| {
        host.capacity = capacity(&host.capacity, inventory);
        let heard = (host.status.reachability == Reachability::Up).then_some(host.status.since).flatten();
        host.status = status(inventory, heard.unwrap_or(now));
        Ok::<_, Error>(())
    })?;
    Ok(())
}

/// New totals; reserves and ratios stay as an operator has set them.
fn capacity(present: &BTreeMap<String, Capacity>, inventory: &Inventory) -> BTreeMap<String, Capacity> {
    let total = |class: &str| match class {
        "VCPU" => inventory.vcpus,
        "MEMORY_MB" => inventory.memory_mib,
        _ => inventory.disk_gib,
    };
    let one = |class: &str, ratio: f64| {
        let reserved = if class == "MEMORY_MB" { RESERVED_MEMORY_MIB } else { 0 };
        let old = present.get(class).copied().unwrap_or(Capacity { total: 0, reserved, ratio });
        (class.to_owned(), Capacity { total: total(class), ..old })
    };
    RATIOS.iter().map(|(class, ratio)| one(class, *ratio)).collect()
}

fn status(inventory: &Inventory, since: Timestamp) -> HostStatus {
    HostStatus {
        reachability: Reachability::Up,
        since: Some(since),
        address: inventory.address,
        underlay: inventory.underlay,
        hypervisor: inventory.hypervisor.clone(),
        hypervisor_version: inventory.hypervisor_version,
        cpu_model: inventory.cpu_model.clone(),
        cpu_arch: inventory.cpu_arch.clone(),
        traits: inventory.traits.clone(),
        agent_version: inventory.agent_version.clone(),
        booted: inventory.booted,
    }
}

/// Hosts whose reachability is not what their silence says. `heard`: how long ago, for those connected here; `alone`: how long this
/// controller has been listening, because what it could not have heard is no silence.
pub fn changed(view: &View, heard: &HashMap<HostId, Duration>, alone: Duration) -> Vec<(HostId, Reachability)> {
    let judge = |host: &Host| match heard.get(&host.meta.id).copied().unwrap_or(alone) {
        silence if silence < SUSPECT => heard.contains_key(&host.meta.id).then_some(Reachability::Up),
        silence if silence < LOST => Some(Reachability::Suspect),
        _ => Some(Reachability::Lost),
    };
    let verdicts = view.all::<Host>().filter_map(|host| Some((host.meta.id.clone(), host.status.reachability, judge(&host)?)));
    verdicts.filter(|(_, present, judged)| present != judged).map(|(id, _, judged)| (id, judged)).collect()
}

pub fn set(tx: &mut Tx, verdicts: &[(HostId, Reachability)]) -> Result<(), Error> {
    let now = tx.now();
    for (id, reachability) in verdicts {
        if tx.get(id).is_none() {
            continue;
        }
        tracing::info!(host = %id, ?reachability, "host");
        tx.update(id, |host: &mut Host| {
            host.status.reachability = *reachability;
            host.status.since = Some(now);
            Ok::<_, Error>(())
        })?;
    }
    Ok(())
}
