//! Which pool a volume goes to: filters that say why not, then a weigher, as for servers and hosts.
//!
//! What is made from a volume or a snapshot goes to the pool of that. [`choose`] is pure; [`place`] asks it inside the transaction that
//! charges the pool.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use unkai_model::compute::Host;
use unkai_model::volume::{Pool, Source, Volume, VolumeType, unmet};
use unkai_model::{Error, Id, Timestamp};
use unkai_store::{Tx, View};

use super::{carriers, reports, sources};
use crate::placement::zone_of;

/// A pool as placement sees it.
#[derive(Debug, Clone, Default)]
pub struct Candidate {
    pub id: Option<Id<Pool>>,
    pub name: String,
    /// Why an operator wants no new volumes in it.
    pub disabled: Option<String>,
    /// Hosts that reach it and are up.
    pub hosts: usize,
    /// Their availability zones; filled only when one is wanted.
    pub zones: BTreeSet<String>,
    /// No host has said yet whether it works.
    pub unheard: bool,
    /// Why it works on none of them.
    pub fault: Option<String>,
    /// GiB that may be promised, and that are.
    pub room: i64,
    pub promised: i64,
    pub capabilities: BTreeMap<String, String>,
}

/// What a volume needs of its pool.
#[derive(Debug, Clone, Default)]
pub struct Want {
    pub size_gib: i64,
    /// Where what it is made from is.
    pub pool: Option<Id<Pool>>,
    pub zone: Option<String>,
    pub extra_specs: BTreeMap<String, String>,
}

/// Why no pool takes it: each reason with the pools it is about.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NoPool {
    pub refused: Vec<(String, Vec<String>)>,
    /// One that would fit has not been heard of yet.
    pub may_come: bool,
}

impl fmt::Display for NoPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("No valid backend was found. ")?;
        if self.refused.is_empty() {
            return f.write_str("There is no storage pool.");
        }
        for (no, (reason, pools)) in self.refused.iter().enumerate() {
            let (separator, noun) = (if no == 0 { "" } else { ", " }, if pools.len() == 1 { "pool" } else { "pools" });
            write!(f, "{separator}{} {noun} ({}): {reason}", pools.len(), pools.join(", "))?;
        }
        f.write_str(".")
    }
}

/// The best pool, or why none takes it.
pub fn choose<'a>(want: &Want, pools: &'a [Candidate]) -> Result<&'a Candidate, NoPool> {
    let mut none = NoPool::default();
    let mut best: Option<&Candidate> = None;
    for pool in pools {
        match refuse(want, pool) {
            Some(reason) => {
                none.may_come |= pool.unheard && reason == UNHEARD;
                match none.refused.iter_mut().find(|(text, _)| *text == reason) {
                    Some((_, names)) => names.push(pool.name.clone()),
                    None => none.refused.push((reason, vec![pool.name.clone()])),
                }
            }
            None if best.is_none_or(|present| weight(pool) > weight(present)) => best = Some(pool),
            None => {}
        }
    }
    best.ok_or(none)
}

const UNHEARD: &str = "not heard of yet";

fn refuse(want: &Want, pool: &Candidate) -> Option<String> {
    if want.pool.as_ref().is_some_and(|wanted| Some(wanted) != pool.id.as_ref()) {
        return Some("not the pool of what it is made from".into());
    }
    // What is in a pool may be copied there even when new things should go elsewhere.
    if let Some(why) = pool.disabled.as_ref().filter(|_| want.pool.is_none()) {
        return Some(if why.is_empty() { "disabled".into() } else { format!("disabled: {why}") });
    }
    if let Some(spec) = unmet(&want.extra_specs, &pool.capabilities) {
        return Some(format!("does not have what the volume type wants, {spec}"));
    }
    if pool.hosts == 0 {
        return Some("no host that reaches it is up".into());
    }
    if let Some(zone) = want.zone.as_ref().filter(|zone| !pool.zones.contains(*zone)) {
        return Some(format!("no host of availability zone {zone} reaches it"));
    }
    if pool.unheard {
        return Some(UNHEARD.into());
    }
    if let Some(fault) = &pool.fault {
        return Some(format!("does not work: {fault}"));
    }
    let free = (pool.room - pool.promised).max(0);
    (pool.promised + want.size_gib > pool.room)
        .then(|| format!("too little space: {} GiB wanted, {free} of {} free", want.size_gib, pool.room))
}

/// Larger is better: hosts that reach it, then room, then the name so that the choice is stable.
fn weight(pool: &Candidate) -> (usize, i64, Reverse<&str>) {
    (pool.hosts, pool.room - pool.promised, Reverse(&pool.name))
}

