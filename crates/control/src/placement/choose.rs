//! The choice of a host: filters that say why not, then a weigher. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use unkai_model::Id;
use unkai_model::compute::Host;

/// A host as placement sees it.
#[derive(Debug, Clone, Default)]
pub struct Candidate {
    pub id: Option<Id<Host>>,
    pub name: String,
    pub zone: String,
    /// Why it takes no servers now; none when it does.
    pub closed: Option<String>,
    pub traits: BTreeSet<String>,
    /// Resource class -> (usable, used).
    pub resources: BTreeMap<String, (i64, i64)>,
    /// Of what is used, what can be had back by stopping preemptible servers.
    pub lent: BTreeMap<&'static str, i64>,
    /// What is kept for servers of other hosts, should those be lost.
    pub kept: BTreeMap<&'static str, i64>,
    /// Metadata of the aggregates it is in.
    pub aggregates: BTreeMap<String, BTreeSet<String>>,
    /// How many members of the wanted server group it runs.
    pub group_members: usize,
    /// Why it cannot have one of the server's volumes; none when it can have all.
    pub unreached: Option<String>,
}

/// What a server needs of its host.
#[derive(Debug, Clone, Default)]
pub struct Want {
    pub resources: BTreeMap<String, i64>,
    pub required_traits: BTreeSet<String>,
    pub forbidden_traits: BTreeSet<String>,
    pub zone: Option<String>,
    pub host: Option<String>,
    /// Skips every check but that the host exists and reaches the server's volumes.
    pub forced_host: Option<String>,
    pub group: Option<GroupPolicy>,
    /// The group has members somewhere already.
    pub group_started: bool,
    pub same_host: Option<BTreeSet<Id<Host>>>,
    pub different_host: BTreeSet<Id<Host>>,
    pub avoid: BTreeSet<String>,
    /// `aggregate_instance_extra_specs:key = value` of the flavor.
    pub aggregate_specs: BTreeMap<String, String>,
    pub claim: Claim,
}

/// What room a server may take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Claim {
    /// What is free and not kept.
    #[default]
    Ordinary,
    /// What is free, kept or not: it gives it back.
    Preemptible,
    /// What is free, kept or not: it is what that was kept for.
    Failover,
    /// And what preemptible servers have.
    Displacing,
    /// None now; what neither ordinary servers nor those that are kept room for have.
    Spare,
}

impl Want {
    /// Which of the hosts that fit is best depends on more than their room.
    pub fn compares_company(&self) -> bool {
        matches!(self.group, Some(GroupPolicy::SoftAffinity | GroupPolicy::SoftAntiAffinity))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupPolicy {
    Affinity,
    /// At most this many members on one host.
    AntiAffinity(usize),
    SoftAffinity,
    SoftAntiAffinity,
}

/// Why nothing fits: each filter with the hosts it refused, in the order of the filters, and what would help.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NoValidHost {
    pub hosts: usize,
    pub refused: Vec<(String, Vec<String>)>,
    pub help: Vec<String>,
}

impl fmt::Display for NoValidHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("No valid host was found. ")?;
        if self.hosts == 0 {
            return f.write_str("There is no host.");
        }
        for (no, (reason, hosts)) in self.refused.iter().enumerate() {
            let separator = if no == 0 { "" } else { ", " };
            let verb = if hosts.len() == 1 { "host" } else { "hosts" };
            write!(f, "{separator}{} {verb} ({}): {reason}", hosts.len(), some_of(hosts))?;
        }
        for help in &self.help {
            write!(f, "; {help}")?;
        }
        f.write_str(".")
    }
}

fn some_of(hosts: &[String]) -> String {
    const SHOWN: usize = 3;
    let mut text = hosts.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if hosts.len() > SHOWN {
        text.push_str(", ...");
    }
    text
}

