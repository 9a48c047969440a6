//! Watching: nothing is missed, what came together is shown once, and who sleeps too long lists again.

use std::collections::BTreeMap;
use std::time::Duration;

use unkai_model::Error;
use unkai_store::{Change, Changes, Store, Tx, View, Watch};

use crate::beds::Bed;
use crate::kinds::{Item, Shelf, item};

crate::on_engines! {
    memory: [nothing_is_missed, changes_are_named_once_in_order, waits_without_news, from_a_revision, from_another_history],
    durable: []
}

type Copy = BTreeMap<String, i64>;

fn copy(view: &View) -> Copy {
    view.all::<Item>().map(|it| (it.meta.id.to_string(), it.weight)).collect()
}

/// Keeps a copy from changes alone, until the item "end" is there.
async fn follow(mut watch: Watch) -> Copy {
    let mut copy = Copy::new();
    loop {
        let (view, changes) = watch.next().await.expect("the store runs");
        let Changes::Since(changes) = changes else { panic!("nothing is too old here") };
        for id in changes.iter().filter_map(Change::of::<Item>) {
            match view.get(&id) {
                Some(it) => copy.insert(id.to_string(), it.weight),
                None => copy.remove(id.as_str()),
            };
        }
        if copy.contains_key("end") {
            return copy;
        }
    }
}

async fn insert(store: &Store, id: &str) {
    let it = Item::new(id);
    store.transact(move |tx: &mut Tx| tx.insert(it.clone()).map(drop)).await.unwrap();
}

async fn nothing_is_missed(bed: &Bed) {
    let store = bed.open();
    let watchers: Vec<_> = (0..3).map(|_| tokio::spawn(follow(store.watch()))).collect();
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..6 {
        let store = store.clone();
        writers.spawn(async move {
            for step in 0..40i64 {
                let write = move |tx: &mut Tx| {
                    let id = format!("{}", (n * 7 + step * 3) % 20);
                    if tx.get(&item(&id)).is_none() {
                        tx.insert(Item::new(&id).weighing(step)).map(drop)
                    } else if step % 3 == 0 {
                        tx.delete(&item(&id)).map(drop)
                    } else {
                        let change = |it: &mut Item| -> Result<(), Error> {
                            it.weight = n * 100 + step;
                            Ok(())
                        };
                        tx.update(&item(&id), change).map(drop)
                    }
                };
                store.transact(write).await.unwrap();
            }
        });
    }
    writers.join_all().await;
    insert(&store, "end").await;
    for watcher in watchers {
        assert_eq!(watcher.await.unwrap(), copy(&store.view()));
    }
}

async fn changes_are_named_once_in_order(bed: &Bed) {
    let store = bed.open();
    let mut watch = store.watch();
    for id in ["a", "b", "c"] {
        insert(&store, id).await;
    }
    let again = |tx: &mut Tx| {
        tx.update(&item("a"), |_| Ok::<_, Error>(()))?;
        tx.delete(&item("b"))?;
        tx.insert(Shelf::new("a")).map(drop)
    };
    store.transact(again).await.unwrap();
    let (view, changes) = watch.next().await.unwrap();
    let change = |kind, id: &str| Change { kind, id: id.into() };
    let expected = vec![change("test_item", "c"), change("test_item", "a"), change("test_item", "b"), change("test_shelf", "a")];
    assert_eq!(changes, Changes::Since(expected));
    assert!(view.get(&item("b")).is_none());
    assert_eq!(view.changes_since(3), view.changes_since(3));
}

async fn waits_without_news(bed: &Bed) {
    let store = bed.open();
    let mut watch = store.watch();
    let nothing = tokio::time::timeout(Duration::from_millis(50), watch.next()).await;
    assert!(nothing.is_err());
    let waiting = tokio::spawn(async move { watch.next().await.map(|(view, _)| view.revision()) });
    insert(&store, "a").await;
    assert_eq!(waiting.await.unwrap(), Some(1), "a wait that was given up misses nothing");
}

async fn from_a_revision(bed: &Bed) {
    let store = bed.open();
    for id in ["a", "b", "c"] {
        insert(&store, id).await;
    }
    let (view, changes) = store.watch().from(1).next().await.unwrap();
    assert_eq!(view.revision(), 3);
    let Changes::Since(changes) = changes else { panic!("two changes are remembered") };
    assert_eq!(changes.iter().filter_map(Change::of::<Item>).collect::<Vec<_>>(), [item("b"), item("c")]);
}

async fn from_another_history(bed: &Bed) {
    let store = bed.open();
    insert(&store, "a").await;
    assert_eq!(store.view().changes_since(99), Changes::TooOld);
    assert_eq!(store.watch().from(99).next().await.unwrap().1, Changes::TooOld);
}

#[test]
fn too_much_is_too_old() {
    crate::beds::run(async {
        let store = Bed::Memory.open();
        insert(&store, "first").await;
        let mut watch = store.watch();
        for portion in 0..7 {
            let fill = move |tx: &mut Tx| (0..10_000).try_for_each(|n| tx.insert(Shelf::new(&format!("{portion}-{n}"))).map(drop));
            store.transact(fill).await.unwrap();
        }
        assert_eq!(watch.next().await.unwrap().1, Changes::TooOld);
        insert(&store, "last").await;
        assert!(matches!(watch.next().await.unwrap().1, Changes::Since(changes) if changes.len() == 1), "and then it goes on");
    });
}