/// The pools of a view, and the hosts of each that are up. Gathered once for many volumes.
pub struct Sight(Vec<(Arc<Pool>, Vec<Arc<Host>>)>);

impl Sight {
    pub fn of(view: &View) -> Self {
        let up = |pool: &Pool| carriers::reaching(view, pool).filter(|host| carriers::is_up(host)).collect();
        Sight(view.all::<Pool>().map(|pool| (pool.clone(), up(&pool))).collect())
    }

    /// As a volume with this wish would meet them; what is promised is of this view.
    pub fn candidates(&self, view: &View, want: &Want) -> Vec<Candidate> {
        self.0.iter().map(|(pool, hosts)| candidate(view, pool, hosts, want)).collect()
    }
}

fn candidate(view: &View, pool: &Pool, hosts: &[Arc<Host>], want: &Want) -> Candidate {
    let fault = |host: &Arc<Host>| pool.status.hosts.get(&host.meta.id)?.fault.clone();
    let works = hosts.iter().any(|host| fault(host).is_none());
    let zone = |host: &Arc<Host>| zone_of(view, &host.meta.id);
    Candidate {
        id: Some(pool.meta.id.clone()),
        name: pool.meta.name.clone(),
        disabled: pool.disabled.clone(),
        hosts: hosts.len(),
        zones: if want.zone.is_some() { hosts.iter().map(zone).collect() } else { BTreeSet::new() },
        unheard: pool.status.hosts.is_empty(),
        fault: hosts.iter().find_map(fault).filter(|_| !works),
        room: (pool.space().0 as f64 * pool.overcommit) as i64,
        promised: view.tally("pool_gib", pool.meta.id.as_str()),
        capabilities: pool.offers(),
    }
}

/// What this volume needs. None: what it is made from has no pool yet. An error says why it cannot be made at all.
pub fn want(view: &View, volume: &Volume) -> Result<Option<Want>, String> {
    sources::source(view, volume)?;
    let origin = sources::origin(view, volume);
    let pool = match (&volume.spec.source, origin) {
        (Source::Snapshot(_) | Source::Volume(_), Some(origin)) if origin.status.pool.is_none() => return Ok(None),
        (_, origin) => origin.and_then(|origin| origin.status.pool.clone()),
    };
    let extra_specs = view.get::<VolumeType>(&volume.spec.volume_type).map(|kind| kind.extra_specs.clone()).unwrap_or_default();
    Ok(Some(Want { size_gib: volume.spec.size_gib as i64, pool, zone: volume.spec.zone.clone(), extra_specs }))
}

/// Why this volume has no pool, or which it would get. The same code that places.
pub fn explain(view: &View, volume: &Volume) -> Result<String, String> {
    match want(view, volume)? {
        Some(want) => {
            choose(&want, &Sight::of(view).candidates(view, &want)).map(|pool| pool.name.clone()).map_err(|none| none.to_string())
        }
        None => Err("what it is made from has no pool yet".into()),
    }
}

/// Volumes that wait for a pool, or that are to go and have none.
pub fn waiting(view: &View) -> Vec<Id<Volume>> {
    let unplaced = view.by_index::<Volume>("unplaced", "yes");
    unplaced.filter(|volume| needs_pool(volume) || volume.spec.deleted).map(|volume| volume.meta.id.clone()).collect()
}

fn needs_pool(volume: &Volume) -> bool {
    volume.status.pool.is_none() && volume.status.fault.is_none() && !volume.spec.deleted
}

/// For so long a volume waits for a pool that no host has spoken of.
const PATIENCE_SECONDS: i64 = 30;

fn is_young(volume: &Volume, now: Timestamp) -> bool {
    now.duration_since(volume.meta.created).as_secs() < PATIENCE_SECONDS
}