/// The best host, or why none fits.
pub fn choose<'a>(want: &Want, hosts: &'a [Candidate]) -> Result<&'a Candidate, NoValidHost> {
    let mut refused: Vec<(String, Vec<String>)> = Vec::new();
    let mut best: Option<&Candidate> = None;
    for host in hosts {
        match refuse(want, host) {
            Some(reason) => match refused.iter_mut().find(|(text, _)| *text == reason) {
                Some((_, names)) => names.push(host.name.clone()),
                None => refused.push((reason, vec![host.name.clone()])),
            },
            None if best.is_none_or(|present| weight(want, host) > weight(want, present)) => best = Some(host),
            None => {}
        }
    }
    best.ok_or_else(|| NoValidHost { hosts: hosts.len(), refused, help: help(want, hosts) })
}

/// Nothing refuses this host.
pub fn fits(want: &Want, host: &Candidate) -> bool {
    refuse(want, host).is_none()
}

/// The first filter that refuses this host, in words; none when it fits.
fn refuse(want: &Want, host: &Candidate) -> Option<String> {
    if let Some(forced) = &want.forced_host {
        return if *forced != host.name { Some(format!("not the forced host {forced}")) } else { host.unreached.clone() };
    }
    if let Some(wanted) = &want.host
        && *wanted != host.name
    {
        return Some(format!("not the requested host {wanted}"));
    }
    refuse_state(want, host)
        .or_else(|| host.unreached.clone())
        .or_else(|| refuse_traits(want, host))
        .or_else(|| refuse_company(want, host))
        .or_else(|| refuse_room(want, host))
}

fn refuse_state(want: &Want, host: &Candidate) -> Option<String> {
    if let Some(closed) = &host.closed {
        return Some(closed.clone());
    }
    if want.avoid.contains(&host.name) {
        return Some("already failed this server".into());
    }
    let zone = want.zone.as_ref()?;
    (*zone != host.zone).then(|| format!("not in availability zone {zone}"))
}

fn refuse_traits(want: &Want, host: &Candidate) -> Option<String> {
    if let Some(missing) = want.required_traits.iter().find(|t| !host.traits.contains(*t)) {
        return Some(format!("lacks trait {missing}"));
    }
    if let Some(present) = want.forbidden_traits.iter().find(|t| host.traits.contains(*t)) {
        return Some(format!("has forbidden trait {present}"));
    }
    let unmet = |(key, value): &(&String, &String)| !host.aggregates.get(*key).is_some_and(|values| values.contains(*value));
    want.aggregate_specs.iter().find(unmet).map(|(key, value)| format!("in no aggregate with {key}={value}"))
}

fn refuse_company(want: &Want, host: &Candidate) -> Option<String> {
    let here = |hosts: &BTreeSet<Id<Host>>| host.id.as_ref().is_some_and(|id| hosts.contains(id));
    if want.same_host.as_ref().is_some_and(|hosts| !here(hosts)) {
        return Some("not the host of the servers named by same_host".into());
    }
    if here(&want.different_host) {
        return Some("host of a server named by different_host".into());
    }
    match want.group? {
        GroupPolicy::Affinity if want.group_started && host.group_members == 0 => Some("not the host of its server group".into()),
        GroupPolicy::AntiAffinity(most) if host.group_members >= most => Some("already runs a member of its server group".into()),
        _ => None,
    }
}

fn refuse_room(want: &Want, host: &Candidate) -> Option<String> {
    want.resources.iter().find_map(|(class, need)| {
        let room = Room::of(host, class);
        let short = room.for_claim(want.claim) < *need;
        short.then(|| format!("too little {class}: {need} wanted, {}", room.words(want.claim)))
    })
}

/// Of one resource class on one host.
struct Room {
    usable: i64,
    used: i64,
    lent: i64,
    kept: i64,
}

impl Room {
    fn of(host: &Candidate, class: &str) -> Room {
        let (usable, used) = host.resources.get(class).copied().unwrap_or((0, 0));
        let amount = |of: &BTreeMap<&'static str, i64>| of.get(class).copied().unwrap_or(0);
        Room { usable, used, lent: amount(&host.lent), kept: amount(&host.kept) }
    }

