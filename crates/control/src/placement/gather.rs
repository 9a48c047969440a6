//! What a view says about hosts and wishes, in the words of [`super::choose`].

use std::collections::{BTreeMap, BTreeSet};

use std::sync::Arc;

use unkai_model::Id;
use unkai_model::compute::{
    Aggregate, DEFAULT_ZONE, GroupPolicy as Policy, Host, LENT_MEMORY_MB, LENT_VCPU, Reachability, Server, ServerGroup,
};
use unkai_model::volume::Pool;
use unkai_store::View;

use crate::availability::reserve::Keeps;
use crate::volume::attachments;

use super::{Candidate, Claim, GroupPolicy, Want};

/// The availability zone of a host: of its aggregates, the one that has a zone.
pub fn zone_of(view: &View, host: &Id<Host>) -> String {
    let zone = view.by_index::<Aggregate>("host", host.as_str()).find_map(|aggregate| aggregate.zone().map(str::to_owned));
    zone.unwrap_or_else(|| DEFAULT_ZONE.to_owned())
}

/// What of a class is not given out on a host.
pub fn free(view: &View, host: &Host, class: &'static str) -> i64 {
    host.usable(class) - view.tally(class, host.meta.id.as_str())
}

/// What of each class is not given out on a host, or can be had back.
pub fn room(view: &View, host: &Host) -> BTreeMap<&'static str, i64> {
    let lent = lent(view, &host.meta.id);
    ["VCPU", "MEMORY_MB", "DISK_GB"]
        .into_iter()
        .map(|class| (class, free(view, host, class) + lent.get(class).copied().unwrap_or(0)))
        .collect()
}

fn lent(view: &View, host: &Id<Host>) -> BTreeMap<&'static str, i64> {
    [("VCPU", view.tally(LENT_VCPU, host.as_str())), ("MEMORY_MB", view.tally(LENT_MEMORY_MB, host.as_str()))].into()
}

/// Hosts as one server would meet them.
pub struct Sight<'a> {
    view: &'a View,
    /// How many members of the server's group are where.
    members: BTreeMap<Id<Host>, usize>,
    /// Where the server's volumes are.
    pools: Vec<Arc<Pool>>,
    /// Whose room is kept that it must leave alone.
    keeps: Keeps<'a>,
}

impl<'a> Sight<'a> {
    pub fn of(view: &'a View, server: &Server) -> Self {
        let mut members = BTreeMap::new();
        for host in group_hosts(view, server) {
            *members.entry(host).or_default() += 1;
        }
        let pools = attachments::pools(view, &server.meta.id);
        Sight { view, members, pools, keeps: Keeps::of_others(view, server) }
    }

    /// As those meet it that could take the server when its host and all that die with that are lost.
    pub fn for_spare(view: &'a View, server: &Server, host: &Id<Host>) -> Self {
        Sight { keeps: Keeps::beside(view, server, host), ..Sight::of(view, server) }
    }

    pub fn candidate(&self, host: &Host) -> Candidate {
        let group_members = self.members.get(&host.meta.id).copied().unwrap_or(0);
        let unreached = attachments::unreached(&self.pools, &host.meta.id);
        let seen = candidate(self.view, host);
        let closed = seen.closed.clone().or_else(|| self.keeps.dies_too(&host.meta.id));
        Candidate { group_members, unreached, closed, kept: self.keeps.on(&host.meta.id), ..seen }
    }

    pub fn all(&self) -> Vec<Candidate> {
        self.view.all::<Host>().map(|host| self.candidate(&host)).collect()
    }
}

