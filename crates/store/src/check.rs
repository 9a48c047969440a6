//! Reads a whole store and reports what is broken. Never repairs: what is right is for a person to say.
//!
//! [`check`] looks at what an engine holds, [`View::check`] at what a running store derived from it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use imbl::OrdMap;
use unkai_model::{Derived, Error};

use crate::engine::{Engine, StoredRow};
use crate::registry::Registry;
use crate::state::State;
use crate::view::View;

/// One broken invariant, in words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    pub kind: String,
    pub id: String,
    pub problem: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.kind, self.id, self.problem)
    }
}

/// Checks every document that the engine holds. An empty answer means a sound store.
pub fn check(engine: &mut dyn Engine) -> Result<Vec<Finding>, Error> {
    check_with(engine, &Registry::all())
}

/// The same for other kinds than the model's.
pub fn check_with(engine: &mut dyn Engine, registry: &Registry) -> Result<Vec<Finding>, Error> {
    let mut checker = Checker { registry, findings: Vec::new(), documents: HashMap::new(), revisions: Vec::new() };
    let revision = engine.load(&mut |row| {
        checker.document(&row);
        Ok(())
    })?;
    checker.revisions(revision);
    checker.references();
    checker.claims();
    checker.tallies();
    checker.findings.sort();
    Ok(checker.findings)
}

type Key = (&'static str, Arc<str>);

struct Checker<'a> {
    registry: &'a Registry,
    findings: Vec<Finding>,
    documents: HashMap<Key, Derived>,
    revisions: Vec<(u64, String, Arc<str>)>,
}

impl Checker<'_> {
    fn report(&mut self, kind: &str, id: &str, problem: impl Into<String>) {
        self.findings.push(Finding { kind: kind.into(), id: id.into(), problem: problem.into() });
    }

    fn document(&mut self, row: &StoredRow) {
        self.revisions.push((row.revision, row.kind.to_string(), row.id.clone()));
        let Ok(kind) = self.registry.by_name(&row.kind) else {
            return self.report(&row.kind, &row.id, "is of an unknown kind");
        };
        let entry = self.registry.entry(kind);
        let Some(body) = &row.body else {
            return self.report(&row.kind, &row.id, "is deleted, but among the live documents");
        };
        match (entry.decode)(body) {
            Err(e) => self.report(&row.kind, &row.id, format!("does not decode: {e}")),
            Ok(value) => {
                let id = (entry.id)(&value);
                if id != row.id {
                    self.report(&row.kind, &row.id, format!("calls itself {id}"));
                }
                let mut derived = Derived::default();
                (entry.derive)(&value, &mut derived);
                if self.documents.insert((entry.name, row.id.clone()), derived).is_some() {
                    self.report(&row.kind, &row.id, "is there twice");
                }
            }
        }
    }

    fn revisions(&mut self, newest: u64) {
        for (revision, kind, id) in std::mem::take(&mut self.revisions) {
            if revision > newest {
                self.report(&kind, &id, format!("has revision {revision}, newer than the store's {newest}"));
            } else if revision == 0 {
                self.report(&kind, &id, "has no revision");
            }
        }
    }

    fn references(&mut self) {
        let mut dangling = Vec::new();
        for (key, derived) in &self.documents {
            for (target, id) in &derived.references {
                if self.registry.by_name(target).is_err() {
                    dangling.push((key.clone(), format!("names a document of the unknown kind {target}")));
                } else if !self.documents.contains_key(&(*target, id.clone())) {
                    dangling.push((key.clone(), format!("names {target} {id}, which does not exist")));
                }
            }
        }
        dangling.into_iter().for_each(|((kind, id), problem)| self.report(kind, &id, problem));
    }

    fn claims(&mut self) {
        let mut holders: BTreeMap<(&str, &str), BTreeSet<&Key>> = BTreeMap::new();
        for (key, derived) in &self.documents {
            for (namespace, claim) in &derived.claims {
                holders.entry((namespace, claim)).or_default().insert(key);
            }
        }
        let mut twice = Vec::new();
        for ((namespace, claim), keys) in holders {
            let mut keys = keys.into_iter();
            let first = keys.next();
            let problems = keys.zip(first.into_iter().cycle());
            twice
                .extend(problems.map(|(key, (kind, id))| (key.clone(), format!("holds {namespace} {claim}, which {kind} {id} holds too"))));
        }
        twice.into_iter().for_each(|((kind, id), problem)| self.report(kind, &id, problem));
    }

    fn tallies(&mut self) {
        let mut sums: BTreeMap<(&str, &str), i128> = BTreeMap::new();
        for (namespace, key, amount) in self.documents.values().flat_map(|derived| &derived.tallies) {
            *sums.entry((namespace, key)).or_default() += i128::from(*amount);
        }
        let negative: Vec<Finding> = sums
            .into_iter()
            .filter(|(_, sum)| *sum < 0)
            .map(|((namespace, key), sum)| Finding { kind: "tally".into(), id: format!("{namespace} {key}"), problem: format!("is {sum}") })
            .collect();
        self.findings.extend(negative);
    }
}

