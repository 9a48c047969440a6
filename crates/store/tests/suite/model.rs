//! Random transactions against a model that is nothing but a map: every document, index, claim and sum must agree, and so must what was
//! refused.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use unkai_model::Error;
use unkai_store::{Store, Tx, View};

use crate::beds::{Bed, run};
use crate::kinds::{Item, item};

#[derive(Debug, Clone)]
enum Op {
    Put { id: usize, group: usize, names: BTreeSet<usize>, weight: i64, parent: Option<usize> },
    Delete { id: usize },
}

/// Several operations at once; they survive a refused operation, or give up with it.
#[derive(Debug, Clone)]
struct Plan {
    ops: Vec<Op>,
    tolerant: bool,
    limit: Option<(usize, i64)>,
    fail: bool,
}

const IDS: [&str; 8] = ["a", "ab", "abc", "b", "ä", "雲", "", "zz"];
const GROUPS: [&str; 3] = ["g", "gg", "h"];
const NAMES: [&str; 4] = ["n", "nn", "o", "p"];

fn op() -> impl Strategy<Value = Op> {
    let put = (0..IDS.len(), 0..GROUPS.len(), btree_set(0..NAMES.len(), 0..3), -2..5i64, proptest::option::weighted(0.3, 0..IDS.len()));
    prop_oneof![
        3 => put.prop_map(|(id, group, names, weight, parent)| Op::Put { id, group, names, weight, parent }),
        1 => (0..IDS.len()).prop_map(|id| Op::Delete { id }),
    ]
}

fn plan() -> impl Strategy<Value = Plan> {
    (vec(op(), 1..5), any::<bool>(), proptest::option::weighted(0.3, (0..GROUPS.len(), 0..6i64)), proptest::bool::weighted(0.1))
        .prop_map(|(ops, tolerant, limit, fail)| Plan { ops, tolerant, limit, fail })
}

#[derive(Debug, Clone, PartialEq, Default)]
struct Model {
    items: BTreeMap<String, Item>,
}

impl Model {
    fn sum(&self, group: &str) -> i64 {
        self.items.values().filter(|it| it.group == group).map(|it| it.weight).sum()
    }

    fn holder(&self, name: &str) -> Option<&str> {
        self.items.values().find(|it| it.names.contains(name)).map(|it| it.meta.id.as_str())
    }

    fn apply(&mut self, op: &Op) -> Result<(), &'static str> {
        match op {
            Op::Delete { id } => self.items.remove(IDS[*id]).map(drop).ok_or("not found"),
            Op::Put { .. } => {
                let it = value(op);
                let id = it.meta.id.to_string();
                if it.names.iter().any(|name| self.holder(name).is_some_and(|holder| holder != id)) {
                    return Err("taken");
                }
                self.items.insert(id, it);
                Ok(())
            }
        }
    }

    fn run(&mut self, plan: &Plan) -> Result<(), &'static str> {
        let mut next = self.clone();
        for op in &plan.ops {
            match next.apply(op) {
                Err(refused) if !plan.tolerant => return Err(refused),
                _ => {}
            }
        }
        if plan.fail {
            return Err("denied");
        }
        if let Some((group, most)) = plan.limit {
            let (before, after) = (self.sum(GROUPS[group]), next.sum(GROUPS[group]));
            if after > most && after > before {
                return Err("quota");
            }
        }
        let dangling = next.items.values().any(|it| it.parent.as_ref().is_some_and(|parent| !next.items.contains_key(parent.as_str())));
        if dangling {
            return Err("reference");
        }
        *self = next;
        Ok(())
    }
}

fn value(op: &Op) -> Item {
    let Op::Put { id, group, names, weight, parent } = op else { unreachable!("only puts have values") };
    let it = names.iter().fold(Item::new(IDS[*id]), |it, name| it.claiming(NAMES[*name]));
    let it = it.group(GROUPS[*group]).weighing(*weight);
    parent.iter().fold(it, |it, parent| it.under(IDS[*parent]))
}

fn perform(tx: &mut Tx, op: &Op) -> Result<(), Error> {
    match op {
        Op::Delete { id } => tx.delete(&item(IDS[*id])).map(drop),
        Op::Put { id, .. } if tx.get(&item(IDS[*id])).is_none() => tx.insert(value(op)).map(drop),
        Op::Put { id, .. } => tx
            .update(&item(IDS[*id]), |it| -> Result<(), Error> {
                *it = Item { meta: it.meta.clone(), ..value(op) };
                Ok(())
            })
            .map(drop),
    }
}

async fn execute(store: &Store, plan: Plan) -> Result<(), &'static str> {
    let body = move |tx: &mut Tx| {
        if let Some((group, most)) = plan.limit {
            tx.limit("weight", "weight", GROUPS[group], most);
        }
        for op in &plan.ops {
            match perform(tx, op) {
                Err(refused) if !plan.tolerant => return Err(refused),
                _ => {}
            }
        }
        if plan.fail { Err(Error::denied("")) } else { Ok(()) }
    };
    store.transact(body).await.map_err(|e| match e {
        // Of a document that is to be deleted, or of one that is named.
        Error::NotFound { .. } => "not found",
        Error::InUse { .. } => "reference",
        Error::Taken { .. } => "taken",
        Error::Denied(_) => "denied",
        Error::Quota { .. } => "quota",
        other => panic!("{other}"),
    })
}

