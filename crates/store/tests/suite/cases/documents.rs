//! Documents: reading, writing, deleting, finding, and finding them again after a restart.

use unkai_model::{Error, Id};
use unkai_store::{Changes, Tx};

use crate::beds::Bed;
use crate::kinds::{Item, Shelf, item};

crate::on_engines! {
    memory: [reads_see_own_writes, versions_and_times, an_id_cannot_be_changed, errors_leave_nothing, panics_leave_nothing,
        insert_again_after_delete, unicode_ids, large_documents, index_keys_that_are_prefixes, pages, a_stopped_store_refuses],
    durable: [restart_shows_the_same, many_documents_after_restart]
}

async fn reads_see_own_writes(bed: &Bed) {
    let store = bed.open();
    let seen = store
        .transact(|tx: &mut Tx| {
            tx.insert(Item::new("a").group("g").claiming("n").weighing(2))?;
            tx.update(&item("a"), |it| -> Result<(), Error> {
                it.weight = 5;
                Ok(())
            })?;
            assert_eq!(tx.view().tally("weight", "g"), 5);
            assert_eq!(tx.holder::<Item>("name", "n"), Some(item("a")));
            assert_eq!(tx.holder::<Shelf>("name", "n"), None, "it is an item's");
            assert!(tx.is_claimed("name", "n"));
            assert_eq!(tx.next_claimed("name", "a").as_deref(), Some("n"));
            assert_eq!(tx.next_claimed("name", "o"), None);
            Ok::<_, Error>((tx.by_index::<Item>("group", "g").count(), tx.tally("weight", "g"), tx.all::<Item>().count()))
        })
        .await
        .unwrap();
    assert_eq!(seen, (1, 5, 1));
    let view = store.read().await.unwrap();
    assert_eq!(view.get(&item("a")).unwrap().weight, 5);
    assert_eq!((view.revision(), view.revision_of(&item("a"))), (1, Some(1)));
    assert!(matches!(view.require(&item("b")), Err(Error::NotFound { kind: "item", .. })));
}

async fn versions_and_times(bed: &Bed) {
    let store = bed.open();
    let first = store.transact(|tx: &mut Tx| tx.insert(Item::new("a"))).await.unwrap();
    let change = |it: &mut Item| -> Result<(), Error> {
        it.meta.version = 77;
        Ok(())
    };
    let second = store.transact(move |tx: &mut Tx| tx.update(&item("a"), change)).await.unwrap();
    assert_eq!((first.meta.version, second.meta.version), (1, 2));
    assert_eq!(first.meta.created, second.meta.created);
    assert!(second.meta.updated >= first.meta.updated);
}

async fn an_id_cannot_be_changed(bed: &Bed) {
    let store = bed.open();
    let rename = |tx: &mut Tx| {
        tx.insert(Item::new("a"))?;
        tx.update(&item("a"), |it| -> Result<(), Error> {
            it.meta.id = item("b");
            Ok(())
        })
    };
    assert!(store.transact(rename).await.is_err());
    assert_eq!(store.view().count::<Item>(), 0);
}

async fn errors_leave_nothing(bed: &Bed) {
    let store = bed.open();
    store.transact(|tx: &mut Tx| tx.insert(Item::new("kept").group("g").claiming("k").weighing(1))).await.unwrap();
    let result: Result<(), Error> = store
        .transact(|tx: &mut Tx| {
            tx.insert(Item::new("a").group("g").claiming("n").weighing(3))?;
            tx.delete(&item("kept"))?;
            Err(Error::denied("no"))
        })
        .await;
    assert!(matches!(result, Err(Error::Denied(_))));
    let view = store.view();
    assert_eq!((view.count::<Item>(), view.tally("weight", "g"), view.revision()), (1, 1, 1));
    assert!(!view.is_claimed("name", "n") && view.is_claimed("name", "k"));
    assert_eq!(view.check(), []);
}

