//! One transaction: reads, writes and constraints on the writer's working state, and the way back when it fails.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use unkai_model::{Error, Id, Kind};
use uuid::Uuid;

use crate::registry::Erased;
use crate::state::{DocKey, Row, State, shown};
use crate::{Revision, Source};

/// A transaction in progress. All reads see its own writes.
pub struct Tx<'a> {
    state: State,
    revision: Revision,
    now: Timestamp,
    source: &'a dyn Source,
    writes: BTreeMap<DocKey, Write>,
    limits: Vec<Limit>,
}

/// What the transaction did to one document.
struct Write {
    /// As it was before the transaction.
    before: Option<Row>,
    /// As it will be stored; none deletes it.
    body: Option<String>,
    refers: Vec<DocKey>,
}

struct Limit {
    resource: &'static str,
    namespace: &'static str,
    key: Arc<str>,
    most: i64,
    before: i128,
}

/// The bodies that a finished transaction leaves to be stored; none is a deletion.
pub(crate) type Written = BTreeMap<DocKey, Option<String>>;

impl<'a> Tx<'a> {
    /// Takes the state; [`Tx::keep`] or [`Tx::undo`] gives it back.
    pub(crate) fn new(state: State, source: &'a dyn Source) -> Self {
        Tx { revision: state.revision + 1, state, now: source.now(), source, writes: BTreeMap::new(), limits: Vec::new() }
    }

