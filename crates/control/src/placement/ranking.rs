//! Hosts in the order in which placement likes them, so that a decision among thousands looks at a few.
//!
//! The order may be a little old; it only decides whom to ask first. Whether a host fits is asked of the newest state.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use unkai_model::Id;
use unkai_model::compute::{Host, SPARED_MEMORY_MB};
use unkai_store::{Revision, View};

use super::gather;

/// Free memory, free processors, name: [`super::choose`]'s weight without company.
type Rank = (Reverse<i64>, Reverse<i64>, String);
/// Free memory less all that room is kept for there, so that those who keep become many.
type SpareRank = Reverse<i64>;

#[derive(Default)]
pub struct Ranking {
    read: Revision,
    order: BTreeSet<(Rank, Id<Host>)>,
    spares: BTreeSet<(SpareRank, Id<Host>)>,
    ranks: HashMap<Id<Host>, (Rank, SpareRank)>,
}

/// Up to this many hosts are ranked anew whenever anything changed.
const FEW: usize = 64;
/// More of them when so much has changed, or their number.
const MANY_CHANGES: Revision = 1_000;

impl Ranking {
    /// Brings the order up to date with a view: always for few hosts, else when asked to or when it has become old.
    pub fn refresh(&mut self, view: &View, thoroughly: bool) {
        let hosts = view.count::<Host>();
        let old = hosts <= FEW || hosts != self.ranks.len() || view.revision().saturating_sub(self.read) > MANY_CHANGES;
        if self.read == view.revision() || !(old || thoroughly) {
            return;
        }
        self.read = view.revision();
        self.order.clear();
        self.spares.clear();
        self.ranks.clear();
        for host in view.all::<Host>() {
            self.enter(view, &host);
        }
    }

    /// Enters a host with its present room.
    pub fn update(&mut self, view: &View, id: &Id<Host>) {
        if let Some((rank, spare)) = self.ranks.remove(id) {
            self.order.remove(&(rank, id.clone()));
            self.spares.remove(&(spare, id.clone()));
        }
        if let Some(host) = view.get(id) {
            self.enter(view, &host);
        }
    }

    fn enter(&mut self, view: &View, host: &Host) {
        let (id, memory) = (&host.meta.id, gather::free(view, host, "MEMORY_MB"));
        let rank = (Reverse(memory), Reverse(gather::free(view, host, "VCPU")), host.meta.name.clone());
        let spare = Reverse(memory - view.tally(SPARED_MEMORY_MB, id.as_str()));
        self.order.insert((rank.clone(), id.clone()));
        self.spares.insert((spare, id.clone()));
        self.ranks.insert(id.clone(), (rank, spare));
    }

    /// From the one with most room.
    pub fn hosts(&self) -> impl Iterator<Item = &Id<Host>> {
        self.order.iter().map(|(_, id)| id)
    }

    /// From the one that has most room and keeps least of it.
    pub fn spares(&self) -> impl Iterator<Item = &Id<Host>> {
        self.spares.iter().map(|(_, id)| id)
    }
}
