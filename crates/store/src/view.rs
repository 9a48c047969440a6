//! Reading: an immutable snapshot of the whole cloud at one revision.

use std::ops::Bound;
use std::sync::Arc;

use unkai_model::{Error, Id, Kind};

use crate::Revision;
use crate::reads::{Fact, Recorder};
use crate::registry::{Erased, KindNo};
use crate::state::{IndexKey, State, shown};

/// The state at one revision. Never changes; cheap to clone and to keep.
#[derive(Clone)]
pub struct View {
    state: Arc<State>,
    recorder: Option<Recorder>,
}

/// Which document changed; its present value is in the view that came with it (absent: deleted).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Change {
    pub kind: &'static str,
    pub id: Arc<str>,
}

impl Change {
    /// The id, when the change is of kind `K`.
    pub fn of<K: Kind>(&self) -> Option<Id<K>> {
        (self.kind == K::NAME).then(|| Id::new(self.id.clone()))
    }
}

/// Answer to "what changed after revision r".
#[derive(Debug, Clone, PartialEq)]
pub enum Changes {
    /// Each changed document once, in order of its last change.
    Since(Vec<Change>),
    /// More happened than is remembered: list again.
    TooOld,
}

impl View {
    pub(crate) fn new(state: Arc<State>) -> Self {
        View { state, recorder: None }
    }

    pub(crate) fn recorded(&self, recorder: Recorder) -> Self {
        View { state: self.state.clone(), recorder: Some(recorder) }
    }

    fn note(&self, fact: Fact<'_>) {
        if let Some(recorder) = &self.recorder {
            recorder.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).note(&fact);
        }
    }

    fn no<K: Kind>(&self) -> KindNo {
        self.state.registry.no::<K>()
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    pub fn revision(&self) -> Revision {
        self.state.revision
    }

    pub fn get<K: Kind>(&self, id: &Id<K>) -> Option<Arc<K>> {
        self.note(Fact::Document(self.no::<K>(), id.as_str()));
        self.state.get(id.as_str())
    }

    /// The document, or the refusal that says it does not exist.
    pub fn require<K: Kind>(&self, id: &Id<K>) -> Result<Arc<K>, Error> {
        self.get(id).ok_or_else(|| Error::not_found::<K>(id))
    }

    /// All documents of a kind, by id.
    pub fn all<K: Kind>(&self) -> impl DoubleEndedIterator<Item = Arc<K>> + '_ {
        self.note(Fact::Kind(self.no::<K>()));
        self.state.all()
    }

    /// The documents that derive `index(name, key)`, by id.
    pub fn by_index<'a, K: Kind>(&'a self, name: &'static str, key: &str) -> impl Iterator<Item = Arc<K>> + 'a {
        self.note(Fact::Index(self.no::<K>(), name, key));
        self.state.by_index(name, key)
    }

    /// The documents of a kind whose id is greater than `id`, by id: the next page.
    pub fn after<K: Kind>(&self, id: &Id<K>) -> impl Iterator<Item = Arc<K>> + '_ {
        self.note(Fact::Kind(self.no::<K>()));
        let table = &self.state.tables[usize::from(self.no::<K>())];
        table.range((Bound::Excluded(id.text().clone()), Bound::Unbounded)).map(|(_, row)| downcast(&row.value))
    }

    /// The documents of an index whose id is greater than `id`, by id: the next page.
    pub fn by_index_after<'a, K: Kind>(&'a self, name: &'static str, key: &str, id: &Id<K>) -> impl Iterator<Item = Arc<K>> + 'a {
        self.note(Fact::Index(self.no::<K>(), name, key));
        self.state.index_range(name, key.into(), |key| Bound::Excluded((self.no::<K>(), name, key, id.text().clone())))
    }

    /// The documents of a kind whose id is smaller than `id`, or all, from the greatest id on: the newest first where ids tell the time.
    pub fn before<K: Kind>(&self, id: Option<&Id<K>>) -> impl Iterator<Item = Arc<K>> + '_ {
        self.note(Fact::Kind(self.no::<K>()));
        let to = id.map_or(Bound::Unbounded, |id| Bound::Excluded(id.text().clone()));
        self.state.tables[usize::from(self.no::<K>())].range((Bound::Unbounded, to)).rev().map(|(_, row)| downcast(&row.value))
    }

    /// The same of the documents of an index.
    pub fn by_index_before<'a, K: Kind>(&'a self, name: &'static str, key: &str, id: Option<&Id<K>>) -> impl Iterator<Item = Arc<K>> + 'a {
        self.note(Fact::Index(self.no::<K>(), name, key));
        let kind = self.no::<K>();
        let from: IndexKey = (kind, name, key.into(), "".into());
        // What follows a key is the key and the smallest character.
        let to: IndexKey = match id {
            Some(id) => (kind, name, key.into(), id.text().clone()),
            None => (kind, name, format!("{key}\0").into(), "".into()),
        };
        let found = self.state.indexes.range((Bound::Included(from), Bound::Excluded(to))).rev();
        found.filter_map(|((_, _, _, id), ())| self.state.get(id))
    }

    /// Who holds a claim.
    pub fn holder<K: Kind>(&self, namespace: &'static str, key: &str) -> Option<Id<K>> {
        self.note(Fact::Claim(namespace, key));
        self.state.holder(namespace, key)
    }

    pub fn is_claimed(&self, namespace: &'static str, key: &str) -> bool {
        self.note(Fact::Claim(namespace, key));
        self.state.claims.contains_key(&(namespace, Arc::from(key)))
    }

    pub fn tally(&self, namespace: &'static str, key: &str) -> i64 {
        self.note(Fact::Tally(namespace, key));
        self.state.tally(namespace, key)
    }

    pub fn count<K: Kind>(&self) -> usize {
        self.note(Fact::Kind(self.no::<K>()));
        self.state.tables[usize::from(self.no::<K>())].len()
    }

    /// The revision of the last write of this document.
    pub fn revision_of<K: Kind>(&self, id: &Id<K>) -> Option<Revision> {
        self.note(Fact::Document(self.no::<K>(), id.as_str()));
        self.state.row(self.no::<K>(), id.as_str()).map(|row| row.revision)
    }

    /// The documents that changed after `revision`. A revision that this store has not reached is from another history: list again.
    pub fn changes_since(&self, revision: Revision) -> Changes {
        if revision < self.state.forgotten || revision > self.state.revision {
            return Changes::TooOld;
        }
        let mut seen = std::collections::HashSet::new();
        let mut changes = Vec::new();
        for (_, (kind, id)) in self.state.changes.range((revision + 1, 0)..).rev() {
            if seen.insert((*kind, id)) {
                changes.push(Change { kind: self.state.registry.entry(*kind).name, id: id.clone() });
            }
        }
        changes.reverse();
        Changes::Since(changes)
    }
}