async fn panics_leave_nothing(bed: &Bed) {
    let store = bed.open();
    let result: Result<(), Error> = store
        .transact(|tx: &mut Tx| {
            tx.insert(Item::new("a").claiming("n"))?;
            panic!("on purpose")
        })
        .await;
    assert!(matches!(result, Err(Error::Internal { .. })));
    assert_eq!((store.view().count::<Item>(), store.view().check()), (0, vec![]));
    store.transact(|tx: &mut Tx| tx.insert(Item::new("b").claiming("n"))).await.expect("the store goes on");
}

async fn insert_again_after_delete(bed: &Bed) {
    let store = bed.open();
    store.transact(|tx: &mut Tx| tx.insert(Item::new("a").weighing(1))).await.unwrap();
    store
        .transact(|tx: &mut Tx| {
            tx.delete(&item("a"))?;
            tx.insert(Item::new("a").weighing(2))
        })
        .await
        .unwrap();
    store.transact(|tx: &mut Tx| tx.delete(&item("a"))).await.unwrap();
    assert!(store.view().get(&item("a")).is_none());
    let again = store.transact(|tx: &mut Tx| tx.insert(Item::new("a").weighing(4))).await.unwrap();
    assert_eq!(again.meta.version, 1, "a new document");
    let taken = store.transact(|tx: &mut Tx| tx.insert(Item::new("a"))).await;
    assert!(matches!(taken, Err(Error::Taken { .. })));
    assert_eq!(store.view().tally("weight", "none"), 4);
}

async fn unicode_ids(bed: &Bed) {
    let store = bed.open();
    let ids = ["雲海", "Ünïcödé", "a'b\"c\\d", "", " ", "🌥️", "a%_b", "-- ;DROP", "\u{1}"];
    let body = move |tx: &mut Tx| ids.iter().try_for_each(|id| tx.insert(Item::new(id).group(id).claiming(id).saying(*id)).map(drop));
    store.transact(body).await.unwrap();
    store.stop().await;
    if let Bed::Memory = bed {
        return;
    }
    let view = bed.open().view();
    for id in ids {
        assert_eq!(view.get(&item(id)).unwrap().text, id);
        assert_eq!(view.by_index::<Item>("group", id).count(), 1);
        assert_eq!(view.holder("name", id), Some(item(id)));
    }
    let nul = bed.open().transact(|tx: &mut Tx| tx.insert(Item::new("a\0b"))).await;
    assert!(matches!(nul, Err(Error::Invalid(_))));
}

async fn large_documents(bed: &Bed) {
    let store = bed.open();
    let text = |n: usize| "0123456789\0\n\"é".repeat(n);
    let sizes = [1usize, 20_000, 250_000, 400_000, 450_000, 2];
    let body = move |tx: &mut Tx| {
        sizes.iter().try_for_each(|n| tx.insert(Item::new(&n.to_string()).saying(text(*n))).map(drop))?;
        tx.delete(&item("2")).map(drop)
    };
    store.transact(body).await.unwrap();
    store.stop().await;
    let view = if let Bed::Memory = bed { store.view() } else { bed.open().view() };
    assert_eq!(view.count::<Item>(), 5);
    for n in &sizes[..5] {
        assert!(view.get(&item(&n.to_string())).unwrap().text == text(*n));
    }
}

async fn index_keys_that_are_prefixes(bed: &Bed) {
    let store = bed.open();
    let groups = [("a", "x"), ("ab", "x"), ("abc", "x"), ("a", "xy"), ("", "x"), ("b", "x")];
    let body = move |tx: &mut Tx| {
        groups.iter().enumerate().try_for_each(|(n, (group, prefix))| tx.insert(Item::new(&format!("{prefix}{n}")).group(group)).map(drop))
    };
    store.transact(body).await.unwrap();
    let view = store.view();
    let found = |group: &str| view.by_index::<Item>("group", group).map(|it| it.meta.id.to_string()).collect::<Vec<_>>();
    assert_eq!(found("a"), ["x0", "xy3"]);
    assert_eq!(found("ab"), ["x1"]);
    assert_eq!(found(""), ["x4"]);
    assert_eq!(found("ac"), [] as [&str; 0]);
}

