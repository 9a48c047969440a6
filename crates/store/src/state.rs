//! The state: documents and all that they derive, in persistent maps. A clone takes constant time and shares everything, so
//! what readers hold never changes while the writer goes on.

use std::sync::Arc;

use imbl::OrdMap;
use unkai_model::Error;

use crate::Revision;
use crate::facts::{Facts, only_in};
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
    pub tables: Vec<OrdMap<Arc<str>, Row>>,
    pub indexes: OrdMap<IndexKey, ()>,
    /// Which documents name a document: (target kind, target id, referrer kind, referrer id).
    pub references: OrdMap<(KindNo, Arc<str>, KindNo, Arc<str>), ()>,
    pub claims: OrdMap<(&'static str, Arc<str>), DocKey>,
    /// Wider than the amounts, so that no sum of them overflows.
    pub tallies: OrdMap<(&'static str, Arc<str>), i128>,
    pub changes: OrdMap<(Revision, u32), DocKey>,
    /// Changes up to and including this revision are forgotten.
    pub forgotten: Revision,
}

impl State {
    pub fn empty(registry: Arc<Registry>) -> Self {
        State {
            tables: vec![OrdMap::new(); registry.len()],
            registry,
            revision: 0,
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

    /// Writes (`Some`) or deletes (`None`) one document and moves everything derived with it. Answers what the document refers
    /// to now. On an error nothing was changed.
    pub fn put(&mut self, kind: KindNo, id: &Arc<str>, row: Option<Row>) -> Result<Vec<DocKey>, Error> {
        let old = self.facts_of(kind, id)?;
        let new = match &row {
            Some(row) => Facts::of(&self.registry, kind, &row.value)?,
            None => Facts::default(),
        };
        self.check_claims(kind, id, &new)?;
        self.shift(kind, id, &old, &new);
        let table = &mut self.tables[usize::from(kind)];
        match row {
            Some(row) => table.insert(id.clone(), row),
            None => table.remove(id),
        };
        Ok(new.references)
    }

    /// Puts many documents as if at once: what one of them gives up another may take, in whatever order they come. On an error
    /// the state is half written: the caller throws it away.
    pub fn put_all(&mut self, rows: Vec<(DocKey, Option<Row>)>) -> Result<(), Error> {
        for ((kind, id), _) in &rows {
            self.put(*kind, id, None)?;
        }
        for ((kind, id), row) in rows {
            self.put(kind, &id, row)?;
        }
        Ok(())
    }

    fn facts_of(&self, kind: KindNo, id: &str) -> Result<Facts, Error> {
        self.row(kind, id).map_or(Ok(Facts::default()), |row| Facts::of(&self.registry, kind, &row.value))
    }

    fn check_claims(&self, kind: KindNo, id: &Arc<str>, new: &Facts) -> Result<(), Error> {
        for claim in &new.claims {
            if let Some((_, holder)) = self.claims.get(claim).filter(|(k, holder)| (*k, holder) != (kind, id)) {
                return Err(Error::Taken { namespace: claim.0, key: claim.1.to_string(), holder: holder.to_string() });
            }
        }
        Ok(())
    }

    /// Touches only what differs: most updates change no index, and an untouched map costs no copy.
    fn shift(&mut self, kind: KindNo, id: &Arc<str>, old: &Facts, new: &Facts) {
        for (name, key) in only_in(&old.indexes, &new.indexes) {
            self.indexes.remove(&(kind, *name, key.clone(), id.clone()));
        }
        for (name, key) in only_in(&new.indexes, &old.indexes) {
            self.indexes.insert((kind, *name, key.clone(), id.clone()), ());
        }
        for claim in only_in(&old.claims, &new.claims) {
            self.claims.remove(claim);
        }
        for claim in only_in(&new.claims, &old.claims) {
            self.claims.insert(claim.clone(), (kind, id.clone()));
        }
        for (target, target_id) in only_in(&old.references, &new.references) {
            self.references.remove(&(*target, target_id.clone(), kind, id.clone()));
        }
        for (target, target_id) in only_in(&new.references, &old.references) {
            self.references.insert((*target, target_id.clone(), kind, id.clone()), ());
        }
        if old.tallies != new.tallies {
            old.tallies.iter().for_each(|(name, key, amount)| self.add(name, key, -i128::from(*amount)));
            new.tallies.iter().for_each(|(name, key, amount)| self.add(name, key, i128::from(*amount)));
        }
    }

    fn add(&mut self, name: &'static str, key: &Arc<str>, amount: i128) {
        if amount == 0 {
            return;
        }
        let key = (name, key.clone());
        match self.tallies.get(&key).copied().unwrap_or(0) + amount {
            0 => self.tallies.remove(&key),
            sum => self.tallies.insert(key, sum),
        };
    }

    pub fn sum(&self, name: &'static str, key: &str) -> i128 {
        self.tallies.get(&(name, Arc::from(key))).copied().unwrap_or(0)
    }

    /// The first document that names this one, if any.
    pub fn referrer(&self, kind: KindNo, id: &Arc<str>) -> Option<DocKey> {
        let from = (kind, id.clone(), 0, Arc::from(""));
        let ((k, i, by_kind, by_id), ()) = self.references.range(from..).next()?;
        (*k == kind && i == id).then(|| (*by_kind, by_id.clone()))
    }

    /// Remembers what committed transactions changed, for watchers. All changes of one revision come in one call.
    pub fn remember(&mut self, changes: impl Iterator<Item = (Revision, DocKey)>) {
        let (mut last, mut no) = (None, 0);
        for (revision, key) in changes {
            no = if last == Some(revision) { no + 1 } else { 0 };
            last = Some(revision);
            self.changes.insert((revision, no), key);
        }
        while self.changes.len() > REMEMBERED_CHANGES {
            let Some(oldest) = self.changes.get_min().map(|(key, _)| *key) else { break };
            self.changes.remove(&oldest);
            self.forgotten = oldest.0;
        }
    }
}

/// A sum as callers see it.
pub(crate) fn shown(sum: i128) -> i64 {
    sum.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}
