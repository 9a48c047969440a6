//! Several controllers on one PostgreSQL, and connections that break.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use unkai_model::Error;
use unkai_store::engine::Engine;
use unkai_store::engine::postgres::Postgres;
use unkai_store::{Change, Changes, Store, System, Tx, check_with};

use crate::beds::{Bed, open, run};
use crate::kinds::{Item, item, registry};
use crate::postgres::Database;

fn database() -> Option<(Bed, Arc<Database>)> {
    let database = Database::create()?;
    Some((Bed::Postgres(database.clone()), Arc::new(database)))
}

async fn insert(store: &Store, it: Item) -> Result<(), Error> {
    store.transact(move |tx: &mut Tx| tx.insert(it.clone()).map(drop)).await
}

#[test]
fn claims_and_limits_hold_across_controllers() {
    let Some((bed, _)) = database() else { return };
    run(async {
        let stores = [bed.open(), bed.open()];
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..100usize {
            let store = stores[n % 2].clone();
            tasks.spawn(async move {
                let body = move |tx: &mut Tx| {
                    tx.limit("items", "weight", "g", 10);
                    tx.insert(Item::new(&format!("limited{n}")).group("g").weighing(1)).map(drop)
                };
                let limited = store.transact(body).await.is_ok();
                let claimed = insert(&store, Item::new(&format!("claimed{n}")).claiming(&format!("{}", n / 4))).await.is_ok();
                (limited, claimed)
            });
        }
        let results = tasks.join_all().await;
        assert_eq!(results.iter().filter(|(limited, _)| *limited).count(), 10);
        assert_eq!(results.iter().filter(|(_, claimed)| *claimed).count(), 25);
        // Both at once, again and again: only one of each pair can have the name.
        for n in 0..40 {
            let name = format!("pair{n}");
            let one = |no: usize| insert(&stores[no], Item::new(&format!("{name}-{no}")).claiming(&name));
            let (a, b) = tokio::join!(one(0), one(1));
            assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
        }
        let views = [stores[0].read().await.unwrap(), stores[1].read().await.unwrap()];
        assert_eq!(views[0].revision(), 75, "one order of revisions");
        assert_eq!(views[0].all::<Item>().collect::<Vec<_>>(), views[1].all::<Item>().collect::<Vec<_>>());
        assert_eq!((views[0].check(), views[1].check()), (vec![], vec![]));
        for id in views[0].all::<Item>().map(|it| it.meta.id.clone()) {
            assert_eq!(views[0].revision_of(&id), views[1].revision_of(&id));
        }
    });
}

#[test]
fn reads_see_what_the_other_acknowledged() {
    let Some((bed, _)) = database() else { return };
    run(async {
        let (a, b) = (bed.open(), bed.open());
        for n in 0..50 {
            let id = format!("{n}");
            insert(&a, Item::new(&id)).await.unwrap();
            let reads = (0..5)
                .map(|_| {
                    tokio::spawn({
                        let b = b.clone();
                        async move { b.read().await }
                    })
                })
                .collect::<Vec<_>>();
            for read in reads {
                assert!(read.await.unwrap().unwrap().get(&item(&id)).is_some());
            }
            // And the other way round, while both write.
            let (own, other) = tokio::join!(insert(&a, Item::new(&format!("a{n}"))), insert(&b, Item::new(&format!("b{n}"))));
            own.unwrap();
            other.unwrap();
            let view = a.read().await.unwrap();
            assert!(view.get(&item(&format!("b{n}"))).is_some());
        }
        assert_eq!(a.read().await.unwrap().check(), []);
    });
}

#[test]
fn watches_see_what_the_other_writes_soon() {
    let Some((bed, _)) = database() else { return };
    run(async {
        let (a, b) = (bed.open(), bed.open());
        insert(&a, Item::new("warm")).await.unwrap();
        b.read().await.unwrap();
        let mut watch = b.watch();
        let (mut slowest, mut total) = (Duration::ZERO, Duration::ZERO);
        for n in 0..20 {
            let body = move |tx: &mut Tx| {
                tx.insert(Item::new(&format!("{n}")))?;
                tx.insert(Item::new(&format!("{n}b"))).map(drop)
            };
            a.transact(body).await.unwrap();
            let written = Instant::now();
            let (view, changes) = tokio::time::timeout(Duration::from_secs(5), watch.next()).await.expect("it is told").unwrap();
            slowest = slowest.max(written.elapsed());
            total += written.elapsed();
            let Changes::Since(changes) = changes else { panic!("nothing is too old") };
            let ids: Vec<_> = changes.iter().filter_map(Change::of::<Item>).collect();
            assert_eq!(ids, [item(&format!("{n}")), item(&format!("{n}b"))], "both changes of one revision");
            assert!(view.get(&ids[1]).is_some());
        }
        println!("news after {:?} on average, {slowest:?} at most", total / 20);
        // Without notifications it would be the period of polling, seconds, every time.
        assert!(total < Duration::from_secs(10), "{total:?}");
    });
}

/// Documents that give up and take claims in an order that no order of documents can follow.
#[test]
fn claims_that_moved_are_taken_in() {
    let Some((bed, _)) = database() else { return };
    run(async {
        let (a, b) = (bed.open(), bed.open());
        insert(&a, Item::new("1").claiming("x")).await.unwrap();
        insert(&a, Item::new("2").claiming("y")).await.unwrap();
        b.read().await.unwrap();
        let hold = |id: &'static str, name: Option<&'static str>| {
            move |tx: &mut Tx| {
                tx.update(&item(id), |it| -> Result<(), Error> {
                    it.names = name.iter().map(|name| name.to_string()).collect();
                    Ok(())
                })
            }
        };
        let swap = move |tx: &mut Tx| {
            hold("1", None)(tx)?;
            hold("2", Some("x"))(tx)?;
            hold("1", Some("y"))(tx)
        };
        a.transact(swap).await.unwrap();
        a.transact(hold("1", Some("y"))).await.unwrap();
        let view = b.read().await.unwrap();
        assert_eq!((view.holder("name", "x"), view.holder("name", "y")), (Some(item("2")), Some(item("1"))));
        assert_eq!(view.check(), []);
    });
}