    /// One time for everything in this transaction.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.source.fill(&mut bytes);
        bytes
    }

    /// A new id, ordered by time of creation to a quarter of a microsecond: a dashed version 7 UUID.
    pub fn new_id<K: Kind>(&self) -> Id<K> {
        Id::new(self.uuid().hyphenated().to_string())
    }

    /// A new id of 32 hex digits, as identity shows them.
    pub fn new_hex_id<K: Kind>(&self) -> Id<K> {
        Id::new(self.uuid().simple().to_string())
    }

    fn uuid(&self) -> Uuid {
        let nanos = self.now.as_nanosecond().max(0) as u128;
        let (millis, rest) = ((nanos / 1_000_000) as u64, nanos % 1_000_000);
        // Method 3 of RFC 9562, section 6.2: the first random bits are a fraction of the millisecond.
        let fraction = (rest * 4096 / 1_000_000) as u16;
        let mut random: [u8; 10] = self.random();
        random[..2].copy_from_slice(&fraction.to_be_bytes());
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }

    pub fn get<K: Kind>(&self, id: &Id<K>) -> Option<Arc<K>> {
        self.state.get(id.as_str())
    }

    pub fn require<K: Kind>(&self, id: &Id<K>) -> Result<Arc<K>, Error> {
        self.get(id).ok_or_else(|| Error::not_found::<K>(id))
    }

    pub fn all<K: Kind>(&self) -> impl DoubleEndedIterator<Item = Arc<K>> + '_ {
        self.state.all()
    }

    pub fn by_index<'s, K: Kind>(&'s self, name: &'static str, key: &str) -> impl Iterator<Item = Arc<K>> + 's {
        self.state.by_index(name, key)
    }

    pub fn holder<K: Kind>(&self, namespace: &'static str, key: &str) -> Option<Id<K>> {
        self.state.holder(namespace, key)
    }

    pub fn is_claimed(&self, namespace: &'static str, key: &str) -> bool {
        self.state.claims.contains_key(&(namespace, Arc::from(key)))
    }

    /// The smallest key ≥ `from` in `namespace` that is claimed. For walks over claimed addresses or numbers.
    pub fn next_claimed(&self, namespace: &'static str, from: &str) -> Option<Arc<str>> {
        let ((found, key), _) = self.state.claims.range((namespace, Arc::from(from))..).next()?;
        (*found == namespace).then(|| key.clone())
    }

    pub fn tally(&self, namespace: &'static str, key: &str) -> i64 {
        self.state.tally(namespace, key)
    }

    /// A view of the state as this transaction sees it now. Constant time.
    pub fn view(&self) -> crate::View {
        crate::View::new(Arc::new(self.state.clone()))
    }

    /// The transaction fails with a quota error if, at its end, the sum is above `most` and grew. A negative `most` is no limit.
    pub fn limit(&mut self, resource: &'static str, namespace: &'static str, key: &str, most: i64) {
        if most >= 0 {
            let before = self.state.sum(namespace, key);
            self.limits.push(Limit { resource, namespace, key: key.into(), most, before });
        }
    }

    /// Adds a new document; the id must be free.
    pub fn insert<K: Kind>(&mut self, mut value: K) -> Result<Arc<K>, Error> {
        let id = value.meta().id.clone();
        if id.as_str().contains('\0') {
            return Err(Error::invalid(format!("the id of a {} cannot contain a NUL character", K::NOUN)));
        }
        if self.get(&id).is_some() {
            return Err(Error::Taken { namespace: K::NAME, key: id.to_string(), holder: id.to_string() });
        }
        value.meta_mut().created = self.now;
        value.meta_mut().version = 0;
        self.write(value)
    }

    /// Changes a document in place. The store keeps `version` and `updated`; the id stays.
    pub fn update<K: Kind, E: From<Error>>(&mut self, id: &Id<K>, change: impl FnOnce(&mut K) -> Result<(), E>) -> Result<Arc<K>, E> {
        let old = self.require(id)?;
        let mut value = K::clone(&*old);
        change(&mut value)?;
        if value.meta().id != *id {
            return Err(Error::internal(format!("an update of the {} {id} changed its id", K::NOUN)).into());
        }
        value.meta_mut().version = old.meta().version;
        Ok(self.write(value)?)
    }

    fn write<K: Kind>(&mut self, mut value: K) -> Result<Arc<K>, Error> {
        let meta = value.meta_mut();
        meta.updated = self.now;
        meta.version += 1;
        let id = meta.id.clone();
        let value = Arc::new(value);
        self.put::<K>(&id, Some(value.clone()))?;
        Ok(value)
    }

    /// Removes a document. At the end of the transaction nothing may name it any more.
    pub fn delete<K: Kind>(&mut self, id: &Id<K>) -> Result<Arc<K>, Error> {
        let old = self.require(id)?;
        self.put::<K>(id, None)?;
        Ok(old)
    }

    /// On an error nothing was changed, so a body may try something else and go on.
    fn put<K: Kind>(&mut self, id: &Id<K>, value: Option<Erased>) -> Result<(), Error> {
        let kind = self.state.registry.no::<K>();
        // Here and not at commit, so that a document that cannot be encoded fails its own transaction only.
        let body = match &value {
            Some(value) => Some(
                (self.state.registry.entry(kind).encode)(value).map_err(|e| Error::caused(format!("encoding the {} {id}", K::NOUN), e))?,
            ),
            None => None,
        };
        let row = value.map(|value| Row { revision: self.revision, value });
        let before = self.state.row(kind, id.as_str()).cloned();
        let refers = self.state.put(kind, id.text(), row)?;
        let write = self.writes.entry((kind, id.text().clone())).or_insert(Write { before, body: None, refers: Vec::new() });
        write.body = body;
        write.refers = refers;
        Ok(())
    }

    /// The constraints that hold at the end of a transaction.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.check_limits()?;
        self.check_references()
    }

    pub(crate) fn keep(mut self) -> (State, Written) {
        if !self.writes.is_empty() {
            self.state.revision = self.revision;
            self.state.remember(self.writes.keys().map(|key| (self.revision, key.clone())));
        }
        (self.state, self.writes.into_iter().map(|(key, write)| (key, write.body)).collect())
    }

    /// The state as it was before. An error means that the state cannot be used any more.
    pub(crate) fn undo(mut self) -> Result<State, Error> {
        self.state.put_all(self.writes.into_iter().map(|(key, write)| (key, write.before)).collect())?;
        Ok(self.state)
    }

    fn check_limits(&self) -> Result<(), Error> {
        for limit in &self.limits {
            let sum = self.state.sum(limit.namespace, &limit.key);
            if sum > limit.most.into() && sum > limit.before {
                let (used, requested) = (shown(limit.before), shown(sum - limit.before));
                return Err(Error::Quota { resource: limit.resource, limit: limit.most, used, requested });
            }
        }
        Ok(())
    }

    fn check_references(&self) -> Result<(), Error> {
        let registry = &self.state.registry;
        for ((kind, id), write) in &self.writes {
            if write.body.is_none()
                && let Some((by_kind, by)) = self.state.referrer(*kind, id)
            {
                let by = format!("{} {by}", registry.entry(by_kind).noun);
                return Err(Error::InUse { kind: registry.entry(*kind).noun, id: id.to_string(), by });
            }
            if let Some((target, id)) = write.refers.iter().find(|(target, id)| self.state.row(*target, id).is_none()) {
                return Err(Error::NotFound { kind: registry.entry(*target).noun, id: id.to_string() });
            }
        }
        Ok(())
    }
}
