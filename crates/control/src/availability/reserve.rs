//! Soft reservation: room for every highly available server on a second host, which only preemptible servers may use meanwhile.
//!
//! Each such server has a **spare**, a host that could take it if its own died, with all that dies with that (the host alone, its rack or its
//! zone: [`Domain`]). Since one of them dies at a time, a host keeps the largest of what servers of any one domain would need of it, not the
//! sum. So what is kept is exact, shared, and known without trying deaths out; ordinary servers are placed beside it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use unkai_link::item::HostId;
use unkai_model::compute::{Aggregate, Host, Reachability, Server};
use unkai_model::settings::Domain;
use unkai_model::{Error, Id, Timestamp};
use unkai_store::{Tx, View};

use super::settings;
use crate::placement::{self, Candidate, Claim, NoValidHost, Order, Ranking, Sight, Want, fits};

/// A server that no room was found for is looked at again after this.
const AGAIN: Duration = Duration::from_secs(5);
/// How many are looked at in one transaction.
const AT_ONCE: usize = 200;
/// Between looks at everything that is kept.
const AUDIT: Duration = Duration::from_secs(15);
/// The name of what dies together with a host.
pub fn domain_of(view: &View, host: &HostId, domain: Domain) -> String {
    let rack = || view.by_index::<Aggregate>("host", host.as_str()).find_map(|aggregate| aggregate.rack().map(str::to_owned));
    match domain {
        Domain::Host => host.to_string(),
        Domain::Rack => rack().map_or_else(|| host.to_string(), |rack| format!("rack {rack}")),
        Domain::Zone => placement::zone_of(view, host),
    }
}

/// What hosts keep, as one server meets it.
pub struct Keeps<'a> {
    view: &'a View,
    domain: Option<Domain>,
    server: Id<Server>,
    /// Only for what dies with this, and nothing that does can keep anything.
    lost: Option<String>,
}

impl<'a> Keeps<'a> {
    /// All that is kept for others.
    pub fn of_others(view: &'a View, server: &Server) -> Self {
        Keeps { view, domain: settings(view).reserve, server: server.meta.id.clone(), lost: None }
    }

    /// What is kept for others that would be lost with this host.
    pub fn beside(view: &'a View, server: &Server, host: &HostId) -> Self {
        let all = Keeps::of_others(view, server);
        Keeps { lost: all.domain.map(|domain| domain_of(view, host, domain)), ..all }
    }

    /// Why a host cannot be a spare.
    pub fn dies_too(&self, host: &HostId) -> Option<String> {
        let (domain, lost) = (self.domain?, self.lost.as_ref()?);
        (domain_of(self.view, host, domain) == *lost).then(|| match domain {
            Domain::Host => "the server is there".to_owned(),
            Domain::Rack => "it would be lost together with the server's host: same rack".to_owned(),
            Domain::Zone => "it would be lost together with the server's host: same zone".to_owned(),
        })
    }

    pub fn on(&self, host: &HostId) -> BTreeMap<&'static str, i64> {
        let Some(domain) = self.domain else { return BTreeMap::new() };
        let mut sums: HashMap<(String, &'static str), i64> = HashMap::new();
        for other in self.view.by_index::<Server>("spare", host.as_str()).filter(|other| other.meta.id != self.server) {
            let Some(from) = other.status.host.as_ref().map(|host| domain_of(self.view, host, domain)) else { continue };
            if self.lost.as_ref().is_some_and(|lost| *lost != from) {
                continue;
            }
            for (class, amount) in other.spec.launch.resources() {
                *sums.entry((from.clone(), class)).or_default() += amount;
            }
        }
        let mut most = BTreeMap::new();
        for ((_, class), sum) in sums {
            let kept: &mut i64 = most.entry(class).or_default();
            *kept = sum.max(*kept);
        }
        most
    }
}

fn want(view: &View, server: &Server) -> Want {
    Want { claim: Claim::Spare, ..placement::want_elsewhere(view, server) }
}

/// Where room could be kept for a server of this host.
pub fn find(view: &View, ranking: &Ranking, server: &Server, host: &HostId) -> Result<HostId, NoValidHost> {
    let there = at(server, host);
    let (want, sight) = (want(view, &there), Sight::for_spare(view, &there, host));
    let needs: Vec<_> = server.spec.launch.resources().into_iter().filter(|(_, need)| *need > 0).collect();
    // Most that are full are told by their accounts alone.
    let has_room = |host: &Arc<Host>| {
        let room = placement::room(view, host);
        needs.iter().all(|(class, need)| room.get(class).is_some_and(|free| free >= need))
    };
    let seen = ranking.spares().filter_map(|id| view.get(id)).filter(has_room);
    if let Some(spare) = seen.map(|host| sight.candidate(&host)).find(|candidate| fits(&want, candidate)).and_then(|spare| spare.id) {
        return Ok(spare);
    }
    let all = sight.all();
    let spare = placement::choose(&want, &all)?;
    Ok(spare.id.clone().expect("a candidate from the view has its id"))
}

/// Why no room is kept for it; none when it is, or need not be.
pub fn explain(view: &View, server: &Server) -> Option<String> {
    settings(view).reserve?;
    let host = server.status.host.as_ref().filter(|_| server.lacks_spare())?;
    let there = at(server, host);
    match placement::choose(&want(view, &there), &Sight::for_spare(view, &there, host).all()) {
        Ok(host) => Some(format!("{} is about to keep it", host.name)),
        Err(none) => Some(none.to_string()),
    }
}

fn at(server: &Server, host: &HostId) -> Server {
    let mut there = server.clone();
    there.status.host = Some(host.clone());
    there
}