/// Gives each of these volumes that still waits a pool and a carrier, or writes down why there is none.
pub fn place(tx: &mut Tx, volumes: &[Id<Volume>]) -> Result<(), Error> {
    let sight = Sight::of(&tx.view());
    for id in volumes {
        let view = tx.view();
        let Some(volume) = view.get(id).filter(|volume| volume.status.pool.is_none()) else { continue };
        if volume.spec.deleted {
            reports::forget(tx, id)?;
            continue;
        }
        if !needs_pool(&volume) {
            continue;
        }
        let want = match want(&view, &volume) {
            Ok(Some(want)) => want,
            Ok(None) => continue,
            Err(reason) => {
                sources::fail(tx, id, reason)?;
                continue;
            }
        };
        match choose(&want, &sight.candidates(&view, &want)) {
            Ok(pool) => {
                tracing::info!(volume = %id, pool = pool.name, "placed");
                tx.update(id, |volume: &mut Volume| {
                    volume.status.pool.clone_from(&pool.id);
                    Ok::<_, Error>(())
                })?;
                carriers::settle(tx, id)?;
            }
            Err(none) if none.may_come && is_young(&volume, tx.now()) => {}
            Err(none) => sources::fail(tx, id, none.to_string())?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(name: &str, hosts: usize, room: i64) -> Candidate {
        let capabilities = [("volume_backend_name".to_owned(), name.to_owned())].into();
        Candidate {
            id: Some(Id::new(name)),
            name: name.into(),
            hosts,
            room,
            zones: ["nova".into()].into(),
            capabilities,
            ..Candidate::default()
        }
    }

    fn want(size_gib: i64) -> Want {
        Want { size_gib, ..Want::default() }
    }

    fn chosen(want: &Want, pools: &[Candidate]) -> String {
        choose(want, pools).map(|pool| pool.name.clone()).unwrap_or_else(|none| none.to_string())
    }

    #[test]
    fn reach_then_room_then_name_decide() {
        for (pools, expected) in [
            ([pool("a", 1, 90), pool("b", 2, 10)], "b"),
            ([pool("a", 2, 10), pool("b", 2, 20)], "b"),
            ([pool("b", 2, 10), pool("a", 2, 10)], "a"),
            ([Candidate { promised: 85, ..pool("a", 1, 90) }, pool("b", 1, 10)], "b"),
        ] {
            assert_eq!(chosen(&want(1), &pools), expected);
        }
    }

    #[test]
    fn each_filter_says_why() {
        let none = "No valid backend was found. 1 pool (a): ";
        let typed = |value: &str| Want { extra_specs: [("volume_backend_name".into(), value.into())].into(), ..want(1) };
        for (want, pool, reason) in [
            (want(1), Candidate { disabled: Some(String::new()), ..pool("a", 1, 9) }, "disabled."),
            (want(1), Candidate { disabled: Some("new disks".into()), ..pool("a", 1, 9) }, "disabled: new disks."),
            (typed("b"), pool("a", 1, 9), "does not have what the volume type wants, volume_backend_name=b."),
            (want(1), pool("a", 0, 9), "no host that reaches it is up."),
            (Want { zone: Some("north".into()), ..want(1) }, pool("a", 1, 9), "no host of availability zone north reaches it."),
            (want(1), Candidate { unheard: true, ..pool("a", 1, 0) }, "not heard of yet."),
            (want(1), Candidate { fault: Some("no such export".into()), ..pool("a", 1, 9) }, "does not work: no such export."),
            (want(10), Candidate { promised: 4, ..pool("a", 1, 9) }, "too little space: 10 GiB wanted, 5 of 9 free."),
            (Want { pool: Some("b".into()), ..want(1) }, pool("a", 1, 9), "not the pool of what it is made from."),
        ] {
            assert_eq!(chosen(&want, &[pool]), format!("{none}{reason}"));
        }
        assert_eq!(chosen(&typed("a"), &[pool("a", 1, 9), pool("b", 9, 9)]), "a");
        assert_eq!(chosen(&want(1), &[]), "No valid backend was found. There is no storage pool.");
    }

    #[test]
    fn reasons_are_gathered() {
        let pools = [pool("a", 0, 9), pool("b", 0, 9), pool("c", 1, 0)];
        assert_eq!(
            chosen(&want(1), &pools),
            "No valid backend was found. 2 pools (a, b): no host that reaches it is up, 1 pool (c): too little space: 1 GiB wanted, 0 of 0 free."
        );
    }

    #[test]
    fn a_copy_is_made_where_its_source_is_though_the_pool_is_disabled() {
        let pools = [Candidate { disabled: Some("full".into()), ..pool("a", 1, 9) }, pool("b", 3, 90)];
        assert_eq!(chosen(&Want { pool: Some("a".into()), ..want(1) }, &pools), "a");
        assert_eq!(chosen(&want(1), &pools), "b");
    }

    #[test]
    fn only_a_pool_that_would_fit_is_waited_for() {
        let unheard = Candidate { unheard: true, ..pool("a", 1, 0) };
        assert!(choose(&want(1), std::slice::from_ref(&unheard)).is_err_and(|none| none.may_come));
        let disabled = Candidate { disabled: Some(String::new()), ..unheard };
        assert!(choose(&want(1), &[disabled, pool("b", 1, 0)]).is_err_and(|none| !none.may_come));
    }
}