fn candidate(view: &View, host: &Host) -> Candidate {
    let id = &host.meta.id;
    let mut aggregates: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for aggregate in view.by_index::<Aggregate>("host", id.as_str()) {
        for (key, value) in &aggregate.metadata {
            aggregates.entry(key.clone()).or_default().extend(value.split(',').map(|v| v.trim().to_owned()));
        }
    }
    let used = |class: &str| match class {
        "VCPU" => view.tally("VCPU", id.as_str()),
        "MEMORY_MB" => view.tally("MEMORY_MB", id.as_str()),
        "DISK_GB" => view.tally("DISK_GB", id.as_str()),
        _ => 0,
    };
    Candidate {
        id: Some(id.clone()),
        name: host.meta.name.clone(),
        zone: zone_of(view, id),
        closed: closed(host),
        traits: host.traits().cloned().collect(),
        resources: host.capacity.iter().map(|(class, capacity)| (class.clone(), (capacity.usable(), used(class)))).collect(),
        lent: lent(view, id),
        aggregates,
        ..Candidate::default()
    }
}

fn closed(host: &Host) -> Option<String> {
    if let Some(reason) = &host.disabled {
        return Some(if reason.is_empty() { "disabled".into() } else { format!("disabled: {reason}") });
    }
    if host.forced_down {
        return Some("forced down".into());
    }
    if host.fence.is_some() {
        return Some("fenced".into());
    }
    match host.status.reachability {
        Reachability::Up => None,
        Reachability::Suspect => Some("not heard of for a moment".into()),
        Reachability::Lost | Reachability::Unknown => Some("not connected".into()),
    }
}

fn group_hosts(view: &View, server: &Server) -> Vec<Id<Host>> {
    let Some(group) = &server.spec.wish.group else { return Vec::new() };
    let others = view.by_index::<Server>("group", group).filter(|other| other.meta.id != server.meta.id);
    let hosts = |other: std::sync::Arc<Server>| {
        let arrives = other.status.migration.as_ref().and_then(|id| view.get(id)?.destination.clone());
        other.status.host.clone().into_iter().chain(arrives)
    };
    others.flat_map(hosts).collect()
}

/// What this server wants.
pub fn want(view: &View, server: &Server) -> Want {
    let (flavor, wish) = (&server.spec.launch.flavor, &server.spec.wish);
    let with_trait = |wanted: &str| -> BTreeSet<String> {
        let specs = flavor.extra_specs.iter().filter(|(_, value)| *value == wanted);
        specs.filter_map(|(key, _)| key.strip_prefix("trait:").map(str::to_owned)).collect()
    };
    let hosts_of = |servers: &BTreeSet<String>| -> BTreeSet<Id<Host>> {
        servers.iter().filter_map(|id| view.get(&Id::<Server>::new(id.as_str()))?.status.host.clone()).collect()
    };
    let group = wish.group.as_ref().and_then(|id| view.get(&Id::<ServerGroup>::new(id.as_str())));
    Want {
        resources: server.spec.launch.resources().into_iter().filter(|(_, n)| *n > 0).map(|(class, n)| (class.to_owned(), n)).collect(),
        required_traits: with_trait("required"),
        forbidden_traits: with_trait("forbidden"),
        zone: wish.zone.clone(),
        host: wish.host.clone(),
        forced_host: wish.forced_host.clone(),
        group: group.map(|group| policy(group.policy)),
        group_started: !group_hosts(view, server).is_empty(),
        same_host: (!wish.same_host.is_empty()).then(|| hosts_of(&wish.same_host)),
        different_host: hosts_of(&wish.different_host),
        avoid: wish.avoid.clone(),
        aggregate_specs: aggregate_specs(&flavor.extra_specs),
        claim: if server.spec.preemptible { Claim::Preemptible } else { Claim::Ordinary },
    }
}

fn policy(policy: Policy) -> GroupPolicy {
    match policy {
        Policy::Affinity => GroupPolicy::Affinity,
        Policy::AntiAffinity { most } => GroupPolicy::AntiAffinity(most as usize),
        Policy::SoftAffinity => GroupPolicy::SoftAffinity,
        Policy::SoftAntiAffinity => GroupPolicy::SoftAntiAffinity,
    }
}

fn aggregate_specs(extra_specs: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let scoped = extra_specs.iter().filter_map(|(key, value)| Some((key.strip_prefix("aggregate_instance_extra_specs:")?, value)));
    scoped.map(|(key, value)| (key.to_owned(), value.clone())).collect()
}
