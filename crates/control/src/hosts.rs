//! Hosts as documents: admission, what an agent's introduction makes of them, and whether they are heard.
//!
//! A host is judged by the controller that hears it, which its document names; another one judges it only when that controller is
//! itself silent. Silence is counted by [`Ears`] in attentive time: a controller that was paused has not listened meanwhile, so it
//! concludes nothing from what it did not hear. A verdict names the session it is about, and is void when there is a newer one.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use unkai_link::enrolment::Enrol;
use unkai_link::item::HostId;
use unkai_link::report::Inventory;
use unkai_model::compute::{Admission, Capacity, Host, HostStatus, HostToken, Reachability};
use unkai_model::{Error, Id, Meta};
use unkai_store::{Tx, View};

/// Silence after which a host is suspect, and after which it is lost.
const SUSPECT: Duration = Duration::from_secs(6);
const LOST: Duration = Duration::from_secs(30);

/// Overcommitment that hosts begin with, as the field has it.
const RATIOS: [(&str, f64); 3] = [("VCPU", 16.0), ("MEMORY_MB", 1.5), ("DISK_GB", 1.0)];
/// Memory kept for the machine itself.
const RESERVED_MEMORY_MIB: i64 = 512;

/// Enters or refreshes a host from its own words, and begins a session with it. Answers the session's number.
pub fn hello(tx: &mut Tx, id: &HostId, process: &str, inventory: &Inventory) -> Result<u64, Error> {
    let now = tx.now();
    if tx.get(id).is_none() {
        enter(tx, id, &inventory.host_name)?;
    }
    let host = tx.update(id, |host: &mut Host| {
        host.capacity = capacity(&host.capacity, inventory);
        let heard = (host.status.reachability == Reachability::Up).then_some(host.status.since).flatten();
        host.status = HostStatus {
            heard_by: Some(process.to_owned()),
            session: host.status.session + 1,
            reachability: Reachability::Up,
            since: Some(heard.unwrap_or(now)),
            ..status(inventory, &host.status)
        };
        Ok::<_, Error>(())
    })?;
    Ok(host.status.session)
}

/// What the machine is and has, said again in a session.
pub fn inventory(tx: &mut Tx, id: &HostId, inventory: &Inventory) -> Result<(), Error> {
    let Some(present) = tx.get(id) else { return Ok(()) };
    let (capacity, status) = (capacity(&present.capacity, inventory), status(inventory, &present.status));
    if present.capacity == capacity && present.status == status {
        return Ok(());
    }
    tx.update(id, |host: &mut Host| {
        (host.capacity, host.status) = (capacity, status);
        Ok::<_, Error>(())
    })
    .map(drop)
}

fn enter(tx: &mut Tx, id: &HostId, name: &str) -> Result<(), Error> {
    let number = tx.all::<Host>().map(|host| host.number).max().unwrap_or(0) + 1;
    tx.insert(Host::new(Meta::new(id.clone()).named(name), number)).map(drop)
}

/// Enters the machine of the controller itself, which needs no token.
pub fn own(tx: &mut Tx, id: &HostId, name: &str) -> Result<(), Error> {
    if tx.get(id).is_some() { Ok(()) } else { enter(tx, id, name) }
}

/// Writes down a token; those whose time is over go.
pub fn token(tx: &mut Tx, hash: &str, life: Duration, uses: u32, host: Option<HostId>) -> Result<(), Error> {
    let now = tx.now();
    let over: Vec<_> = tx.all::<HostToken>().filter(|token| token.expires <= now).map(|token| token.meta.id.clone()).collect();
    for token in over {
        tx.delete(&token)?;
    }
    if let Some(host) = &host {
        tx.require(host)?;
    }
    let expires = now.checked_add(life).map_err(|e| Error::invalid(format!("the token's life: {e}")))?;
    tx.insert(HostToken { meta: Meta::new(hash.to_owned()), expires, uses, host }).map(drop)
}

