use std::time::{Duration, Instant};

use super::cluster::{Cluster as Ceph, cluster};
use super::*;
use crate::Pool;
use crate::conformance::{self, User, blank, copy_of, holds, qemu_io, write};

const MIB: u64 = 1 << 20;

struct Bed {
    ceph: &'static Ceph,
    name: String,
    user: String,
    key: String,
    pool: Pool,
}

macro_rules! bed {
    () => {
        match Bed::new() {
            Some(bed) => bed,
            None => return,
        }
    };
}

impl Bed {
    fn new() -> Option<Bed> {
        let ceph = cluster()?;
        let (name, user, key) = ceph.pool();
        let pool = Pool::new(driver(ceph, &name, &user, &key), Tools::default());
        // Of a pool that was just made Ceph says nothing for some seconds.
        let deadline = Instant::now() + Duration::from_secs(30);
        while let Err(error) = pool.status(None) {
            assert!(Instant::now() < deadline && matches!(error, Error::Pool(_)), "{error}");
            std::thread::sleep(Duration::from_millis(300));
        }
        Some(Bed { ceph, name, user, key, pool })
    }

    fn driver(&self) -> Rbd {
        driver(self.ceph, &self.name, &self.user, &self.key)
    }

    fn rbd(&self, args: &[&str]) -> String {
        let mut all = vec!["--pool", self.name.as_str()];
        all.extend(args);
        self.ceph.admin("rbd", &all)
    }

    fn image(&self, volume: &str) -> String {
        self.driver().record(volume).unwrap().data.unwrap()
    }
}

fn driver(ceph: &Ceph, pool: &str, user: &str, key: &str) -> Rbd {
    Rbd::new(&[ceph.get("CEPH_MONITOR").to_owned()], pool, user, key, Tools::default()).unwrap()
}

#[test]
fn rbd_does_what_every_kind_of_storage_does() {
    let bed = bed!();
    conformance::all(&bed.pool, &bed.driver());
    assert_eq!(bed.rbd(&["ls"]), "", "nothing is left");
    assert_eq!(bed.rbd(&["trash", "ls"]), "");
    let objects = bed.ceph.admin("rados", &["-p", &bed.name, "ls"]);
    let ours: Vec<_> = objects.lines().filter(|object| object.starts_with("unkai.") || object.starts_with("rbd_data")).collect();
    // A place for a lock, made by asking for what is not there, is all that may stay.
    assert!(ours.iter().all(|object| ["unkai.v", "unkai.w", "unkai.none"].contains(object)), "{ours:?}");
}

#[test]
fn a_server_of_an_older_generation_writes_no_more() {
    let bed = bed!();
    let job = Job::default();
    bed.pool.create("v", &blank(4 * MIB), &job).unwrap();
    let told = bed.pool.at(5).open("v", false).unwrap();
    let mut old = User::new(&told);
    let mut idle = User::new(&told);
    assert!(old.does("write -P 5 0 1M"));

    let new = bed.pool.at(6).open("v", false).unwrap();
    for command in ["write -P 4 0 1M", "read 0 1M", "write -P 4 2M 1M"] {
        assert!(!old.does(command), "{command}");
    }
    assert!(!idle.does("write -P 4 0 1M"), "it has not written before");
    let late = qemu_io(&told, &["write -P 4 0 1M".into()]).unwrap_err();
    assert!(late.to_string().contains("No such file"), "{late}");

    let mut server = User::new(&new);
    assert!(server.does("read -P 5 0 1M"), "what was written before is there");
    assert!(server.does("write -P 6 0 1M") && server.does("read -P 6 0 1M"));
    assert!(!old.does("write -P 4 0 1M"));
    assert!(server.does("read -P 6 0 1M"));

    // the same generation again: as an agent that was started anew opens it, or the other end of a migration
    bed.pool.at(6).open("v", false).unwrap();
    assert!(server.does("write -P 7 0 1M"));
    let mut other_end = User::new(&bed.pool.at(6).open("v", false).unwrap());
    assert!(other_end.does("read -P 7 0 1M"));
    drop((server, other_end));
}

#[test]
fn a_fence_that_was_begun_is_finished_by_the_next() {
    let bed = bed!();
    bed.pool.create("v", &blank(MIB), &Job::default()).unwrap();
    let told = bed.pool.at(5).open("v", false).unwrap();
    let mut old = User::new(&told);
    assert!(old.does("write -P 5 0 1M"));
    // killed before anything was done
    let driver = bed.driver();
    let lock = driver.lock("v", false).unwrap();
    driver.note("v", &Notes { fence: 9, restored: 0 }).unwrap();
    drop(lock);
    assert!(matches!(bed.pool.at(5).open("v", false), Err(Error::Fenced { newest: 9, .. })));
    assert!(!old.does("write -P 4 0 1M"));
    // killed between the renaming and its note
    let lock = driver.lock("v", false).unwrap();
    driver.note("v", &Notes { fence: 10, restored: 0 }).unwrap();
    let record = driver.record("v").unwrap();
    fence::rename(&driver.cluster, record.data.as_ref().unwrap(), record.renaming.as_ref().unwrap()).unwrap();
    assert_eq!(driver.look("v").unwrap().unwrap().bytes, Some(MIB));
    drop(lock);
    assert!(holds(&bed.pool.at(10), "v", 5, 0));
    bed.pool.at(10).remove("v").unwrap();
    assert_eq!(bed.rbd(&["ls"]), "");
}