    /// How much a server may take.
    fn for_claim(&self, claim: Claim) -> i64 {
        let free = self.usable - self.used;
        match claim {
            Claim::Ordinary => free.min(free + self.lent - self.kept),
            Claim::Preemptible | Claim::Failover => free,
            Claim::Displacing => free + self.lent,
            Claim::Spare => free + self.lent - self.kept,
        }
    }

    fn words(&self, claim: Claim) -> String {
        let (free, usable) = ((self.usable - self.used).max(0), self.usable);
        match claim {
            Claim::Ordinary | Claim::Spare if self.kept > 0 => {
                format!("{free} of {usable} free, and {} kept for servers of other hosts, should those be lost", self.kept)
            }
            Claim::Displacing | Claim::Spare if self.lent > 0 => format!("{free} of {usable} free, and {} lent", self.lent),
            _ => format!("{free} of {usable} free"),
        }
    }
}

/// Larger is better: soft group policies first, then free memory, then free processors, then the name so that the choice is stable.
fn weight<'a>(want: &Want, host: &'a Candidate) -> (i64, i64, i64, std::cmp::Reverse<&'a str>) {
    let free = |class: &str| host.resources.get(class).map_or(0, |(usable, used)| usable - used);
    let members = host.group_members as i64;
    let company = match want.group {
        Some(GroupPolicy::SoftAffinity) => members,
        Some(GroupPolicy::SoftAntiAffinity) => -members,
        _ => 0,
    };
    (company, free("MEMORY_MB"), free("VCPU"), std::cmp::Reverse(&host.name))
}