/// Spends a token: the machine is this host from now on, by certificates of this enrolment.
pub fn enrol(tx: &mut Tx, hash: &str, enrol: &Enrol) -> Result<(HostId, u64), Error> {
    let id = Id::<HostToken>::new(hash);
    let refuse = || Error::Denied("the token is unknown, spent or too old; `unkai host token` makes another".into());
    let token = tx.get(&id).filter(|token| token.expires > tx.now()).ok_or_else(refuse)?;
    let name = enrol.name.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if name.is_empty() || name.len() > 253 || !name.chars().all(plain) {
        return Err(Error::invalid("a host's name has 1 to 253 letters, digits, dots, dashes and underlines"));
    }
    let host = match (&token.host, &enrol.host) {
        (Some(meant), _) => meant.clone(),
        (None, Some(before)) if tx.get(before).is_some() => {
            return Err(Error::conflict(format!(
                "this machine is host {before} already; `unkai host token --host {before}` admits it again"
            )));
        }
        (None, _) => {
            if let Some(other) = tx.holder::<Host>("host-name", name) {
                return Err(Error::conflict(format!("host {other} has the name {name} already; choose another with --name")));
            }
            let host = tx.new_id();
            enter(tx, &host, name)?;
            host
        }
    };
    let entered = tx.update(&host, |host: &mut Host| {
        host.status.admission = Admission { enrolment: host.status.admission.enrolment + 1, revoked: None };
        Ok::<_, Error>(())
    })?;
    if token.uses > 1 {
        tx.update(&id, |token: &mut HostToken| {
            token.uses -= 1;
            Ok::<_, Error>(())
        })?;
    } else {
        tx.delete(&id)?;
    }
    Ok((host, entered.status.admission.enrolment))
}

/// From now on no certificate of this host is good.
pub fn revoke(tx: &mut Tx, id: &HostId) -> Result<(), Error> {
    let now = tx.now();
    tx.update(id, |host: &mut Host| {
        host.status.admission.revoked.get_or_insert(now);
        Ok::<_, Error>(())
    })
    .map(drop)
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

/// What the inventory says, and of the rest what was there.
fn status(inventory: &Inventory, before: &HostStatus) -> HostStatus {
    HostStatus {
        address: inventory.address,
        underlay: inventory.underlay,
        hypervisor: inventory.hypervisor.clone(),
        hypervisor_version: inventory.hypervisor_version,
        cpu_model: inventory.cpu_model.clone(),
        cpu_arch: inventory.cpu_arch.clone(),
        traits: inventory.traits.clone(),
        agent_version: inventory.agent_version.clone(),
        booted: inventory.booted,
        physical_networks: inventory.physical_networks.clone(),
        facts: inventory.facts.clone(),
        unmanaged: inventory.unmanaged.clone(),
        reachability: before.reachability,
        since: before.since,
        heard_by: before.heard_by.clone(),
        session: before.session,
        admission: before.admission.clone(),
    }
}

/// Counts how long each of many has been silent, from numbers that grow as long as one is not. In attentive time: of a pause between two
/// looks only as much counts as a look normally takes.
#[derive(Default)]
pub struct Ears {
    heard: HashMap<String, (u64, Duration)>,
}

impl Ears {
    /// Looks at the numbers after `passed`, of which at most `most` was attentive.
    pub fn listen(&mut self, numbers: impl IntoIterator<Item = (String, u64)>, passed: Duration, most: Duration) {
        self.heard.values_mut().for_each(|(_, silent)| *silent += passed.min(most));
        for (who, number) in numbers {
            let entry = self.heard.entry(who).or_default();
            if entry.0 != number {
                *entry = (number, Duration::ZERO);
            }
        }
    }

    pub fn silence(&self, who: &str) -> Option<Duration> {
        self.heard.get(who).map(|(_, silent)| *silent)
    }
}

/// What one controller knows of the silence of others.
pub struct Listening<'a> {
    pub process: &'a str,
    pub hosts: &'a Ears,
    pub controllers: &'a Ears,
    /// Attentive time since this controller began: longer than this nothing has been silent for it.
    pub age: Duration,
}

/// One judgement, about one session.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    pub host: HostId,
    pub session: u64,
    pub reachability: Reachability,
}

/// Hosts whose reachability is not what their silence says.
pub fn changed(view: &View, listening: &Listening<'_>) -> Vec<Verdict> {
    let verdict = |host: &Host| {
        let reachability = judge(host, listening)?;
        let differs = reachability != host.status.reachability;
        differs.then(|| Verdict { host: host.meta.id.clone(), session: host.status.session, reachability })
    };
    view.all::<Host>().filter_map(|host| verdict(&host)).collect()
}

