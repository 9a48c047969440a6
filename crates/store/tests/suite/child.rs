//! Processes that die, and processes that get in each other's way. The test binary runs itself: a "child" test does nothing unless the
//! environment says where its store is.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use unkai_model::Error;
use unkai_store::engine::from_url;
use unkai_store::{Store, System, Tx, check_with};

use crate::beds::run;
use crate::kinds::{Item, Shelf, item, registry};
use crate::postgres::Database;

const STORE: &str = "UNKAI_STORE_TEST_CHILD";

fn spawn(role: &str, url: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([&format!("child::{role}"), "--exact", "--nocapture", "--test-threads=1"])
        .env(STORE, url)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn open(url: &str) -> Store {
    Store::open_with(from_url(url).unwrap(), registry(), Arc::new(System)).unwrap()
}

/// Writes triples (an item, its shelf and a counter) from several tasks and says so after every answer, until it is killed.
#[test]
fn writer() {
    let Ok(url) = std::env::var(STORE) else { return };
    run(async {
        let store = open(&url);
        let round = store.view().count::<Item>();
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..8 {
            let store = store.clone();
            tasks.spawn(async move {
                for n in 0..100_000 {
                    let id = format!("{round}-{task}-{n}");
                    store
                        .transact({
                            let id = id.clone();
                            move |tx: &mut Tx| write_triple(tx, &id)
                        })
                        .await
                        .unwrap();
                    // One write call, so that lines do not mix.
                    std::io::stdout().write_all(format!("ack {id}\n").as_bytes()).unwrap();
                }
            });
        }
        tasks.join_all().await;
    });
}

fn write_triple(tx: &mut Tx, id: &str) -> Result<(), Error> {
    tx.insert(Item { shelf: Some(id.into()), ..Item::new(id).weighing(1).saying("x".repeat(500)) })?;
    tx.insert(Shelf { name: Some(id.into()), ..Shelf::new(id) })?;
    if tx.get(&item("counter")).is_none() {
        tx.insert(Item::new("counter").group("counters"))?;
    }
    let count = |it: &mut Item| -> Result<(), Error> {
        it.weight += 1;
        Ok(())
    };
    tx.update(&item("counter"), count).map(drop)
}

/// The ids that the child said were acknowledged before it was killed.
fn kill_while_it_writes(url: &str, after: Duration) -> Vec<String> {
    let mut child = spawn("writer", url);
    let output = BufReader::new(child.stdout.take().unwrap());
    let (started, start) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut acknowledged = Vec::new();
        for line in output.lines().map_while(Result::ok) {
            if let Some((_, id)) = line.split_once("ack ") {
                let _ = started.send(());
                acknowledged.push(id.to_owned());
            }
        }
        acknowledged
    });
    start.recv().expect("the child writes");
    std::thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

fn survives_kill(url: &str) {
    let mut acknowledged = Vec::new();
    let mut last = 0;
    for round in 0..8u64 {
        acknowledged.extend(kill_while_it_writes(url, Duration::from_millis(round * round * 7 % 90)));
        assert_eq!(check_with(&mut *from_url(url).unwrap(), &registry()).unwrap(), []);
        let view = open(url).view();
        for id in &acknowledged {
            assert!(view.get(&item(id)).is_some(), "{id} was acknowledged");
        }
        let items = view.tally("weight", "none");
        assert_eq!(items, view.count::<Shelf>() as i64, "nothing half");
        assert_eq!(items, view.tally("weight", "counters"), "nothing half");
        assert_eq!(view.revision(), items as u64, "one revision each");
        assert!(view.revision() > last);
        last = view.revision();
    }
}

#[test]
fn killed_writers_lose_nothing_on_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    survives_kill(&format!("sqlite:{}", dir.path().join("store.db").display()));
}

#[test]
fn killed_writers_lose_nothing_on_postgres() {
    if let Some(database) = Database::create() {
        survives_kill(&database.url);
    }
}

/// Tries to open a store that another process has.
#[test]
fn intruder() {
    let Ok(url) = std::env::var(STORE) else { return };
    match from_url(&url) {
        Ok(_) => println!("\nopened"),
        Err(e) => println!("\nrefused {e}"),
    }
}

fn output(role: &str, url: &str) -> String {
    let output = spawn(role, url).wait_with_output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn sqlite_belongs_to_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let url = format!("sqlite:{}", path.display());
    let store = open(&url);
    let refused = output("intruder", &url);
    assert!(refused.contains("refused") && refused.contains("in use by another process"), "{refused}");
    run(async { store.transact(|tx: &mut Tx| tx.insert(Item::new("a"))).await.map(drop).unwrap() });
    let own = Store::open_sqlite(&path, Arc::new(System)).err().unwrap();
    assert!(own.to_string().contains("in use"), "also twice in one process: {own}");
    run(store.stop());
    assert!(output("intruder", &url).contains("opened"));
    assert_eq!(mode(&path) & 0o077, 0, "it holds secrets");
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode()
}

#[test]
fn dropping_the_last_handle_frees_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("store.db").display());
    for n in 0..5 {
        let store = open(&url);
        assert_eq!(store.view().revision(), n);
        run(async { store.transact(move |tx: &mut Tx| tx.insert(Item::new(&n.to_string()))).await.map(drop).unwrap() });
    }
}

/// Files that cannot grow stand in for a full disk; a process of its own, because the limit is the process's.
#[test]
fn full_disk() {
    let Ok(url) = std::env::var(STORE) else { return };
    run(async {
        let store = open(&url);
        let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
        // SAFETY: ignoring a signal has no preconditions.
        unsafe { nix::sys::signal::signal(nix::sys::signal::Signal::SIGXFSZ, nix::sys::signal::SigHandler::SigIgn).unwrap() };
        setrlimit(Resource::RLIMIT_FSIZE, 1 << 20, hard).unwrap();
        let insert = |n: usize| {
            let store = store.clone();
            async move { store.transact(move |tx: &mut Tx| tx.insert(Item::new(&n.to_string()).saying("x".repeat(100_000))).map(drop)).await }
        };
        let mut there = 0;
        let refused = loop {
            match insert(there).await {
                Ok(()) => there += 1,
                Err(e) => break e,
            }
        };
        assert!(matches!(refused, Error::Unavailable(_)), "{refused:?}");
        assert!(there > 0);
        for _ in 0..3 {
            assert!(matches!(insert(there).await, Err(Error::Unavailable(_))));
            assert_eq!(store.read().await.unwrap().count::<Item>(), there, "reads go on and show what was acknowledged");
        }
        setrlimit(Resource::RLIMIT_FSIZE, hard, hard).unwrap();
        insert(there).await.expect("with room again, writes go on");
        assert_eq!((store.view().count::<Item>(), store.view().check()), (there + 1, vec![]));
        println!("\nwritten {}", there + 1);
        store.stop().await;
    });
}

#[test]
fn a_full_disk_stops_writers_only() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("store.db").display());
    let output = output("full_disk", &url);
    let written = output.lines().find_map(|line| line.strip_prefix("written ")).unwrap_or_else(|| panic!("{output}"));
    assert_eq!(open(&url).view().count::<Item>().to_string(), written);
}
