//! The state: documents and all that they derive, in persistent maps. Cloning is constant time, so every transaction works on a
//! clone and throwing it away is the rollback.

use std::sync::Arc;

use imbl::OrdMap;
use unkai_model::{Derived, Error};

use crate::Revision;
use crate::registry::{Erased, KindNo, Registry};

/// A document of any kind.
pub(crate) type DocKey = (KindNo, Arc<str>);
pub(crate) type IndexKey = (KindNo, &'static str, Arc<str>, Arc<str>);

/// How many changes are remembered for watchers; older ones get "list again".
pub(crate) const REMEMBERED_CHANGES: usize = 1 << 16;

#[derive(Clone)]
pub(crate) struct Row {
    pub revision: Revision,
    pub value: Erased,
}

#[derive(Clone)]
pub(crate) struct State {
    pub registry: Arc<Registry>,
    pub revision: Revision,
    pub shared_engine: bool,
    pub tables: Vec<OrdMap<Arc<str>, Row>>,
    pub indexes: OrdMap<IndexKey, ()>,
    /// Which documents name a document: (target kind, target id, referrer kind, referrer id).
    pub references: OrdMap<(KindNo, Arc<str>, KindNo, Arc<str>), ()>,
    pub claims: OrdMap<(&'static str, Arc<str>), DocKey>,
    pub tallies: OrdMap<(&'static str, Arc<str>), i64>,
    pub changes: OrdMap<(Revision, u32), DocKey>,
    /// Changes up to and including this revision are forgotten.
    pub forgotten: Revision,
}

impl State {
    pub fn empty(registry: Arc<Registry>, shared_engine: bool) -> Self {
        State {
            tables: vec![OrdMap::new(); registry.len()],
            registry,
            revision: 0,
            shared_engine,
            indexes: OrdMap::new(),
            references: OrdMap::new(),
            claims: OrdMap::new(),
            tallies: OrdMap::new(),
            changes: OrdMap::new(),
            forgotten: 0,
        }
    }

    pub fn row(&self, kind: KindNo, id: &str) -> Option<&Row> {
        self.tables[usize::from(kind)].get(id)
    }

    fn derived(&self, kind: KindNo, value: &Erased) -> Derived {
        let mut derived = Derived::default();
        (self.registry.entry(kind).derive)(value, &mut derived);
        derived
    }

    /// Writes (`Some`) or deletes (`None`) one document and moves everything derived with it. On an error the state is half
    /// written: the caller throws it away.
    pub fn put(&mut self, kind: KindNo, id: &Arc<str>, value: Option<Erased>, revision: Revision) -> Result<(), Error> {
        let old = self.row(kind, id).map(|row| self.derived(kind, &row.value));
        let new = value.as_ref().map(|value| self.derived(kind, value));
        if let Some(old) = &old {
            self.withdraw(kind, id, old, new.as_ref());
        }
        if let Some(new) = new {
            self.enter(kind, id, new)?;
        }
        let table = &mut self.tables[usize::from(kind)];
        match value {
            Some(value) => table.insert(id.clone(), Row { revision, value }),
            None => table.remove(id),
        };
        Ok(())
    }

    fn withdraw(&mut self, kind: KindNo, id: &Arc<str>, old: &Derived, new: Option<&Derived>) {
        for (name, key) in &old.indexes {
            if !new.is_some_and(|n| n.indexes.contains(&(*name, key.clone()))) {
                self.indexes.remove(&(kind, *name, key.clone(), id.clone()));
            }
        }
        for claim in &old.claims {
            if !new.is_some_and(|n| n.claims.contains(claim)) {
                self.claims.remove(claim);
            }
        }
        for (target, target_id) in &old.references {
            if let Ok(target) = self.registry.by_name(target) {
                self.references.remove(&(target, target_id.clone(), kind, id.clone()));
            }
        }
        for (name, key, amount) in &old.tallies {
            self.add(name, key, -amount);
        }
    }

    fn enter(&mut self, kind: KindNo, id: &Arc<str>, new: Derived) -> Result<(), Error> {
        for (name, key) in new.indexes {
            self.indexes.insert((kind, name, key, id.clone()), ());
        }
        for claim in new.claims {
            match self.claims.get(&claim) {
                Some((k, holder)) if (*k, holder) != (kind, id) => {
                    return Err(Error::Taken { namespace: claim.0, key: claim.1.to_string(), holder: holder.to_string() });
                }
                Some(_) => {}
                None => {
                    self.claims.insert(claim, (kind, id.clone()));
                }
            }
        }
        for (target, target_id) in new.references {
            let target = self.registry.by_name(target)?;
            self.references.insert((target, target_id, kind, id.clone()), ());
        }
        for (name, key, amount) in new.tallies {
            self.add(name, &key, amount);
        }
        Ok(())
    }

    fn add(&mut self, name: &'static str, key: &Arc<str>, amount: i64) {
        if amount == 0 {
            return;
        }
        let key = (name, key.clone());
        match self.tallies.get(&key).copied().unwrap_or(0) + amount {
            0 => self.tallies.remove(&key),
            sum => self.tallies.insert(key, sum),
        };
    }

    /// The first document that names this one, if any.
    pub fn referrer(&self, kind: KindNo, id: &Arc<str>) -> Option<DocKey> {
        let from = (kind, id.clone(), 0, Arc::from(""));
        let ((k, i, by_kind, by_id), ()) = self.references.range(from..).next()?;
        (*k == kind && i == id).then(|| (*by_kind, by_id.clone()))
    }

    /// Remembers what a committed transaction changed, for watchers.
    pub fn remember(&mut self, revision: Revision, keys: impl Iterator<Item = DocKey>) {
        for (no, key) in keys.enumerate() {
            self.changes.insert((revision, no as u32), key);
        }
        while self.changes.len() > REMEMBERED_CHANGES {
            let Some(((revision, _), _)) = self.changes.remove_min_entry() else { break };
            self.forgotten = revision;
        }
    }
}

trait RemoveMin<K, V> {
    fn remove_min_entry(&mut self) -> Option<(K, V)>;
}
impl<K: Ord + Clone, V: Clone> RemoveMin<K, V> for OrdMap<K, V> {
    fn remove_min_entry(&mut self) -> Option<(K, V)> {
        let key = self.get_min()?.0.clone();
        let value = self.remove(&key)?;
        Some((key, value))
    }
}