fn agree(view: &View, model: &Model) {
    let strip = |it: &Item| Item { meta: unkai_model::Meta::new(it.meta.id.clone()), ..it.clone() };
    let found: Vec<Item> = view.all::<Item>().map(|it| strip(&it)).collect();
    assert_eq!(found, model.items.values().cloned().collect::<Vec<_>>());
    for group in GROUPS {
        let ids = |items: &mut dyn Iterator<Item = Item>| items.filter(|it| it.group == group).map(|it| it.meta.id).collect::<Vec<_>>();
        let found: Vec<_> = view.by_index::<Item>("group", group).map(|it| it.meta.id.clone()).collect();
        assert_eq!(found, ids(&mut model.items.values().cloned()));
        assert_eq!(view.tally("weight", group), model.sum(group));
        for id in [None, Some(item("ab")), Some(item("c")), Some(item("zz"))] {
            let before = |other: &&unkai_model::Id<Item>| id.as_ref().is_none_or(|id| other.as_str() < id.as_str());
            let wanted: Vec<_> = found.iter().filter(before).rev().cloned().collect();
            let before: Vec<_> = view.by_index_before::<Item>("group", group, id.as_ref()).map(|it| it.meta.id.clone()).collect();
            assert_eq!(before, wanted);
        }
    }
    let backwards: Vec<Item> = view.before::<Item>(None).map(|it| strip(&it)).collect();
    assert_eq!(backwards, model.items.values().rev().cloned().collect::<Vec<_>>());
    let some: Vec<_> = view.before::<Item>(Some(&item("b"))).map(|it| it.meta.id.to_string()).collect();
    assert_eq!(some, model.items.keys().filter(|id| id.as_str() < "b").rev().cloned().collect::<Vec<_>>());
    for name in NAMES {
        assert_eq!(view.holder::<Item>("name", name).as_ref().map(|id| id.as_str()), model.holder(name));
    }
    assert_eq!(view.check(), []);
}

/// Whatever reads otherwise now than before is among the differences.
fn told(before: &View, after: &View) {
    let readings: [fn(&View, usize) -> String; 6] = [
        |view, n| format!("{:?}", view.get(&item(IDS[n % IDS.len()]))),
        |view, n| format!("{:?}", view.by_index::<Item>("group", GROUPS[n % GROUPS.len()]).collect::<Vec<_>>()),
        |view, n| format!("{:?}", view.tally("weight", GROUPS[n % GROUPS.len()])),
        |view, n| format!("{:?}", view.holder::<Item>("name", NAMES[n % NAMES.len()])),
        |view, _| format!("{:?}", view.all::<Item>().collect::<Vec<_>>()),
        |view, _| view.count::<Item>().to_string(),
    ];
    let Some(differences) = after.differences(before) else { panic!("the last change is forgotten") };
    for (no, n) in (0..readings.len()).flat_map(|no| (0..IDS.len()).map(move |n| (no, n))) {
        let (was, reads) = before.record(|view| readings[no](view, n));
        assert!(was == readings[no](after, n) || differences.touch(&reads), "reading {no} of {n} differs, and is not told");
    }
    if before.revision() == after.revision() {
        assert_eq!(differences.digests().count(), 0);
    }
}

fn check(bed: &Bed, plans: Vec<Plan>) {
    run(async {
        let mut model = Model::default();
        let mut store = bed.open();
        let restart = plans.len() / 2;
        for (no, plan) in plans.into_iter().enumerate() {
            let expected = model.run(&plan);
            let before = store.view();
            let result = execute(&store, plan).await;
            told(&before, &store.view());
            // A reference to nothing is "not found" too, and which constraint of the end is named first is no promise.
            let end = |refused: &str| ["not found", "reference", "quota"].contains(&refused);
            match (&expected, &result) {
                (Err(a), Err(b)) if end(a) && end(b) => {}
                _ => assert_eq!(result, expected),
            }
            agree(&store.view(), &model);
            if no == restart && !matches!(bed, Bed::Memory) {
                store.stop().await;
                store = bed.open();
                agree(&store.view(), &model);
            }
        }
    });
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(150))]
    #[test]
    fn agrees_in_memory(plans in vec(plan(), 1..40)) {
        check(&Bed::Memory, plans);
    }
}

proptest! {
    #![proptest_config(config(20))]
    #[test]
    fn agrees_on_sqlite(plans in vec(plan(), 1..30)) {
        check(&Bed::sqlite(), plans);
    }
}

proptest! {
    #![proptest_config(config(10))]
    #[test]
    fn agrees_on_postgres(plans in vec(plan(), 1..30)) {
        if let Some(database) = crate::postgres::Database::create() {
            check(&Bed::Postgres(database), plans);
        }
    }
}
