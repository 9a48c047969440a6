//! What one document derives, in the form that the state keeps it: sorted, without repetitions, kinds by number.

use std::sync::Arc;

use unkai_model::{Derived, Error};

use crate::registry::{Erased, KindNo, Registry};

/// One kind of thing a document derives, by constant name and key.
pub(crate) type Named = (&'static str, Arc<str>);

#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub indexes: Vec<Named>,
    pub claims: Vec<Named>,
    pub tallies: Vec<(&'static str, Arc<str>, i64)>,
    pub references: Vec<(KindNo, Arc<str>)>,
}

impl Facts {
    pub fn of(registry: &Registry, kind: KindNo, value: &Erased) -> Result<Self, Error> {
        let mut derived = Derived::default();
        (registry.entry(kind).derive)(value, &mut derived);
        let references = derived.references.into_iter().map(|(target, id)| Ok((registry.by_name(target)?, id)));
        Ok(Facts {
            indexes: set(derived.indexes),
            claims: set(derived.claims),
            tallies: derived.tallies,
            references: set(references.collect::<Result<Vec<_>, Error>>()?),
        })
    }
}

fn set<T: Ord>(mut items: Vec<T>) -> Vec<T> {
    items.sort_unstable();
    items.dedup();
    items
}

/// What is in `these` and not in `those`; both sorted.
pub(crate) fn only_in<'a, T: Ord>(these: &'a [T], those: &'a [T]) -> impl Iterator<Item = &'a T> {
    these.iter().filter(|item| those.binary_search(item).is_err())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences() {
        assert_eq!(set(vec![3, 1, 3, 2, 1]), [1, 2, 3]);
        assert_eq!(only_in(&[1, 2, 3], &[2, 4]).collect::<Vec<_>>(), [&1, &3]);
        assert_eq!(only_in(&[] as &[u8], &[2]).count(), 0);
    }
}