#[test]
fn servers_that_share_do_not_fence_each_other() {
    let bed = bed!();
    bed.pool.create("v", &crate::New { shared: true, ..blank(MIB) }, &Job::default()).unwrap();
    let mut one = User::new(&bed.pool.at(5).open("v", true).unwrap());
    let mut two = User::new(&bed.pool.at(6).open("v", true).unwrap());
    assert!(one.does("write -P 1 0 64k") && two.does("write -P 2 64k 64k") && one.does("write -P 3 128k 64k"));
    bed.pool.at(7).snapshot("v", "s", &Job::default()).unwrap();
    assert!(one.does("read -P 2 64k 64k") && one.does("write -P 4 0 64k") && two.does("read -P 4 0 64k"));
}

#[test]
fn snapshots_are_taken_and_copies_made_while_a_server_writes() {
    let bed = bed!();
    let job = Job::default();
    let pool = bed.pool.at(5);
    pool.create("v", &blank(4 * MIB), &job).unwrap();
    let mut server = User::new(&pool.open("v", false).unwrap());
    assert!(server.does("write -P 1 0 1M"));
    pool.snapshot("v", "s", &job).unwrap();
    assert!(server.does("write -P 2 0 1M"));
    pool.create("w", &copy_of(Spot::data("v"), 4 * MIB), &job).unwrap();
    assert!(server.does("write -P 3 0 1M"));
    pool.create("x", &copy_of(Spot::snapshot("v", "s"), 4 * MIB), &job).unwrap();
    assert!(holds(&pool, "w", 2, 0) && holds(&pool, "x", 1, 0));
    assert!(server.does("read -P 3 0 1M"));
    let names = bed.rbd(&["snap", "ls", &bed.image("v")]);
    assert!(names.contains(" s ") && !names.contains('+'), "what was borrowed is given back: {names}");
    // what cannot be done behind a server's back waits for it
    for refused in [pool.grow("v", 8 * MIB, false), pool.revert("v", "s", 1, &job), pool.remove("v")] {
        assert!(matches!(&refused, Err(Error::Busy(_))), "{refused:?}");
    }
}

#[test]
fn long_chains_of_copies_end() {
    let bed = bed!();
    let job = Job::default();
    bed.pool.create("c0", &blank(MIB), &job).unwrap();
    write(&bed.pool, "c0", 8, 0);
    for n in 1..8 {
        bed.pool.create(&format!("c{n}"), &copy_of(Spot::data(&format!("c{}", n - 1)), MIB), &job).unwrap();
    }
    let driver = bed.driver();
    let depths: Vec<_> = (0..8).map(|n| images::depth(&driver.cluster, &bed.image(&format!("c{n}"))).unwrap()).collect();
    assert_eq!(depths, [0, 1, 2, 3, 4, 5, 0, 1]);
    assert!((0..8).all(|n| holds(&bed.pool, &format!("c{n}"), 8, 0)));
    for n in 0..8 {
        bed.pool.remove(&format!("c{n}")).unwrap();
    }
    // What has clones waits for them: each round takes the ends away.
    for _ in 0..3 {
        images::reap(&driver.cluster).unwrap();
    }
    assert_eq!(bed.rbd(&["trash", "ls"]), "");
}

#[test]
fn pools_that_are_not_there_are_said_to_be() {
    let bed = bed!();
    let status = bed.pool.status(None).unwrap();
    assert!(status.free > 0 && status.total >= status.free);
    assert!(bed.pool.status(Some(&status.mark)).is_ok());
    assert!(matches!(bed.pool.status(Some("another")), Err(Error::Pool(text)) if text.contains("another pool")));
    let status = |driver: Rbd| Pool::new(driver, Tools::default()).status(None);
    let refused = |driver: Rbd| match status(driver) {
        Err(Error::Pool(text)) => text,
        other => panic!("{other:?}"),
    };
    let wrong = refused(driver(bed.ceph, &bed.name, &bed.user, "AQDiIAhrEYpDABAAxKfm+/cLnz5uMEOfrVUUhQ=="));
    assert!(!wrong.contains("AQDiIAhr"), "{wrong}");
    refused(driver(bed.ceph, "none", &bed.user, &bed.key));
    refused(driver(bed.ceph, &bed.name, "nobody", &bed.key));
    let (other, user, key) = bed.ceph.pool();
    bed.ceph.admin("rbd", &["--pool", &other, "create", "theirs", "--size", "1M"]);
    assert!(refused(driver(bed.ceph, &other, &user, &key)).contains("theirs"));
    let nobody = Rbd::new(&["10.77.0.1:9".to_owned()], &bed.name, &bed.user, &bed.key, Tools::default()).unwrap();
    refused(nobody);
}

#[test]
fn no_command_line_shows_the_key() {
    let cluster = Cluster::new(&["10.0.0.1".into()], "p", "u", "c2VjcmV0a2V5", Tools::default()).unwrap();
    let image = cluster.image("v", "v.1", None);
    let temp = tempfile::tempdir_in("/var/tmp").unwrap();
    let tell = temp.path().join("tell");
    std::fs::write(&tell, "#!/bin/sh\ntr '\\0' ' ' < /proc/$$/cmdline; env\n").unwrap();
    for path in [temp.path(), &tell] {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let tools = Tools::default();
    let mut run = crate::tool::Run::program(&tools, &tell);
    let node = run.open(&image, true).unwrap();
    run.arg(node.to_string());
    let said = String::from_utf8(run.go(&Job::default()).unwrap()).unwrap();
    assert!(said.contains("key-secret"), "{said}");
    for secret in ["c2VjcmV0a2V5", "secretkey"] {
        assert!(!said.contains(secret) && !node.to_string().contains(secret) && !format!("{image:?}").contains(secret), "{said}");
    }
}