impl View {
    /// Derives everything again from the documents and compares: an empty answer means that lookups, claims and sums are right.
    pub fn check(&self) -> Vec<Finding> {
        let held = self.state();
        let mut fresh = State::empty(held.registry.clone());
        let mut findings = Vec::new();
        for (kind, table) in (0..).zip(&held.tables) {
            for (id, row) in table {
                if let Err(e) = fresh.put(kind, id, Some(row.clone())) {
                    findings.push(Finding { kind: held.registry.entry(kind).name.into(), id: id.to_string(), problem: e.to_string() });
                }
            }
        }
        let name = |kind: u16| held.registry.entry(kind).name;
        compare(&mut findings, "index", &held.indexes, &fresh.indexes, |(kind, index, key, id)| {
            format!("{} {index} {key} {id}", name(*kind))
        });
        compare(&mut findings, "reference", &held.references, &fresh.references, |(target, target_id, kind, id)| {
            format!("{} {id} to {} {target_id}", name(*kind), name(*target))
        });
        compare(&mut findings, "claim", &held.claims, &fresh.claims, |(namespace, key)| format!("{namespace} {key}"));
        compare(&mut findings, "tally", &held.tallies, &fresh.tallies, |(namespace, key)| format!("{namespace} {key}"));
        findings.sort();
        findings
    }
}

fn compare<K: Ord + Clone, V: PartialEq + Clone>(
    findings: &mut Vec<Finding>,
    what: &str,
    held: &OrdMap<K, V>,
    fresh: &OrdMap<K, V>,
    describe: impl Fn(&K) -> String,
) {
    let mut report = |key, problem: &str| findings.push(Finding { kind: what.into(), id: describe(key), problem: problem.into() });
    for (key, value) in held {
        match fresh.get(key) {
            None => report(key, "is held, but nothing derives it"),
            Some(right) if right != value => report(key, "is held with another value than the documents derive"),
            Some(_) => {}
        }
    }
    fresh.iter().filter(|(key, _)| !held.contains_key(*key)).for_each(|(key, _)| report(key, "is missing"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use unkai_model::identity::Project;
    use unkai_model::quota::Quota;

    fn sound() -> State {
        let registry = Arc::new(Registry::empty().with::<Project>().with::<Quota>());
        let mut state = State::empty(registry);
        let project: Arc<str> = "p1".into();
        let value = serde_json::json!({"meta": {"id": "service/p1", "name": "quota"}, "limits": {}}).to_string();
        let kind = state.registry.no::<Quota>();
        let value = (state.registry.entry(kind).decode)(&value).unwrap();
        state.put(kind, &Arc::from("service/p1"), Some(crate::state::Row { revision: 1, value })).unwrap();
        state.indexes.insert((kind, "planted", project, "service/p1".into()), ());
        state.claims.insert(("planted", "x".into()), (kind, "service/p1".into()));
        state.tallies.insert(("planted", "x".into()), 7);
        state.references.insert((kind, "a".into(), kind, "b".into()), ());
        state
    }

    #[test]
    fn what_nothing_derives_is_found() {
        let findings = View::new(Arc::new(sound())).check();
        let found: Vec<_> = findings.iter().map(|finding| finding.to_string()).collect();
        assert_eq!(
            found,
            [
                "claim planted x is held, but nothing derives it",
                "index quota planted p1 service/p1 is held, but nothing derives it",
                "reference quota b to quota a is held, but nothing derives it",
                "tally planted x is held, but nothing derives it",
            ]
        );
    }
}
