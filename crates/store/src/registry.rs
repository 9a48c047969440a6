//! All kinds, with their types erased: how to decode a document, and what it derives.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::Arc;

use unkai_model::{Derived, Error, Kind, for_each_kind};

pub(crate) type Erased = Arc<dyn Any + Send + Sync>;
/// Position in the registry; stable within a process only.
pub(crate) type KindNo = u16;

pub(crate) struct Entry {
    pub name: &'static str,
    pub noun: &'static str,
    pub decode: fn(&str) -> Result<Erased, serde_json::Error>,
    pub encode: fn(&Erased) -> Result<String, serde_json::Error>,
    pub derive: fn(&Erased, &mut Derived),
    /// The document's own copy of its id: as a table's key it costs no second allocation.
    pub id: fn(&Erased) -> Arc<str>,
}

/// The kinds that a store knows.
pub struct Registry {
    entries: Vec<Entry>,
    by_type: HashMap<TypeId, KindNo>,
    by_name: HashMap<&'static str, KindNo>,
}

impl Registry {
    /// No kinds yet; for stores of something else than the model, with [`Registry::with`].
    pub fn empty() -> Self {
        Registry { entries: Vec::new(), by_type: HashMap::new(), by_name: HashMap::new() }
    }

    /// This and one more kind.
    pub fn with<K: Kind>(mut self) -> Self {
        self.add::<K>();
        self
    }

    /// Every kind of the model.
    pub fn all() -> Self {
        let mut registry = Registry::empty();
        macro_rules! add {
            ($($kind:ty),* $(,)?) => { $( registry.add::<$kind>(); )* };
        }
        for_each_kind!(add);
        registry
    }

    fn add<K: Kind>(&mut self) {
        let no = self.entries.len() as KindNo;
        self.by_type.insert(TypeId::of::<K>(), no);
        assert!(self.by_name.insert(K::NAME, no).is_none(), "two kinds are named {}", K::NAME);
        self.entries.push(Entry {
            name: K::NAME,
            noun: K::NOUN,
            decode: |text| serde_json::from_str::<K>(text).map(|value| Arc::new(value) as Erased),
            encode: |value| serde_json::to_string(typed::<K>(value)),
            derive: |value, derived| typed::<K>(value).derive(derived),
            id: |value| typed::<K>(value).meta().id.text().clone(),
        });
    }

    pub(crate) fn no<K: Kind>(&self) -> KindNo {
        *self.by_type.get(&TypeId::of::<K>()).unwrap_or_else(|| panic!("{} is not in for_each_kind", K::NAME))
    }

    pub(crate) fn by_name(&self, name: &str) -> Result<KindNo, Error> {
        self.by_name.get(name).copied().ok_or_else(|| Error::internal(format!("the store holds a document of the unknown kind `{name}`")))
    }

    pub(crate) fn entry(&self, no: KindNo) -> &Entry {
        &self.entries[usize::from(no)]
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

fn typed<K: Kind>(value: &Erased) -> &K {
    value.downcast_ref().expect("a table holds only values of its kind")
}