impl State {
    pub(crate) fn get<K: Kind>(&self, id: &str) -> Option<Arc<K>> {
        self.row(self.registry.no::<K>(), id).map(|row| downcast(&row.value))
    }

    pub(crate) fn all<K: Kind>(&self) -> impl DoubleEndedIterator<Item = Arc<K>> + '_ {
        self.tables[usize::from(self.registry.no::<K>())].iter().map(|(_, row)| downcast(&row.value))
    }

    pub(crate) fn by_index<'a, K: Kind>(&'a self, name: &'static str, key: &str) -> impl Iterator<Item = Arc<K>> + 'a {
        self.index_range(name, key.into(), |key| Bound::Included((self.registry.no::<K>(), name, key, Arc::from(""))))
    }

    fn index_range<'a, K: Kind>(
        &'a self,
        name: &'static str,
        key: Arc<str>,
        from: impl FnOnce(Arc<str>) -> Bound<IndexKey>,
    ) -> impl Iterator<Item = Arc<K>> + 'a {
        let kind = self.registry.no::<K>();
        self.indexes
            .range((from(key.clone()), Bound::Unbounded))
            .take_while(move |((k, n, i, _), ())| *k == kind && *n == name && *i == key)
            .filter_map(move |((_, _, _, id), ())| self.get(id))
    }

    pub(crate) fn holder<K: Kind>(&self, namespace: &'static str, key: &str) -> Option<Id<K>> {
        let (kind, id) = self.claims.get(&(namespace, Arc::from(key)))?;
        (*kind == self.registry.no::<K>()).then(|| Id::new(id.clone()))
    }

    pub(crate) fn tally(&self, namespace: &'static str, key: &str) -> i64 {
        shown(self.sum(namespace, key))
    }
}

fn downcast<K: Kind>(value: &Erased) -> Arc<K> {
    value.clone().downcast().expect("a table holds only values of its kind")
}
