//! What a computation read of a view, so that it is done again only when some of that has changed.
//!
//! Facts are remembered as digests: two that share one cost a computation in vain, and nothing else.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};

use crate::facts::Facts;
use crate::registry::KindNo;
use crate::view::{Changes, View};

/// One thing that can be read.
#[derive(Hash)]
pub(crate) enum Fact<'a> {
    Document(KindNo, &'a str),
    /// Which documents of a kind there are, and what is in them.
    Kind(KindNo),
    Index(KindNo, &'static str, &'a str),
    Claim(&'static str, &'a str),
    Tally(&'static str, &'a str),
}

/// Facts, as digests.
#[derive(Debug, Default, Clone)]
pub struct Reads(HashSet<u64>);

impl Reads {
    pub(crate) fn note(&mut self, fact: &Fact<'_>) {
        let mut hasher = DefaultHasher::new();
        fact.hash(&mut hasher);
        self.0.insert(hasher.finish());
    }

    /// Have they anything in common?
    pub fn touch(&self, others: &Reads) -> bool {
        let (few, many) = if self.0.len() < others.0.len() { (self, others) } else { (others, self) };
        few.0.iter().any(|fact| many.0.contains(fact))
    }

    /// In no particular order.
    pub fn digests(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().copied()
    }
}

/// Where a view that is recorded notes what is read of it.
pub(crate) type Recorder = Arc<Mutex<Reads>>;

impl View {
    /// What a computation makes of this view, and what it read for that.
    pub fn record<T>(&self, compute: impl FnOnce(&View) -> T) -> (T, Reads) {
        let recorder = Recorder::default();
        let result = compute(&self.recorded(recorder.clone()));
        let reads = std::mem::take(&mut *recorder.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
        (result, reads)
    }

    /// All that can be read otherwise here than in an earlier view; none when that is not remembered.
    pub fn differences(&self, earlier: &View) -> Option<Reads> {
        let Changes::Since(changes) = self.changes_since(earlier.revision()) else { return None };
        let mut reads = Reads::default();
        for change in changes {
            let kind = self.state().registry.by_name(change.kind).ok()?;
            reads.note(&Fact::Document(kind, &change.id));
            reads.note(&Fact::Kind(kind));
            for view in [earlier, self] {
                let Some(row) = view.state().row(kind, &change.id) else { continue };
                let facts = Facts::of(&view.state().registry, kind, &row.value).ok()?;
                facts.indexes.iter().for_each(|(name, key)| reads.note(&Fact::Index(kind, name, key)));
                facts.claims.iter().for_each(|(name, key)| reads.note(&Fact::Claim(name, key)));
                facts.tallies.iter().for_each(|(name, key, _)| reads.note(&Fact::Tally(name, key)));
            }
        }
        Some(reads)
    }
}