impl Listening<'_> {
    /// How long a host is known to have been silent. None: it is not for this controller to say.
    pub fn silence(&self, host: &Host) -> Option<Duration> {
        match host.status.heard_by.as_deref() {
            // Admitted, and never connected.
            None if host.status.session == 0 => None,
            Some(process) if process == self.process => self.hosts.silence(host.meta.id.as_str()),
            // The controller that hears it knows better, as long as it lives.
            other => Some(other.and_then(|process| self.controllers.silence(process)).unwrap_or(self.age)),
        }
    }
}

fn judge(host: &Host, listening: &Listening<'_>) -> Option<Reachability> {
    let silence = listening.silence(host)?;
    match silence {
        silence if silence < SUSPECT => (host.status.heard_by.as_deref() == Some(listening.process)).then_some(Reachability::Up),
        silence if silence < LOST => Some(Reachability::Suspect),
        _ => Some(Reachability::Lost),
    }
}

pub fn set(tx: &mut Tx, verdicts: &[Verdict]) -> Result<(), Error> {
    let now = tx.now();
    for Verdict { host: id, session, reachability } in verdicts {
        if tx.get(id).is_none_or(|host| host.status.session != *session || host.status.reachability == *reachability) {
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

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn host(heard_by: &str) -> Host {
        let status = HostStatus { heard_by: Some(heard_by.into()), session: 1, reachability: Reachability::Up, ..Default::default() };
        Host { status, ..Host::new(Meta::new("h"), 1) }
    }

    /// Looks once a second; the number of `who` grows while `alive`.
    fn look(ears: &mut Ears, who: &str, seconds: u64, alive: bool) {
        for _ in 0..seconds {
            let number = ears.heard.get(who).map_or(1, |(number, _)| number + u64::from(alive));
            ears.listen([(who.to_owned(), number)], SECOND, 2 * SECOND);
        }
    }

    fn judged(heard_by: &str, hosts: &Ears, controllers: &Ears, age: u64) -> Option<Reachability> {
        judge(&host(heard_by), &Listening { process: "me", hosts, controllers, age: SECOND * age as u32 })
    }

    #[test]
    fn a_host_that_is_heard_here_is_judged_here() {
        let (mut hosts, controllers) = (Ears::default(), Ears::default());
        assert_eq!(judged("me", &hosts, &controllers, 100), None);
        look(&mut hosts, "h", 10, true);
        assert_eq!(judged("me", &hosts, &controllers, 100), Some(Reachability::Up));
        look(&mut hosts, "h", 7, false);
        assert_eq!(judged("me", &hosts, &controllers, 100), Some(Reachability::Suspect));
        look(&mut hosts, "h", 30, false);
        assert_eq!(judged("me", &hosts, &controllers, 100), Some(Reachability::Lost));
    }

    #[test]
    fn a_host_that_another_controller_hears_is_not_silent_here() {
        let (mut hosts, mut controllers) = (Ears::default(), Ears::default());
        // It was here once.
        look(&mut hosts, "h", 100, false);
        look(&mut controllers, "other", 100, true);
        assert_eq!(judged("other", &hosts, &controllers, 100), None);
        look(&mut controllers, "other", 7, false);
        assert_eq!(judged("other", &hosts, &controllers, 100), Some(Reachability::Suspect));
        look(&mut controllers, "other", 30, false);
        assert_eq!(judged("other", &hosts, &controllers, 200), Some(Reachability::Lost));
    }

    #[test]
    fn a_controller_that_slept_heard_no_silence() {
        let mut hosts = Ears::default();
        look(&mut hosts, "h", 3, true);
        hosts.listen([], Duration::from_secs(3600), 2 * SECOND);
        assert_eq!(judged("me", &hosts, &Ears::default(), 5), Some(Reachability::Up));
    }

    #[test]
    fn a_new_controller_waits_before_it_judges_those_of_one_that_is_gone() {
        let (hosts, controllers) = (Ears::default(), Ears::default());
        assert_eq!(judged("gone", &hosts, &controllers, 3), None);
        assert_eq!(judged("gone", &hosts, &controllers, 10), Some(Reachability::Suspect));
    }
}
