//! Reads a whole store and reports what is broken: bodies that do not decode, claims held twice, references to nothing.

use std::collections::HashMap;
use std::sync::Arc;

use unkai_model::{Derived, Error};

use crate::engine::Engine;
use crate::registry::Registry;

/// One broken invariant, in words.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    pub kind: String,
    pub id: String,
    pub problem: String,
}

/// Checks every document that the engine holds. An empty answer means a sound store.
pub fn check(engine: &mut dyn Engine) -> Result<Vec<Finding>, Error> {
    let registry = Registry::all();
    let loaded = engine.load()?;
    let mut findings = Vec::new();
    let mut documents = HashMap::new();
    for row in &loaded.rows {
        let mut report = |problem: String| findings.push(Finding { kind: row.kind.to_string(), id: row.id.to_string(), problem });
        if row.revision > loaded.revision {
            report(format!("has revision {}, newer than the store's {}", row.revision, loaded.revision));
        }
        let Ok(kind) = registry.by_name(&row.kind) else {
            report("is of an unknown kind".into());
            continue;
        };
        let entry = registry.entry(kind);
        match (entry.decode)(row.body.as_deref().unwrap_or("null")) {
            Err(e) => report(format!("does not decode: {e}")),
            Ok(value) => {
                let mut derived = Derived::default();
                (entry.derive)(&value, &mut derived);
                documents.insert((entry.name, row.id.clone()), derived);
            }
        }
    }
    findings.extend(check_derived(&documents));
    findings.sort_by(|a, b| (&a.kind, &a.id, &a.problem).cmp(&(&b.kind, &b.id, &b.problem)));
    Ok(findings)
}

fn check_derived(documents: &HashMap<(&'static str, Arc<str>), Derived>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut holders: HashMap<(&str, &str), &(&'static str, Arc<str>)> = HashMap::new();
    for (key, derived) in documents {
        let mut report = |problem| findings.push(Finding { kind: key.0.into(), id: key.1.to_string(), problem });
        for (target, id) in &derived.references {
            if !documents.contains_key(&(*target, id.clone())) {
                report(format!("names {target} {id}, which does not exist"));
            }
        }
        for (namespace, claim) in &derived.claims {
            if let Some((kind, id)) = holders.insert((namespace, claim), key) {
                report(format!("holds {namespace} {claim}, which {kind} {id} holds too"));
            }
        }
    }
    findings
}