/// One that is not heard for a moment goes on keeping what it keeps.
fn still_keeps(host: &Host) -> bool {
    let heard = matches!(host.status.reachability, Reachability::Up | Reachability::Suspect);
    heard && host.fence.is_none() && host.disabled.is_none() && !host.forced_down && host.status.admission.revoked.is_none()
}

fn is_valid(view: &View, server: &Server) -> bool {
    let (Some(spare), Some(host)) = (&server.status.spare, &server.status.host) else { return false };
    let Some(keeper) = view.get(spare).filter(|keeper| still_keeps(keeper)) else { return false };
    let seen = Sight::for_spare(view, server, host).candidate(&keeper);
    let closed = seen.closed.clone().filter(|_| keeper.takes_servers());
    fits(&want(view, server), &Candidate { closed, ..seen })
}

/// For whom a host can keep no room any more: by domain the most important first, as far as there is room.
fn overflow(view: &View, host: &Host, domain: Domain) -> Vec<Id<Server>> {
    let mut by_domain: BTreeMap<String, Vec<Arc<Server>>> = BTreeMap::new();
    for server in view.by_index::<Server>("spare", host.meta.id.as_str()) {
        if let Some(from) = &server.status.host {
            by_domain.entry(domain_of(view, from, domain)).or_default().push(server);
        }
    }
    if by_domain.is_empty() {
        return Vec::new();
    }
    let own = domain_of(view, &host.meta.id, domain);
    let seen = placement::room(view, host);
    let mut out = Vec::new();
    for (from, mut servers) in by_domain {
        let mut room = seen.clone();
        servers.sort_by_key(|server| super::failover::importance(server));
        for server in servers {
            let needs: Vec<_> = server.spec.launch.resources().into_iter().filter(|(_, need)| *need > 0).collect();
            let has_room = needs.iter().all(|(class, need)| room.get(class).is_some_and(|free| free >= need));
            if from == own || !has_room {
                out.push(server.meta.id.clone());
                continue;
            }
            needs.into_iter().for_each(|(class, need)| *room.entry(class).or_default() -= need);
        }
    }
    out
}

/// When what was looked at.
#[derive(Default)]
pub struct Looked {
    tried: HashMap<Id<Server>, Timestamp>,
    audited: Option<Timestamp>,
}

/// Servers that room is to be kept for, or for which it is to be kept elsewhere.
pub fn due(view: &View, looked: &mut Looked, now: Timestamp) -> Vec<Id<Server>> {
    let Some(domain) = settings(view).reserve else { return Vec::new() };
    let since = |at: &Timestamp| now.duration_since(*at).unsigned_abs();
    looked.tried.retain(|_, at| since(at) < AGAIN);
    let mut due: Vec<Id<Server>> = Vec::new();
    let audit = looked.audited.is_none_or(|at| since(&at) >= AUDIT);
    if audit {
        looked.audited = Some(now);
    }
    for host in view.all::<Host>() {
        if !still_keeps(&host) {
            due.extend(view.by_index::<Server>("spare", host.meta.id.as_str()).map(|server| server.meta.id.clone()));
        } else if audit {
            due.extend(overflow(view, &host, domain));
        }
    }
    let unspared = view.by_index::<Server>("unspared", "yes").filter(|server| !looked.tried.contains_key(&server.meta.id));
    due.extend(unspared.map(|server| server.meta.id.clone()).take(AT_ONCE));
    due.truncate(AT_ONCE);
    looked.tried.extend(due.iter().map(|id| (id.clone(), now)));
    due
}

pub fn act(tx: &mut Tx, order: &Order, servers: &[Id<Server>]) -> Result<(), Error> {
    let mut ranking = order.lock();
    ranking.refresh(&tx.view(), false);
    for id in servers {
        let view = tx.view();
        let Some(server) = view.get(id).filter(|server| server.is_leased() && server.is_live()) else { continue };
        if is_valid(&view, &server) {
            continue;
        }
        let spare = server.status.host.as_ref().and_then(|host| find(&view, &ranking, &server, host).ok());
        keep(tx, id, spare.clone())?;
        let changed = server.status.spare.iter().chain(&spare);
        changed.for_each(|host| ranking.update(&tx.view(), host));
    }
    Ok(())
}

/// Notes where room is kept for a server.
pub fn keep(tx: &mut Tx, id: &Id<Server>, spare: Option<HostId>) -> Result<(), Error> {
    if tx.get(id).is_none_or(|server| server.status.spare == spare) {
        return Ok(());
    }
    tx.update(id, |server: &mut Server| {
        server.status.spare = spare.clone();
        Ok::<_, Error>(())
    })
    .map(drop)
}

/// A server has come to a host, which has less to keep room with; and it may need room elsewhere itself.
pub fn after_arrival(tx: &mut Tx, id: &Id<Server>) -> Result<(), Error> {
    let view = tx.view();
    let Some(domain) = settings(&view).reserve else { return Ok(()) };
    let Some(server) = view.get(id) else { return Ok(()) };
    let Some(host) = server.status.host.as_ref().and_then(|host| view.get(host)) else { return Ok(()) };
    let own = server.status.spare.as_ref();
    if own.is_some_and(|spare| domain_of(&view, spare, domain) == domain_of(&view, &host.meta.id, domain)) {
        keep(tx, id, None)?;
    }
    // Its own room is kept against the loss of another host now, with other servers.
    let keepers = [Some(host), own.and_then(|spare| view.get(spare))];
    for keeper in keepers.into_iter().flatten() {
        let out = overflow(&tx.view(), &keeper, domain);
        out.iter().try_for_each(|server| keep(tx, server, None))?;
    }
    Ok(())
}
