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