async fn pages(bed: &Bed) {
    let store = bed.open();
    let body = |tx: &mut Tx| (0..25).try_for_each(|n| tx.insert(Item::new(&format!("{n:02}")).group(["even", "odd"][n % 2])).map(drop));
    store.transact(body).await.unwrap();
    let view = store.view();
    let page = |after: &str| view.after(&item(after)).take(10).map(|it| it.meta.id.clone()).collect::<Vec<Id<Item>>>();
    assert_eq!(page("").first(), Some(&item("00")));
    assert_eq!(page("09").first(), Some(&item("10")));
    assert_eq!(page("095").first(), Some(&item("10")), "an id that is not there is a place too");
    assert_eq!(page("19").len(), 5);
    let odd: Vec<_> = view.by_index_after("group", "odd", &item("19")).map(|it| it.meta.id.to_string()).collect();
    assert_eq!(odd, ["21", "23"]);
    let even: Vec<_> = view.by_index_after("group", "even", &item("24")).collect();
    assert_eq!(even, []);
}

async fn a_stopped_store_refuses(bed: &Bed) {
    let store = bed.open();
    let other = store.clone();
    let mut watch = other.watch();
    store.transact(|tx: &mut Tx| tx.insert(Item::new("a"))).await.unwrap();
    store.stop().await;
    assert!(matches!(other.transact(|tx: &mut Tx| tx.insert(Item::new("b"))).await, Err(Error::Unavailable(_))));
    assert_eq!(other.view().count::<Item>(), 1);
    assert!(watch.next().await.is_some());
    assert!(watch.next().await.is_none(), "the watch ends");
    store.stop().await;
}

async fn restart_shows_the_same(bed: &Bed) {
    let store = bed.open();
    let fill = |tx: &mut Tx| {
        tx.insert(Shelf::new("s"))?;
        tx.insert(Item::new("a").group("g").claiming("n").weighing(7).saying("first"))?;
        tx.insert(Item::new("b").under("a"))?;
        tx.insert(Item::new("gone"))
    };
    store.transact(fill).await.unwrap();
    store.transact(|tx: &mut Tx| tx.delete(&item("gone"))).await.unwrap();
    let before = store.view();
    store.stop().await;
    let store = bed.open();
    let view = store.view();
    assert_eq!(view.revision(), 2);
    assert_eq!(view.all::<Item>().collect::<Vec<_>>(), before.all::<Item>().collect::<Vec<_>>());
    assert_eq!((view.count::<Shelf>(), view.tally("weight", "g"), view.holder("name", "n")), (1, 7, Some(item("a"))));
    assert_eq!(view.check(), []);
    assert!(matches!(store.transact(|tx: &mut Tx| tx.delete(&item("a"))).await, Err(Error::InUse { .. })));
    assert_eq!(view.changes_since(1), Changes::TooOld, "what was before the restart is not remembered");
    assert_eq!(view.changes_since(2), Changes::Since(vec![]));
    let mut old = store.watch().from(1);
    assert_eq!(old.next().await.unwrap().1, Changes::TooOld);
    store.transact(|tx: &mut Tx| tx.insert(Item::new("c"))).await.unwrap();
    assert_eq!(store.view().revision(), 3, "revisions continue");
}

async fn many_documents_after_restart(bed: &Bed) {
    let store = bed.open();
    let fill = |tx: &mut Tx| (0..12_345).try_for_each(|n| tx.insert(Item::new(&format!("{n}")).weighing(1)).map(drop));
    store.transact(fill).await.unwrap();
    store.stop().await;
    let view = bed.open().view();
    assert_eq!((view.count::<Item>(), view.tally("weight", "none")), (12_345, 12_345));
}
