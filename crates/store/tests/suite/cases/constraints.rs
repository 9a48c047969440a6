//! Claims, references, tallies and limits.

use unkai_model::{Error, Id};
use unkai_store::Tx;

use crate::beds::Bed;
use crate::kinds::{Item, Shelf, item};

crate::on_engines! {
    memory: [claims_are_exclusive, claims_are_released, claims_can_be_swapped, a_refused_write_may_be_survived, references_must_exist,
        what_is_named_stays, limits_are_exact_under_concurrency, limits_refuse_growth_only, sums_do_not_overflow],
    durable: []
}

async fn insert(store: &unkai_store::Store, it: Item) -> Result<(), Error> {
    store.transact(move |tx: &mut Tx| tx.insert(it.clone()).map(drop)).await
}

async fn claims_are_exclusive(bed: &Bed) {
    let store = bed.open();
    insert(&store, Item::new("a").claiming("x")).await.unwrap();
    let taken = insert(&store, Item::new("b").claiming("x")).await;
    assert!(matches!(&taken, Err(Error::Taken { namespace: "name", key, holder }) if key == "x" && holder == "a"), "{taken:?}");
    let other_kind = |tx: &mut Tx| tx.insert(Shelf { name: Some("x".into()), ..Shelf::new("a") });
    assert!(matches!(store.transact(other_kind).await, Err(Error::Taken { .. })), "also against the same id of another kind");
    let both = |tx: &mut Tx| {
        tx.insert(Item::new("c").claiming("y"))?;
        tx.insert(Item::new("d").claiming("y"))
    };
    assert!(matches!(store.transact(both).await, Err(Error::Taken { .. })));
    assert_eq!((store.view().count::<Item>(), store.view().is_claimed("name", "y")), (1, false));
    let many: Vec<_> = (0..50).map(|n| insert(&store, Item::new(&format!("m{n}")).claiming("one"))).collect();
    let mut won = 0;
    for attempt in many {
        won += usize::from(attempt.await.is_ok());
    }
    assert_eq!(won, 1);
    assert_eq!(store.view().check(), []);
}

async fn claims_are_released(bed: &Bed) {
    let store = bed.open();
    insert(&store, Item::new("a").claiming("x").claiming("y")).await.unwrap();
    let release = |tx: &mut Tx| {
        tx.update(&item("a"), |it| -> Result<(), Error> {
            it.names.remove("x");
            Ok(())
        })
    };
    store.transact(release).await.unwrap();
    insert(&store, Item::new("b").claiming("x")).await.expect("an update releases");
    assert!(insert(&store, Item::new("c").claiming("y")).await.is_err());
    store.transact(|tx: &mut Tx| tx.delete(&item("a"))).await.unwrap();
    insert(&store, Item::new("c").claiming("y")).await.expect("a deletion releases");
    assert_eq!(store.view().check(), []);
}

async fn claims_can_be_swapped(bed: &Bed) {
    let store = bed.open();
    insert(&store, Item::new("a").claiming("x")).await.unwrap();
    let replace = |tx: &mut Tx| {
        tx.delete(&item("a"))?;
        tx.insert(Item::new("b").claiming("x"))
    };
    store.transact(replace).await.unwrap();
    assert_eq!(store.view().holder("name", "x"), Some(item("b")));
    let too_early = |tx: &mut Tx| {
        tx.insert(Item::new("c").claiming("x"))?;
        tx.delete(&item("b"))
    };
    assert!(matches!(store.transact(too_early).await, Err(Error::Taken { .. })), "a claim is checked when it is made");
    assert_eq!(store.view().holder("name", "x"), Some(item("b")));
}

async fn a_refused_write_may_be_survived(bed: &Bed) {
    let store = bed.open();
    insert(&store, Item::new("a").claiming("1")).await.unwrap();
    insert(&store, Item::new("z").claiming("9").group("old").weighing(1)).await.unwrap();
    let first_free = |tx: &mut Tx| {
        let moved = |name: &'static str| {
            move |it: &mut Item| -> Result<(), Error> {
                it.names = [name.to_owned()].into();
                it.group = "new".into();
                Ok(())
            }
        };
        assert!(tx.insert(Item::new("b").claiming("0").claiming("1").group("lost").weighing(5)).is_err());
        assert!(tx.update(&item("z"), moved("1")).is_err());
        tx.insert(Item::new("b").claiming("2"))
    };
    store.transact(first_free).await.unwrap();
    let view = store.view();
    assert_eq!(view.check(), [], "the refused writes left nothing");
    assert_eq!((view.tally("weight", "lost"), view.tally("weight", "old"), view.is_claimed("name", "0")), (0, 1, false));
    assert_eq!((view.holder("name", "9"), view.by_index::<Item>("group", "lost").count()), (Some(item("z")), 0));
}

