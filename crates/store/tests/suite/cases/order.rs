//! Revision order is visibility order, and a transaction shows whole or not at all, with many writers and readers at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use unkai_model::Error;
use unkai_store::{Store, Tx};

use crate::beds::Bed;
use crate::kinds::{Item, item};

crate::on_engines! {
    memory: [transactions_show_whole, revisions_count_transactions, an_answer_means_visible],
    durable: []
}

fn set(id: &'static str, weight: i64) -> impl Fn(&mut Tx) -> Result<(), Error> {
    move |tx| {
        tx.update(&item(id), |it| -> Result<(), Error> {
            it.weight = weight;
            Ok(())
        })
        .map(drop)
    }
}

/// Every transaction moves weight between two items, so every view must show the same sum.
async fn transactions_show_whole(bed: &Bed) {
    let store = bed.open();
    let fill = |tx: &mut Tx| {
        tx.insert(Item::new("a").weighing(100))?;
        tx.insert(Item::new("b").weighing(0)).map(drop)
    };
    store.transact(fill).await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            std::thread::spawn({
                let (store, done) = (store.clone(), done.clone());
                move || read_until(&store, &done)
            })
        })
        .collect();
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..8i64 {
        let store = store.clone();
        writers.spawn(async move {
            for step in 0..25 {
                let amount = n + step;
                let transfer = move |tx: &mut Tx| {
                    let (a, b) = (tx.require(&item("a"))?.weight, tx.require(&item("b"))?.weight);
                    set("a", a - amount)(tx)?;
                    set("b", b + amount)(tx)?;
                    if amount % 7 == 0 { Err(Error::denied("changed my mind")) } else { Ok(()) }
                };
                let _ = store.transact(transfer).await;
            }
        });
    }
    writers.join_all().await;
    done.store(true, Ordering::Relaxed);
    let looks: usize = readers.into_iter().map(|reader| reader.join().expect("readers saw whole transactions in order")).sum();
    assert!(looks > 0);
    assert_eq!(store.view().check(), []);
}

fn read_until(store: &Store, done: &AtomicBool) -> usize {
    let (mut looks, mut last) = (0, 0);
    while !done.load(Ordering::Relaxed) {
        let view = store.view();
        assert!(view.revision() >= last, "never back");
        last = view.revision();
        assert_eq!(view.tally("weight", "none"), 100);
        assert_eq!(view.all::<Item>().map(|it| it.weight).sum::<i64>(), 100);
        let newest = ["a", "b"].iter().filter_map(|id| view.revision_of(&item(id))).max();
        assert_eq!(newest, Some(last), "the last transaction is in it");
        looks += 1;
    }
    looks
}

async fn revisions_count_transactions(bed: &Bed) {
    let store = bed.open();
    store.transact(|tx: &mut Tx| tx.insert(Item::new("a"))).await.unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..40 {
        let store = store.clone();
        writers.spawn(async move { store.transact(set("a", n)).await });
    }
    assert!(writers.join_all().await.iter().all(Result::is_ok));
    assert_eq!((store.view().revision(), store.view().get(&item("a")).unwrap().meta.version), (41, 41));
    store.transact(|tx: &mut Tx| tx.require(&item("a"))).await.unwrap();
    assert!(store.transact(|tx: &mut Tx| tx.require(&item("b"))).await.is_err());
    assert_eq!(store.view().revision(), 41, "reading and failing count nothing");
}

async fn an_answer_means_visible(bed: &Bed) {
    let store = bed.open();
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..8 {
        let store = store.clone();
        writers.spawn(async move {
            for step in 0..20 {
                let id = format!("{n}-{step}");
                let insert = {
                    let id = id.clone();
                    move |tx: &mut Tx| tx.insert(Item::new(&id)).map(drop)
                };
                store.transact(insert).await.unwrap();
                assert!(store.view().get(&item(&id)).is_some());
                assert!(store.read().await.unwrap().get(&item(&id)).is_some());
            }
        });
    }
    assert_eq!(writers.join_all().await.len(), 8);
}