/// The smallest change that would make room on the host that is nearest to fitting.
fn help(want: &Want, hosts: &[Candidate]) -> Vec<String> {
    let open = hosts.iter().filter(|host| {
        want.forced_host.is_none()
            && want.host.as_ref().is_none_or(|name| *name == host.name)
            && refuse_state(want, host)
                .or_else(|| host.unreached.clone())
                .or_else(|| refuse_traits(want, host))
                .or_else(|| refuse_company(want, host))
                .is_none()
    });
    let shortage = |host: &Candidate| -> Vec<(String, i64)> {
        let short = want.resources.iter().map(|(class, need)| (class.clone(), need - Room::of(host, class).for_claim(want.claim)));
        short.filter(|(_, missing)| *missing > 0).collect()
    };
    let nearest = open.map(|host| (shortage(host), host)).min_by_key(|(short, _)| (short.len(), short.iter().map(|s| s.1).sum::<i64>()));
    match nearest {
        Some((short, host)) if !short.is_empty() => {
            let missing = short.iter().map(|(class, n)| format!("{n} more {class}")).collect::<Vec<_>>().join(" and ");
            vec![format!("{missing} on {} would do", host.name)]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, memory: (i64, i64)) -> Candidate {
        Candidate {
            id: Some(Id::new(name)),
            name: name.into(),
            zone: "nova".into(),
            resources: BTreeMap::from([("MEMORY_MB".into(), memory), ("VCPU".into(), (16, 0))]),
            ..Candidate::default()
        }
    }
    fn want(memory: i64) -> Want {
        Want { resources: BTreeMap::from([("MEMORY_MB".into(), memory)]), ..Want::default() }
    }
    fn chosen(want: &Want, hosts: &[Candidate]) -> String {
        choose(want, hosts).map_or_else(|none| none.to_string(), |host| host.name.clone())
    }

    #[test]
    fn the_host_with_most_free_memory_wins_and_names_break_ties() {
        assert_eq!(chosen(&want(512), &[host("a", (4096, 4000)), host("b", (4096, 0)), host("c", (4096, 0))]), "b");
    }

    #[test]
    fn a_refusal_says_which_filter_refused_whom_and_what_would_help() {
        let mut closed = host("b", (8192, 0));
        closed.closed = Some("disabled: moving house".into());
        let text = chosen(&want(1024), &[host("a", (4096, 3584)), closed]);
        assert_eq!(
            text,
            "No valid host was found. 1 host (a): too little MEMORY_MB: 1024 wanted, 512 of 4096 free, \
             1 host (b): disabled: moving house; 512 more MEMORY_MB on a would do."
        );
    }

    /// 1024 in all: 128 free, 512 lent, 256 kept.
    #[test]
    fn room_is_kept_and_lent() {
        let mut one = host("a", (1024, 896));
        one.lent.insert("MEMORY_MB", 512);
        one.kept.insert("MEMORY_MB", 256);
        let most = |claim, host: &Candidate| (0..2048).rev().find(|need| fits(&Want { claim, ..want(*need) }, host));
        let of = |claim| most(claim, &one).unwrap();
        assert_eq!((of(Claim::Ordinary), of(Claim::Preemptible), of(Claim::Failover)), (128, 128, 128), "what is lent is not free");
        assert_eq!((of(Claim::Displacing), of(Claim::Spare)), (640, 384));
        one.lent.clear();
        assert_eq!(most(Claim::Ordinary, &one), None, "all that is free is kept");
        assert_eq!(most(Claim::Failover, &one), Some(128));
        let text = chosen(&want(64), &[one]);
        assert!(text.contains("64 wanted, 128 of 1024 free, and 256 kept for servers of other hosts"), "{text}");
        assert!(text.contains("192 more MEMORY_MB on a would do"), "{text}");
    }

    #[test]
    fn without_hosts_it_says_so() {
        assert_eq!(chosen(&want(1), &[]), "No valid host was found. There is no host.");
    }

    #[test]
    fn group_policies() {
        let mut with_member = host("a", (4096, 1024));
        with_member.group_members = 1;
        let hosts = [with_member, host("b", (4096, 0))];
        let group = |policy| Want { group: Some(policy), group_started: true, ..want(512) };
        for (policy, expected) in [
            (GroupPolicy::Affinity, "a"),
            (GroupPolicy::AntiAffinity(1), "b"),
            (GroupPolicy::SoftAffinity, "a"),
            (GroupPolicy::SoftAntiAffinity, "b"),
        ] {
            assert_eq!(chosen(&group(policy), &hosts), expected, "{policy:?}");
        }
        assert!(choose(&group(GroupPolicy::AntiAffinity(1)), &hosts[..1]).is_err());
    }

    #[test]
    fn a_host_that_does_not_reach_a_volume_is_refused_even_when_forced() {
        let far = Candidate { unreached: Some("does not reach storage pool p".into()), ..host("a", (9000, 0)) };
        assert_eq!(chosen(&want(1), &[far.clone(), host("b", (4096, 0))]), "b");
        let forced = Want { forced_host: Some("a".into()), ..want(1) };
        for want in [want(1), forced] {
            assert_eq!(chosen(&want, std::slice::from_ref(&far)), "No valid host was found. 1 host (a): does not reach storage pool p.");
        }
    }

    #[test]
    fn traits_zones_and_hints_refuse() {
        let mut fast = host("a", (4096, 0));
        fast.traits.insert("FAST".into());
        let hosts = [fast, host("b", (4096, 0))];
        let cases = [
            (Want { required_traits: ["FAST".into()].into(), ..want(1) }, "a"),
            (Want { forbidden_traits: ["FAST".into()].into(), ..want(1) }, "b"),
            (Want { host: Some("b".into()), ..want(1) }, "b"),
            (Want { different_host: [Id::new("a")].into(), ..want(1) }, "b"),
            (Want { same_host: Some([Id::new("b")].into()), ..want(1) }, "b"),
            (Want { avoid: ["a".into()].into(), ..want(1) }, "b"),
            (Want { forced_host: Some("b".into()), ..want(1 << 40) }, "b"),
        ];
        for (want, expected) in cases {
            assert_eq!(chosen(&want, &hosts), expected, "{want:?}");
        }
        let other_zone = Want { zone: Some("north".into()), ..want(1) };
        assert_eq!(chosen(&other_zone, &hosts), "No valid host was found. 2 hosts (a, b): not in availability zone north.");
    }
}