async fn references_must_exist(bed: &Bed) {
    let store = bed.open();
    assert!(matches!(insert(&store, Item::new("a").under("nobody")).await, Err(Error::NotFound { kind: "item", .. })));
    let child_first = |tx: &mut Tx| {
        tx.insert(Item::new("child").under("parent"))?;
        tx.insert(Item::new("parent"))
    };
    store.transact(child_first).await.expect("only the end of the transaction counts");
    let cycle = |tx: &mut Tx| {
        tx.insert(Item::new("x").under("y"))?;
        tx.insert(Item::new("y").under("x"))
    };
    store.transact(cycle).await.unwrap();
    let other_kind = |tx: &mut Tx| tx.insert(Item { shelf: Some(Id::new("parent")), ..Item::new("b") });
    assert!(matches!(store.transact(other_kind).await, Err(Error::NotFound { kind: "shelf", .. })), "an item is not a shelf");
}

async fn what_is_named_stays(bed: &Bed) {
    let store = bed.open();
    insert(&store, Item::new("p")).await.unwrap();
    insert(&store, Item::new("p2")).await.unwrap();
    insert(&store, Item::new("c").under("p")).await.unwrap();
    let delete = |id: &'static str| store.transact(move |tx: &mut Tx| tx.delete(&item(id)).map(drop));
    let refused = delete("p").await;
    assert!(matches!(&refused, Err(Error::InUse { kind: "item", by, .. }) if by == "item c"), "{refused:?}");
    delete("p2").await.expect("an id that continues another is another");
    let again = |tx: &mut Tx| {
        tx.delete(&item("p"))?;
        tx.insert(Item::new("p"))
    };
    store.transact(again).await.expect("it is there again at the end");
    let both = |tx: &mut Tx| {
        tx.delete(&item("p"))?;
        tx.delete(&item("c"))
    };
    store.transact(both).await.expect("and so is nobody who names it");
    assert_eq!((store.view().count::<Item>(), store.view().check()), (0, vec![]));
}

async fn limits_are_exact_under_concurrency(bed: &Bed) {
    let store = bed.open();
    let mut attempts = tokio::task::JoinSet::new();
    for n in 0..100 {
        let store = store.clone();
        attempts.spawn(async move {
            store
                .transact(move |tx: &mut Tx| {
                    tx.limit("items", "weight", "g", 10);
                    tx.insert(Item::new(&format!("i{n}")).group("g").weighing(1)).map(drop)
                })
                .await
        });
    }
    let results = attempts.join_all().await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 10);
    assert!(
        results
            .iter()
            .filter_map(|result| result.as_ref().err())
            .all(|e| matches!(e, Error::Quota { limit: 10, used: 10, requested: 1, .. }))
    );
    assert_eq!((store.view().tally("weight", "g"), store.view().count::<Item>()), (10, 10));
}

async fn limits_refuse_growth_only(bed: &Bed) {
    let store = bed.open();
    insert(&store, Item::new("a").group("g").weighing(20)).await.unwrap();
    let to = |weight: i64| {
        store.transact(move |tx: &mut Tx| {
            tx.limit("weight", "weight", "g", 10);
            tx.update(&item("a"), |it| -> Result<(), Error> {
                it.weight = weight;
                Ok(())
            })
        })
    };
    assert!(matches!(to(21).await, Err(Error::Quota { used: 20, requested: 1, .. })));
    to(20).await.expect("the same is not more");
    to(15).await.expect("less is fine, also above the limit");
    to(9).await.unwrap();
    let unlimited = |tx: &mut Tx| {
        tx.limit("weight", "weight", "g", -1);
        tx.insert(Item::new("b").group("g").weighing(1000)).map(drop)
    };
    store.transact(unlimited).await.unwrap();
    let moved_away = |tx: &mut Tx| {
        tx.limit("weight", "weight", "g", 0);
        tx.delete(&item("b"))?;
        tx.delete(&item("a"))
    };
    store.transact(moved_away).await.unwrap();
    assert_eq!(store.view().tally("weight", "g"), 0);
}

async fn sums_do_not_overflow(bed: &Bed) {
    let store = bed.open();
    insert(&store, Item::new("a").group("g").weighing(i64::MAX)).await.unwrap();
    let more = |tx: &mut Tx| {
        tx.limit("weight", "weight", "g", i64::MAX - 1);
        tx.insert(Item::new("b").group("g").weighing(i64::MAX)).map(drop)
    };
    assert_eq!(store.view().tally("weight", "g"), i64::MAX);
    store.transact(|tx: &mut Tx| tx.insert(Item::new("c").group("g").weighing(5)).map(drop)).await.unwrap();
    assert_eq!(store.view().tally("weight", "g"), i64::MAX, "shown as much as can be shown");
    assert!(matches!(store.transact(more).await, Err(Error::Quota { .. })));
    store.transact(|tx: &mut Tx| tx.delete(&item("a")).map(drop)).await.unwrap();
    assert_eq!(store.view().tally("weight", "g"), 5, "and exact inside");
}