#[test]
fn a_long_absence_ends_in_a_reload() {
    let Some((_, database)) = database() else { return };
    run(async {
        let engine = || Box::new(Postgres::new(&database.url).unwrap().keep_tombstones(3));
        let a = open(engine());
        for id in ["gone", "kept"] {
            insert(&a, Item::new(id)).await.unwrap();
        }
        let b = open(engine());
        let mut watch = b.watch();
        database.terminate_sessions("% reader");
        // In one go with nothing in between that b could hear: b must not learn of the deletion by its tombstone.
        a.transact(|tx: &mut Tx| tx.delete(&item("gone"))).await.unwrap();
        for n in 0..12 {
            insert(&a, Item::new(&format!("{n}"))).await.unwrap();
        }
        assert_eq!(database.query("SELECT count(*) FROM documents WHERE body IS NULL"), ["0"], "the tombstone is gone");
        let view = b.read().await.unwrap();
        assert!(view.get(&item("gone")).is_none());
        assert_eq!((view.count::<Item>(), view.check()), (13, vec![]));
        watch.next().await.unwrap();
    });
}

#[test]
fn broken_connections_lose_nothing() {
    let Some((bed, database)) = database() else { return };
    run(async {
        let stores = [bed.open(), bed.open()];
        let done = Arc::new(AtomicBool::new(false));
        let killer = std::thread::spawn({
            let (done, database, store) = (done.clone(), database.clone(), stores[0].clone());
            move || {
                let (mut ended, mut last) = (0, 0);
                while !done.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(10));
                    // Only after progress: on a slow machine nothing else would ever happen.
                    let revision = store.view().revision();
                    if revision >= last + 5 {
                        ended += database.terminate_sessions("unkai-%");
                        last = revision;
                    }
                }
                ended
            }
        });
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..16usize {
            let store = stores[task % 2].clone();
            tasks.spawn(async move {
                let mut acknowledged = Vec::new();
                for n in 0..60 {
                    let id = format!("{task}-{n}");
                    match insert(&store, Item::new(&id).weighing(1)).await {
                        Ok(()) => acknowledged.push((id, true)),
                        Err(Error::Unavailable(_)) => acknowledged.push((id, false)),
                        Err(Error::Internal { context, .. }) if context.contains("unknown") => {}
                        Err(e) => panic!("{e}"),
                    }
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                acknowledged
            });
        }
        let told: Vec<(String, bool)> = tasks.join_all().await.into_iter().flatten().collect();
        done.store(true, Ordering::Relaxed);
        let ended = killer.join().unwrap();
        assert!(ended > 5, "connections were ended: {ended}");
        let wrote = told.iter().filter(|(_, ok)| *ok).count();
        println!("{ended} sessions ended; {wrote} of {} written", told.len());
        assert!(wrote > told.len() / 2);
        for store in stores {
            let view = store.read().await.unwrap();
            for (id, written) in &told {
                assert_eq!(view.get(&item(id)).is_some(), *written, "{id}");
            }
            assert_eq!(view.check(), []);
        }
        assert_eq!(check_with(&mut *bed.engine(), &registry()).unwrap(), []);
    });
}

#[test]
fn a_controller_that_holds_the_lock_and_dies_gives_it_up() {
    let Some((bed, database)) = database() else { return };
    run(async {
        let (a, b) = (bed.open(), bed.open());
        let mut stuck = Postgres::new(&database.url).unwrap();
        let (release, released) = std::sync::mpsc::channel::<()>();
        let (holds, held) = std::sync::mpsc::channel();
        let holder = std::thread::spawn(move || {
            stuck.begin(0, true).unwrap();
            holds.send(()).unwrap();
            let _ = released.recv();
        });
        held.recv().unwrap();
        let write = tokio::spawn(async move { insert(&a, Item::new("x")).await });
        tokio::time::sleep(Duration::from_millis(200)).await;
        tokio::time::timeout(Duration::from_secs(5), b.read()).await.expect("reads do not wait for the lock").unwrap();
        assert!(!write.is_finished(), "writes do");
        release.send(()).unwrap();
        holder.join().unwrap();
        write.await.unwrap().unwrap();
        assert_eq!(b.read().await.unwrap().count::<Item>(), 1);
    });
}

#[test]
fn urls_are_read_and_refused_clearly() {
    let refused = |url: &str| Store::open_url(url, Arc::new(System)).err().unwrap().to_string();
    assert!(refused("mysql://x").contains("sqlite:PATH"));
    assert!(refused("sqlite:").contains("sqlite:PATH"));
    assert!(refused("postgres://u:hunter2@127.0.0.1:1/x?sslmode=require").contains("TLS"));
    let nobody = refused("postgres://u:hunter2@127.0.0.1:1/x");
    assert!(nobody.contains("127.0.0.1") && !nobody.contains("hunter2"), "{nobody}");
    let dir = tempfile::tempdir().unwrap();
    Store::open_url(&format!("sqlite:{}", dir.path().join("s.db").display()), Arc::new(System)).unwrap();
    if let Some(database) = Database::create() {
        Store::open_url(&database.url, Arc::new(System)).unwrap();
    }
}
