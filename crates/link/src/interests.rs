//! Which session has to look at the store again after a change: the one for which something was read that changed. With thousands of
//! hosts nearly all changes concern one or two.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;
use unkai_store::{Reads, Revision, Store};

/// What all sessions of a controller are interested in.
#[derive(Default)]
pub(crate) struct Interests {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    next: u64,
    /// The store has stopped.
    over: bool,
    sessions: BTreeMap<u64, Session>,
    /// Digest of a fact -> sessions for which it was read.
    readers: HashMap<u64, Vec<u64>>,
}

#[derive(Default)]
struct Session {
    facts: Vec<u64>,
    /// The revision that it has to look at.
    due: Option<Revision>,
    wake: Arc<Notify>,
}

impl Session {
    fn wake(&mut self, revision: Revision) {
        self.due = self.due.max(Some(revision));
        self.wake.notify_one();
    }
}

/// Whatever revision was looked at is not enough.
const ANY: Revision = Revision::MAX;

/// One session's; it ends when this is dropped.
pub(crate) struct Interest {
    of: Arc<Interests>,
    number: u64,
    wake: Arc<Notify>,
}

impl Interests {
    pub fn enter(self: &Arc<Self>) -> Interest {
        let mut table = self.lock();
        table.next += 1;
        let (number, session) = (table.next, Session::default());
        let wake = session.wake.clone();
        table.sessions.insert(number, session);
        Interest { of: self.clone(), number, wake }
    }

    /// Wakes whom changes concern, until the store stops; then everybody.
    pub async fn follow(self: Arc<Self>, store: Store) {
        let (mut watch, mut seen) = (store.watch(), store.view());
        drop(store);
        // What changed before the watch began may be in no change that it shows.
        self.wake(None, ANY);
        while let Some((view, _)) = watch.next().await {
            match view.differences(&seen) {
                Some(changed) => self.wake(Some(&changed), view.revision()),
                None => self.wake(None, ANY),
            }
            seen = view;
        }
        self.lock().over = true;
        self.wake(None, ANY);
    }

    /// None: everybody.
    fn wake(&self, changed: Option<&Reads>, revision: Revision) {
        let table = &mut *self.lock();
        let Some(changed) = changed else { return table.sessions.values_mut().for_each(|session| session.wake(revision)) };
        let concerned: BTreeSet<u64> = changed.digests().filter_map(|fact| table.readers.get(&fact)).flatten().copied().collect();
        for number in concerned {
            if let Some(session) = table.sessions.get_mut(&number) {
                session.wake(revision);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Table {
    fn set(&mut self, number: u64, mut facts: Vec<u64>) {
        facts.sort_unstable();
        let Some(session) = self.sessions.get_mut(&number) else { return };
        let before = std::mem::replace(&mut session.facts, facts.clone());
        for fact in before.iter().filter(|fact| facts.binary_search(fact).is_err()) {
            if let Some(readers) = self.readers.get_mut(fact) {
                readers.retain(|reader| *reader != number);
                if readers.is_empty() {
                    self.readers.remove(fact);
                }
            }
        }
        for fact in facts.iter().filter(|fact| before.binary_search(fact).is_err()) {
            self.readers.entry(*fact).or_default().push(number);
        }
    }
}

impl Interest {
    /// To be called before the newest view is taken, which is then looked at.
    pub fn begin(&self) {
        if let Some(session) = self.of.lock().sessions.get_mut(&self.number) {
            session.due = None;
        }
    }

    /// What was read of a view; what of that changes afterwards wakes. What changed before this call it has to look for itself.
    pub fn set(&self, revision: Revision, reads: &Reads) {
        let mut table = self.of.lock();
        table.set(self.number, reads.digests().collect());
        if let Some(session) = table.sessions.get_mut(&self.number) {
            session.due = session.due.filter(|due| *due > revision);
        }
    }

    /// Returns when there is something to look at; false: there will not be anything any more. Cancel safe.
    pub async fn woken(&self) -> bool {
        loop {
            {
                let table = self.of.lock();
                if table.over || table.sessions.get(&self.number).is_some_and(|session| session.due.is_some()) {
                    return !table.over;
                }
            }
            self.wake.notified().await;
        }
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        let mut table = self.of.lock();
        table.set(self.number, Vec::new());
        table.sessions.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use unkai_model::compute::{Aggregate, Host};
    use unkai_model::{Id, Meta};
    use unkai_store::{System, View};

    use super::*;

    async fn is_woken(interest: &Interest) -> bool {
        tokio::time::timeout(Duration::from_millis(100), interest.woken()).await.is_ok()
    }

    async fn touch(store: &Store, host: &'static str) {
        let body = move |tx: &mut unkai_store::Tx| {
            tx.update(&Id::<Host>::new(host), |host: &mut Host| {
                host.disabled = Some("for a while".into());
                Ok::<_, unkai_model::Error>(())
            })
            .map(drop)
        };
        store.transact(body).await.unwrap();
    }

    #[tokio::test]
    async fn a_change_wakes_those_for_whom_it_was_read() {
        let store = Store::in_memory(Arc::new(System));
        let host = |id, number| Host::new(Meta::new(id).named(id), number);
        let hosts = move |tx: &mut unkai_store::Tx| [host("a", 1), host("b", 2)].into_iter().try_for_each(|host| tx.insert(host).map(drop));
        store.transact(hosts).await.unwrap();
        let interests = Arc::new(Interests::default());
        let waker = tokio::spawn(interests.clone().follow(store.clone()));
        let (a, b) = (interests.enter(), interests.enter());
        assert!(is_woken(&a).await && is_woken(&b).await, "whoever is there when it begins looks once");
        let look = |interest: &Interest, read: fn(&View)| {
            interest.begin();
            let view = store.view();
            interest.set(view.revision(), &view.record(read).1);
        };
        look(&a, |view| drop(view.get(&Id::<Host>::new("a"))));
        // What is not there yet can come.
        look(&b, |view| assert_eq!(view.by_index::<Aggregate>("host", "b").count(), 0));
        touch(&store, "a").await;
        assert!(is_woken(&a).await && !is_woken(&b).await);
        assert!(is_woken(&a).await, "until it has looked");
        look(&a, |view| drop(view.get(&Id::<Host>::new("a"))));
        touch(&store, "b").await;
        assert!(!is_woken(&a).await && !is_woken(&b).await);
        let aggregate = |tx: &mut unkai_store::Tx| {
            let rack = Aggregate::new(Meta::new("rack"), 1, None);
            tx.insert(Aggregate { hosts: [Id::new("b")].into(), ..rack }).map(drop)
        };
        store.transact(aggregate).await.unwrap();
        assert!(!is_woken(&a).await && is_woken(&b).await);
        drop(a);
        assert_eq!(interests.lock().readers.len(), 1, "who has left reads nothing");
        waker.abort();
    }
}
