use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use nfs3_client::nfs3_types::nfs3::{nfstime3, sattr3, set_mtime};

use super::server::{ADDRESS, Server};
use super::*;
use crate::conformance::{self, User, blank, holds, qemu_io, write};
use crate::{Pool, Tools};

const MIB: u64 = 1 << 20;
const UID: u32 = 300_000;

fn driver(server: &Server) -> Nfs {
    Nfs::new(ADDRESS, server.export().to_str().unwrap(), UID, UID).unwrap()
}

fn pool(server: &Server) -> Pool {
    Pool::new(driver(server), Tools::default())
}

macro_rules! server {
    ($room:expr) => {
        match Server::start($room) {
            Some(server) => server,
            None => return,
        }
    };
}

#[test]
fn nfs_does_what_every_kind_of_storage_does() {
    let server = server!(None);
    let pool = pool(&server);
    let first = pool.status(None).unwrap();
    assert!(first.total >= first.free && first.free > 0 && pool.status(Some(&first.mark)).is_ok());
    conformance::all(&pool, &driver(&server));
    let left = |dir: &str| fs::read_dir(server.export().join(dir)).unwrap().count();
    assert_eq!((left("volumes"), left("locks")), (0, 0), "nothing is left");
}

#[test]
fn a_server_of_an_older_generation_writes_no_more() {
    let server = server!(None);
    let (pool, job) = (pool(&server), Job::default());
    pool.status(None).unwrap();
    pool.create("v", &blank(4 * MIB), &job).unwrap();
    let told = pool.at(5).open("v", false).unwrap();
    let (mut old, mut idle) = (User::new(&told), User::new(&told));
    assert!(old.does("write -P 5 0 1M"));

    let new = pool.at(6).open("v", false).unwrap();
    for user in [&mut old, &mut idle] {
        assert!(!user.does("write -P 4 0 1M") && !user.does("read 0 1M"));
    }
    let late = qemu_io(&told, &["write -P 4 0 1M".into()]).unwrap_err();
    assert!(late.to_string().contains("ACCES"), "{late}");
    assert!(matches!(pool.at(5).open("v", false), Err(Error::Fenced { newest: 6, .. })));
    let mut now = User::new(&new);
    assert!(now.does("read -P 5 0 1M") && now.does("write -P 6 0 1M"));
    assert!(!old.does("write -P 4 0 1M") && now.does("read -P 6 0 1M"));

    // the same generation again: as an agent that was started anew opens it, or the other end of a migration
    let mut other_end = User::new(&pool.at(6).open("v", false).unwrap());
    assert!(now.does("write -P 7 0 1M") && other_end.does("read -P 7 0 1M"));
}

#[test]
fn a_fence_that_was_begun_is_finished_by_the_next() {
    let server = server!(None);
    let (pool, driver) = (pool(&server), driver(&server));
    pool.status(None).unwrap();
    pool.create("v", &blank(MIB), &Job::default()).unwrap();
    let mut old = User::new(&pool.at(5).open("v", false).unwrap());
    assert!(old.does("write -P 5 0 1M"));
    // killed before anything was done
    let lock = driver.lock("v", false).unwrap();
    driver.note("v", &Notes { fence: 9, restored: 0 }).unwrap();
    drop(lock);
    assert!(User::new(&pool.at(9).open("v", false).unwrap()).does("read -P 5 0 1M"));
    assert!(!old.does("write -P 4 0 1M"));
}

#[test]
fn several_servers_share_without_fencing_each_other() {
    let server = server!(None);
    let pool = pool(&server);
    pool.status(None).unwrap();
    pool.create("v", &crate::New { shared: true, ..blank(MIB) }, &Job::default()).unwrap();
    let (mut one, mut two) = (User::new(&pool.at(1).open("v", true).unwrap()), User::new(&pool.at(2).open("v", true).unwrap()));
    assert!(one.does("write -P 1 0 64k") && two.does("write -P 2 64k 64k") && one.does("read -P 2 64k 64k") && two.does("read -P 1 0 64k"));
}

#[test]
fn hosts_that_find_a_new_pool_at_the_same_time_agree_on_its_mark() {
    let server = server!(None);
    let together = Barrier::new(4);
    let seen = || {
        let pool = pool(&server);
        together.wait();
        pool.status(None).unwrap().mark
    };
    let marks: Vec<String> = std::thread::scope(|s| [0; 4].map(|_| s.spawn(seen)).map(|t| t.join().unwrap()).to_vec());
    assert!(marks.iter().all(|mark| pool(&server).status(Some(mark)).is_ok()), "{marks:?}");
    assert_eq!(fs::read_dir(server.export()).unwrap().count(), 1, "no draft is left");
}

