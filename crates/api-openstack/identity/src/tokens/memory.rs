//! Sessions remembered by token, valid until any document of identity changes. Bounded: two generations, the older one is forgotten
//! when the newer is full.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use unkai_model::Kind;
use unkai_model::identity::{
    AccessRule, AppCredential, Assignment, Endpoint, EndpointAssociation, EndpointGroup, Group, Membership, Project, Region, Revocation,
    Role, SecretKey, Service, User,
};
use unkai_store::{Changes, Revision, View};

use super::session::Session;

/// How many tokens one generation remembers.
const GENERATION: usize = 8192;

/// What a session, and its rendered answer with the catalog, is made of.
const MADE_OF: [&str; 15] = [
    Project::NAME,
    User::NAME,
    Group::NAME,
    Membership::NAME,
    Role::NAME,
    Assignment::NAME,
    AppCredential::NAME,
    AccessRule::NAME,
    Revocation::NAME,
    SecretKey::NAME,
    Service::NAME,
    Endpoint::NAME,
    Region::NAME,
    EndpointGroup::NAME,
    EndpointAssociation::NAME,
];

#[derive(Default)]
pub struct Memory {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Changes up to here were looked at.
    seen: Revision,
    /// The last revision at which something that matters changed.
    changed: Revision,
    young: HashMap<Box<str>, Entry>,
    old: HashMap<Box<str>, Entry>,
}

#[derive(Clone)]
struct Entry {
    at: Revision,
    session: Arc<Session>,
}

impl Memory {
    pub fn get(&self, view: &View, token: &str) -> Option<Arc<Session>> {
        let mut inner = self.lock();
        inner.look(view);
        if let Some(entry) = inner.young.get(token) {
            return (entry.at >= inner.changed).then(|| entry.session.clone());
        }
        let entry = inner.old.remove(token).filter(|entry| entry.at >= inner.changed)?;
        inner.put(token, entry.clone());
        Some(entry.session)
    }

    /// Remembers what was judged with `view`.
    pub fn put(&self, view: &View, token: &str, session: Arc<Session>) {
        let mut inner = self.lock();
        inner.look(view);
        inner.put(token, Entry { at: view.revision(), session });
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no code panics while it holds this lock")
    }
}

impl Inner {
    fn look(&mut self, view: &View) {
        if view.revision() <= self.seen {
            return;
        }
        let matters = match view.changes_since(self.seen) {
            Changes::TooOld => true,
            Changes::Since(changes) => changes.iter().any(|change| MADE_OF.contains(&change.kind)),
        };
        self.seen = view.revision();
        if matters {
            self.changed = self.seen;
            self.old.clear();
            self.young.clear();
        }
    }

    fn put(&mut self, token: &str, entry: Entry) {
        // Judged before the last change that matters: true then, perhaps not now.
        if entry.at < self.changed {
            return;
        }
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(token.into(), entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::payload::{Method, Token};
    use crate::tokens::session;
    use jiff::Timestamp;
    use unkai_model::{Error, Id, Meta};
    use unkai_store::{Store, System, Tx};

    async fn store() -> Store {
        let store = Store::in_memory(Arc::new(System));
        let fill = |tx: &mut Tx| -> Result<(), Error> {
            tx.insert(Project::domain("default", "Default"))?;
            tx.insert(User::new("ann", "ann", &Id::from("default")))?;
            Ok(())
        };
        store.transact(fill).await.unwrap();
        store
    }

    fn session(view: &View) -> Arc<Session> {
        let now = Timestamp::now();
        let (methods, user) = ([Method::Password].into(), "ann".into());
        let token = Token { methods, issued: now, expires: now, audit: [0; 16], parent: None, user, scope: None, app_credential: None };
        Arc::new(session::judge(view, token).unwrap())
    }

    #[tokio::test]
    async fn a_change_that_matters_forgets_everything_and_another_does_not() {
        let (store, memory) = (store().await, Memory::default());
        let before = store.view();
        memory.put(&before, "t", session(&before));
        let other = |tx: &mut Tx| -> Result<(), Error> {
            tx.insert(unkai_model::quota::Quota { meta: Meta::new("q"), limits: Default::default() })?;
            Ok(())
        };
        store.transact(other).await.unwrap();
        assert!(memory.get(&store.view(), "t").is_some());
        let change = |tx: &mut Tx| {
            tx.update(&Id::from("ann"), |user: &mut User| -> Result<(), Error> {
                user.enabled = false;
                Ok(())
            })
        };
        let stale = session(&store.view());
        store.transact(change).await.unwrap();
        assert!(memory.get(&store.view(), "t").is_none());
        memory.put(&before, "t", stale);
        assert!(memory.get(&store.view(), "t").is_none(), "what was judged before the change is not kept");
    }

    #[tokio::test]
    async fn it_stays_bounded_and_keeps_what_is_used() {
        let (store, memory) = (store().await, Memory::default());
        let view = store.view();
        let session = session(&view);
        for n in 0..GENERATION * 3 {
            memory.put(&view, &n.to_string(), session.clone());
            assert!(memory.get(&view, "0").is_some(), "used all the time, after {n}");
        }
        let inner = memory.lock();
        assert!(inner.young.len() + inner.old.len() <= 2 * GENERATION);
        assert!(!inner.young.contains_key("1") && !inner.old.contains_key("1"), "what is not used is forgotten");
    }
}
