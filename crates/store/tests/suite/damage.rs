//! `check` finds every kind of damage, and `migrate` copies everything and nothing else.

use unkai_model::Error;
use unkai_store::engine::sqlite::Sqlite;
use unkai_store::engine::{Batch, Engine, StoredRow};
use unkai_store::{Store, System, Tx, check_with, migrate};

use crate::beds::{Bed, run};
use crate::kinds::{Item, Shelf, item, registry};
use crate::postgres::Database;

fn row(kind: &'static str, id: &str, revision: u64, body: impl Into<String>) -> StoredRow {
    StoredRow { kind: kind.into(), id: id.into(), revision, body: Some(body.into()) }
}

fn body(it: Item) -> String {
    serde_json::to_string(&it).unwrap()
}

fn sound() -> Vec<StoredRow> {
    vec![
        row("test_item", "parent", 1, body(Item::new("parent").claiming("p").weighing(3))),
        row("test_item", "child", 2, body(Item::new("child").under("parent").claiming("c"))),
    ]
}

fn plant(engine: &mut dyn Engine, rows: Vec<StoredRow>) {
    engine.begin(0, true).unwrap();
    engine.commit(&Batch { revision: 5, rows }).unwrap();
}

fn findings(more: Vec<StoredRow>) -> Vec<String> {
    let mut engine = Sqlite::in_memory().unwrap();
    plant(&mut engine, sound().into_iter().chain(more).collect());
    check_with(&mut engine, &registry()).unwrap().into_iter().map(|finding| finding.to_string()).collect()
}

#[test]
fn a_sound_store_has_no_findings() {
    assert_eq!(findings(vec![]), [] as [&str; 0]);
}

#[test]
fn every_kind_of_damage_is_found() {
    let found = |it: StoredRow| findings(vec![it]);
    assert_eq!(found(row("test_gone", "x", 1, "{}")), ["test_gone x is of an unknown kind"]);
    assert!(found(row("test_item", "x", 1, "{\"meta\"")).concat().starts_with("test_item x does not decode"));
    assert!(found(row("test_item", "x", 1, "{}")).concat().contains("missing field"));
    assert_eq!(found(row("test_item", "x", 1, body(Item::new("y")))), ["test_item x calls itself y"]);
    assert_eq!(found(row("test_item", "x", 9, body(Item::new("x")))), ["test_item x has revision 9, newer than the store's 5"]);
    assert_eq!(found(row("test_item", "x", 0, body(Item::new("x")))), ["test_item x has no revision"]);
    assert_eq!(found(row("test_item", "x", 1, body(Item::new("x").under("z")))), ["test_item x names test_item z, which does not exist"]);
    let shelf = Item { shelf: Some("parent".into()), ..Item::new("x") };
    assert_eq!(found(row("test_item", "x", 1, body(shelf))), ["test_item x names test_shelf parent, which does not exist"]);
    assert_eq!(
        found(row("test_item", "x", 1, body(Item::new("x").claiming("c")))),
        ["test_item x holds name c, which test_item child holds too"]
    );
    assert_eq!(found(row("test_item", "x", 1, body(Item::new("x").weighing(-4)))), ["tally weight none is -1"]);
}

#[test]
fn damage_of_several_kinds_is_found_at_once() {
    let claims = |id: &str| row("test_item", id, 1, body(Item::new(id).claiming("same")));
    let found = findings(vec![claims("x"), claims("y"), claims("z"), row("test_gone", "q", 77, "{}")]);
    assert_eq!(
        found,
        [
            "test_gone q has revision 77, newer than the store's 5",
            "test_gone q is of an unknown kind",
            "test_item y holds name same, which test_item x holds too",
            "test_item z holds name same, which test_item x holds too",
        ]
    );
}

#[test]
fn a_damaged_store_does_not_open() {
    let damages = [
        row("test_gone", "x", 1, "{}"),
        row("test_item", "x", 1, "{}"),
        row("test_item", "x", 1, body(Item::new("y"))),
        row("test_item", "x", 1, body(Item::new("x").claiming("c"))),
        row("test_item", "x", 9, body(Item::new("x"))),
    ];
    for damage in damages {
        let mut engine = Sqlite::in_memory().unwrap();
        plant(&mut engine, sound().into_iter().chain([damage.clone()]).collect());
        let opened = Store::open_with(Box::new(engine), registry(), std::sync::Arc::new(System));
        assert!(opened.is_err(), "{damage:?}");
    }
}

async fn fill(store: &Store) {
    for n in 0..30 {
        let body = move |tx: &mut Tx| {
            tx.insert(Item::new(&format!("{n}")).group("雲").claiming(&format!("n{n}")).weighing(n).saying("\0é"))?;
            (0..100).try_for_each(|m| tx.insert(Shelf::new(&format!("{n}/{m}"))).map(drop))
        };
        store.transact(body).await.unwrap();
    }
    store.transact(|tx: &mut Tx| tx.delete(&item("7"))).await.unwrap();
    store.stop().await;
}

fn rows(engine: &mut dyn Engine) -> (u64, Vec<StoredRow>) {
    let mut rows = Vec::new();
    let revision = engine.load(&mut |row| {
        rows.push(row);
        Ok(())
    });
    rows.sort_by(|a, b| (&a.kind, &a.id).cmp(&(&b.kind, &b.id)));
    (revision.unwrap(), rows)
}

/// There and back again.
#[test]
fn migration_copies_everything() {
    let mut beds = vec![Bed::sqlite(), Bed::sqlite()];
    if let Some(database) = Database::create() {
        beds.insert(1, Bed::Postgres(database));
    }
    // Engines can be used on a runtime's thread too.
    run(async {
        fill(&beds[0].open()).await;
        for pair in beds.windows(2) {
            let (mut from, mut to) = (pair[0].engine(), pair[1].engine());
            let migrated = migrate(&mut *from, &mut *to).unwrap();
            assert_eq!((migrated.documents, migrated.revision), (3029, 31));
            assert_eq!(rows(&mut *from), rows(&mut *to));
            assert!(matches!(migrate(&mut *from, &mut *to), Err(Error::Conflict(_))), "the target is not empty any more");
        }
        let store = beds.last().unwrap().open();
        assert_eq!((store.view().revision(), store.view().check()), (31, vec![]));
        store.transact(|tx: &mut Tx| tx.insert(Item::new("7"))).await.unwrap();
        assert_eq!(store.view().revision(), 32);
    });
}

#[test]
fn an_unfinished_copy_is_no_store() {
    let bed = Bed::sqlite();
    let mut engine = bed.engine();
    engine.begin(0, true).unwrap();
    engine.commit(&Batch { revision: 0, rows: sound() }).unwrap();
    assert!(migrate(&mut *engine, &mut Sqlite::in_memory().unwrap()).is_err());
    let opened = Store::open_with(engine, registry(), std::sync::Arc::new(System));
    assert!(opened.err().unwrap().to_string().contains("unfinished copy"));
}
