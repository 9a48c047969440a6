//! Which looks at the store found nothing to do, and would find nothing again.
//!
//! The loop looks at everything after every change. With thousands of hosts a look costs more than most changes, so one that found nothing
//! is repeated only when something that it read has changed, and once in a while for what depends on time.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use unkai_store::{Reads, Store, View};

/// What was read by looks that found nothing, by their names.
pub struct Idle {
    seen: View,
    found_nothing: BTreeMap<&'static str, Reads>,
    since: Instant,
    period: Duration,
}

impl Idle {
    /// Everything is looked at anew after `period` at the latest.
    pub fn new(view: View, period: Duration) -> Self {
        Idle { seen: view, found_nothing: BTreeMap::new(), since: Instant::now(), period }
    }

    /// What there is to do on the newest view; empty without looking when that is known.
    pub fn look<T>(&mut self, store: &Store, name: &'static str, find: impl FnOnce(&View) -> Vec<T>) -> Vec<T> {
        self.follow(store.view());
        if self.found_nothing.contains_key(name) {
            return Vec::new();
        }
        let (found, reads) = self.seen.record(find);
        if found.is_empty() {
            self.found_nothing.insert(name, reads);
        }
        found
    }

    fn follow(&mut self, view: View) {
        if self.since.elapsed() >= self.period {
            self.found_nothing.clear();
            self.since = Instant::now();
        } else if view.revision() != self.seen.revision() {
            match view.differences(&self.seen) {
                Some(changed) => self.found_nothing.retain(|_, reads| !reads.touch(&changed)),
                None => self.found_nothing.clear(),
            }
        }
        self.seen = view;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use unkai_model::compute::Host;
    use unkai_model::{Error, Id, Meta};
    use unkai_store::{System, Tx};

    use super::*;

    #[tokio::test]
    async fn what_found_nothing_looks_again_when_it_could_find_something() {
        let store = Store::in_memory(Arc::new(System));
        let host = |id: &'static str, number| {
            store.transact(move |tx: &mut Tx| Ok::<_, Error>(tx.insert(Host::new(Meta::new(id).named(id), number))?.meta.id.clone()))
        };
        let mut idle = Idle::new(store.view(), Duration::from_secs(3600));
        let mut looks = 0;
        let mut find = |idle: &mut Idle, id: &'static str| {
            let found = idle.look(&store, "one", |view| {
                looks += 1;
                view.get(&Id::<Host>::new(id)).into_iter().collect()
            });
            (found.len(), looks)
        };
        assert_eq!(find(&mut idle, "a"), (0, 1));
        host("b", 1).await.unwrap();
        assert_eq!(find(&mut idle, "a"), (0, 1), "what it did not read");
        host("a", 2).await.unwrap();
        assert_eq!(find(&mut idle, "a"), (1, 2));
        assert_eq!(find(&mut idle, "a"), (1, 3), "what there is to do is found until it is done");
        assert_eq!(find(&mut idle, "c"), (0, 4));
        assert_eq!(find(&mut idle, "c"), (0, 4));
        idle.period = Duration::ZERO;
        assert_eq!(find(&mut idle, "c"), (0, 5), "time may have made something of it");
    }
}
