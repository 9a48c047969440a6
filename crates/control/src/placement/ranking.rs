//! Hosts in the order in which placement likes them, so that a decision among thousands looks at a few.
//!
//! The order may be a little old; it only decides whom to ask first. Whether a host fits is asked of the newest state.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use unkai_model::Id;
use unkai_model::compute::Host;
use unkai_store::{Revision, View};

use super::gather;

/// Free memory, free processors, name: [`super::choose`]'s weight without company.
type Rank = (Reverse<i64>, Reverse<i64>, String);

#[derive(Default)]
pub struct Ranking {
    read: Revision,
    order: BTreeSet<(Rank, Id<Host>)>,
    ranks: HashMap<Id<Host>, Rank>,
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
        self.ranks.clear();
        for host in view.all::<Host>() {
            self.enter(view, &host);
        }
    }

    /// Enters a host with its present room.
    pub fn update(&mut self, view: &View, id: &Id<Host>) {
        if let Some(old) = self.ranks.remove(id) {
            self.order.remove(&(old, id.clone()));
        }
        if let Some(host) = view.get(id) {
            self.enter(view, &host);
        }
    }

    fn enter(&mut self, view: &View, host: &Host) {
        let free = |class: &'static str| Reverse(gather::free(view, host, class));
        let rank = (free("MEMORY_MB"), free("VCPU"), host.meta.name.clone());
        self.ranks.insert(host.meta.id.clone(), rank.clone());
        self.order.insert((rank, host.meta.id.clone()));
    }

    /// From the one with most room.
    pub fn hosts(&self) -> impl Iterator<Item = &Id<Host>> {
        self.order.iter().map(|(_, id)| id)
    }
}