#[test]
fn exports_that_are_not_there_are_said_to_be() {
    let mut server = server!(None);
    let told = |pool: &Pool, mark: Option<&str>| match pool.status(mark).unwrap_err() {
        Error::Pool(text) => text,
        other => panic!("{other}"),
    };
    let elsewhere = Nfs::new(ADDRESS, "/nowhere", UID, UID).unwrap();
    let text = told(&Pool::new(elsewhere, Tools::default()), None);
    assert!(text.contains("/nowhere") && text.contains("cannot be mounted"), "{text}");
    let unknown = Nfs::new("no.such.host.invalid", "/srv", UID, UID).unwrap();
    let text = told(&Pool::new(unknown, Tools::default()), None);
    assert!(text.contains("cannot be resolved"), "{text}");
    assert!(matches!(Nfs::new(ADDRESS, "/srv", 0, 0), Err(Error::Invalid(text)) if text.contains("root")));

    let pool = pool(&server);
    // Not behind the server's back, which remembers for a minute what there is.
    let other = Client::new(ADDRESS, server.export().to_str().unwrap());
    assert!(other.create("letter.txt", 0, 0, 0).unwrap());
    assert!(told(&pool, None).contains("letter.txt"));
    other.remove("letter.txt").unwrap();
    let mark = pool.status(None).unwrap().mark;
    assert!(told(&pool, Some("another")).contains("another pool"));
    pool.create("v", &blank(MIB), &Job::default()).unwrap();

    // it vanishes, and comes back
    let mut user = User::new(&pool.at(1).open("v", false).unwrap());
    assert!(user.does("write -P 3 0 1M"));
    server.end();
    let began = Instant::now();
    assert!(told(&pool, Some(&mark)).contains("no answer"));
    assert!(matches!(pool.create("w", &blank(MIB), &Job::default()), Err(Error::Pool(_))));
    assert!(began.elapsed() < Duration::from_secs(30));
    server.begin();
    assert!(user.does("read -P 3 0 1M"), "a server waits for its disk, and goes on");
    assert!(pool.status(Some(&mark)).is_ok());
    pool.create("w", &blank(MIB), &Job::default()).unwrap();

    // what is exported there now is something else
    assert!(other.rename(MARK, "away").unwrap());
    assert!(told(&pool, Some(&mark)).contains("no mark"));
    assert!(matches!(pool.remove("v"), Err(Error::Pool(_))), "gone with its pool is not removed");
    assert!(other.rename("away", MARK).unwrap());
    assert!(pool.look("v").unwrap().is_some());
}

#[test]
fn a_full_export_is_said_to_be_full_and_loses_nothing() {
    let server = server!(Some(24));
    let pool = pool(&server);
    pool.status(None).unwrap();
    pool.create("v", &blank(2 * MIB), &Job::default()).unwrap();
    write(&pool, "v", 7, 0);
    let image = server.dir_file("image", 64 * MIB);
    let new = crate::New { content: crate::Content::Image { path: image, format: Format::Raw }, ..blank(64 * MIB) };
    let full = pool.create("w", &new, &Job::default()).unwrap_err();
    assert!(matches!(full, Error::Full(_)), "{full}");
    pool.remove("w").unwrap();
    assert!(holds(&pool, "v", 7, 0));
    pool.create("w", &blank(MIB), &Job::default()).unwrap();
}

#[test]
fn what_is_zero_takes_no_room() {
    let server = server!(None);
    let pool = pool(&server);
    pool.status(None).unwrap();
    pool.create("v", &blank(256 * MIB), &Job::default()).unwrap();
    write(&pool, "v", 7, 64 * MIB);
    pool.snapshot("v", "s", &Job::default()).unwrap();
    let file = server.export().join("volumes/v/snap-s");
    let there = fs::metadata(&file).unwrap();
    assert!(there.len() == 256 * MIB && there.blocks() * 512 < 4 * MIB, "{}", there.blocks());
    assert_eq!((there.uid(), there.mode() & 0o777), (UID, 0o600));
}

#[test]
fn a_lock_of_somebody_who_is_gone_runs_out() {
    let server = server!(None);
    let (pool, driver) = (pool(&server), driver(&server));
    pool.status(None).unwrap();
    pool.create("v", &blank(MIB), &Job::default()).unwrap();
    let left = server.export().join("locks/v.w.of-a-host-that-died");
    fs::write(&left, "").unwrap();
    assert!(matches!(driver.lock("v", false), Err(Error::Busy(_))));
    assert!(matches!(driver.lock("v", true), Err(Error::Busy(_))));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let long_ago = nfstime3 { seconds: now.as_secs() as u32 - 61, nseconds: 0 };
    let aged = sattr3 { mtime: set_mtime::SET_TO_CLIENT_TIME(long_ago), ..sattr3::default() };
    let path = "locks/v.w.of-a-host-that-died";
    assert!(Client::new(ADDRESS, server.export().to_str().unwrap()).set(path, &aged).unwrap());
    drop(driver.lock("v", false).unwrap());
    assert!(!left.exists());
    let readers = (driver.lock("v", true).unwrap(), driver.lock("v", true).unwrap());
    assert!(matches!(driver.lock("v", false), Err(Error::Busy(_))));
    drop(readers);
    drop(driver.lock("v", false).unwrap());
}
