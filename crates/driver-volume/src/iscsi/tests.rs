use std::io::Write;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use super::*;
use crate::conformance::{self, User, blank, holds};
use crate::{Error, Job, Luks, New, Spot};

const MIB: u64 = 1 << 20;

struct Bed {
    _dir: tempfile::TempDir,
    iscsi: Iscsi,
    /// On the host that serves.
    here: Pool,
    /// On another.
    there: Pool,
}

macro_rules! bed {
    () => {
        match Bed::new() {
            Some(bed) => bed,
            None => return,
        }
    };
}

fn pool(driver: Box<dyn Driver>) -> Pool {
    Pool::of(driver.into(), Tools::default())
}

impl Bed {
    /// In a network of its own.
    fn new() -> Option<Bed> {
        // SAFETY: no arguments.
        let root = unsafe { libc::geteuid() } == 0;
        if !root || !Path::new("/usr/sbin/tgtd").exists() || !Path::new("/usr/lib/x86_64-linux-gnu/qemu/block-iscsi.so").exists() {
            let _ = writeln!(std::io::stderr(), "SKIPPED: everything about iSCSI: needs root, tgt and qemu-block-extra");
            return None;
        }
        // SAFETY: only this thread, and what it starts, changes its namespace.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0);
        assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
        static PORT: AtomicU16 = AtomicU16::new(3260);
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let iscsi = Iscsi {
            portal: format!("127.0.0.1:{}", PORT.fetch_add(1, Ordering::Relaxed)),
            iqn: "iqn.2026-01.test:pool".into(),
            dir: dir.path().join("pool"),
            user: "unkai".into(),
            password: "not-for-command-lines".into(),
        };
        let here = pool(iscsi.driver(Tools::default()).unwrap());
        here.status(None).unwrap();
        // From the second look on it answers others.
        let here_again = pool(iscsi.driver(Tools::default()).unwrap());
        let there = pool(Box::new(iscsi.remote()));
        Some(Bed { _dir: dir, iscsi, here: here_again, there })
    }

    fn targets(&self) -> Vec<String> {
        self.iscsi.serving(&Tools::default()).unwrap().tgt.targets().unwrap().into_iter().map(|target| target.name).collect()
    }
}

impl Iscsi {
    fn remote(&self) -> Remote {
        Remote::new(self.initiator(&Tools::default()).unwrap())
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.iscsi.serving(&Tools::default()).unwrap().tgt.stop().unwrap();
    }
}

#[test]
fn the_host_that_serves_does_what_every_kind_of_storage_does() {
    let bed = bed!();
    conformance::all(&bed.here, &bed.iscsi.serving(&Tools::default()).unwrap());
    assert_eq!(bed.targets(), ["iqn.2026-01.test:pool::control"], "nothing is left");
}

#[test]
fn any_other_host_does_too() {
    let bed = bed!();
    conformance::all(&bed.there, &bed.iscsi.remote());
    assert_eq!(bed.targets(), ["iqn.2026-01.test:pool::control"], "nothing is left");
}

#[test]
fn a_server_of_an_older_generation_writes_no_more() {
    let bed = bed!();
    let job = Job::default();
    bed.there.create("v", &blank(4 * MIB), &job).unwrap();
    let told = bed.there.at(5).open("v", false).unwrap();
    let mut old = User::new(&told);
    assert!(old.does("write -P 5 0 1M"));
    // what cannot be done behind a server's back waits for it
    for pool in [&bed.here, &bed.there] {
        let pool = pool.at(5);
        for refused in [pool.grow("v", 8 * MIB, false), pool.snapshot("v", "s", &job), pool.remove("v")] {
            assert!(matches!(&refused, Err(Error::Busy(_))), "{refused:?}");
        }
    }

    let new = bed.here.at(6).open("v", false).unwrap();
    assert!(!old.does("write -P 4 0 1M"));
    let late = conformance::qemu_io(&told, &["write -P 4 0 1M".into()]).unwrap_err().to_string();
    assert!(late.contains("Target not found") || late.contains("Failed to log in"), "{late}");
    let mut server = User::new(&new);
    assert!(server.does("read -P 5 0 1M") && server.does("write -P 6 0 1M"));
    assert!(matches!(bed.there.at(5).open("v", false), Err(Error::Fenced { newest: 6, .. })));

    // the same generation from the other host: the other end of a migration
    let mut other_end = User::new(&bed.there.at(6).open("v", false).unwrap());
    assert!(other_end.does("read -P 6 0 1M") && server.does("write -P 7 0 1M") && other_end.does("read -P 7 0 1M"));
    drop((server, other_end));
    let deadline = Instant::now() + Duration::from_secs(10);
    while let Err(error) = bed.there.at(6).snapshot("v", "s", &job) {
        assert!(matches!(error, Error::Busy(_)) && Instant::now() < deadline, "{error}");
    }
    bed.there.at(6).grow("v", 8 * MIB, false).unwrap();
    let mut server = User::new(&bed.there.at(7).open("v", false).unwrap());
    assert!(server.does("write -P 8 7M 1M") && server.does("read -P 7 0 1M"), "it is as long as it was made");
    assert!(!old.does("write -P 4 0 1M") && server.does("read -P 7 0 1M"));
}

#[test]
fn a_server_finds_its_volume_again_when_the_target_was_started_anew() {
    let bed = bed!();
    bed.here.create("v", &blank(4 * MIB), &Job::default()).unwrap();
    let mut server = User::new(&bed.there.at(3).open("v", false).unwrap());
    assert!(server.does("write -P 1 0 1M"));
    bed.iscsi.serving(&Tools::default()).unwrap().tgt.stop().unwrap();
    bed.here.status(None).unwrap();
    assert!(server.does("read -P 1 0 1M") && server.does("write -P 2 0 1M"));
    assert!(holds(&bed.here, "v", 2, 0));
}

#[test]
fn servers_that_share_do_not_fence_each_other_and_nobody_gets_in_without_the_password() {
    let bed = bed!();
    bed.there.create("v", &New { shared: true, ..blank(MIB) }, &Job::default()).unwrap();
    let mut one = User::new(&bed.here.at(5).open("v", true).unwrap());
    let mut two = User::new(&bed.there.at(6).open("v", true).unwrap());
    assert!(one.does("write -P 1 0 64k") && two.does("write -P 2 64k 64k") && one.does("read -P 2 64k 64k"));

    let stranger = Iscsi { password: "guessed-by-somebody".into(), ..bed.iscsi.clone() };
    assert!(matches!(pool(Box::new(stranger.remote())).status(None), Err(Error::Pool(_))));
    let image = stranger.initiator(&Tools::default()).unwrap().image("v", "iqn.2026-01.test:pool:v:all");
    assert!(conformance::qemu_io(&image, &["read 0 512".into()]).is_err());
    let away = Iscsi { portal: "127.0.0.1:9".into(), ..bed.iscsi.clone() };
    assert!(matches!(pool(Box::new(away.remote())).status(None), Err(Error::Pool(_))));

    let shown = Command::new("sh").args(["-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"]).output().unwrap().stdout;
    let shown = String::from_utf8_lossy(&shown);
    assert!(shown.contains("tgtd") && !shown.contains("not-for-command-lines"));
}

#[test]
fn a_server_of_another_host_is_copied_while_it_writes() {
    // Its QEMU copies into a draft that the serving host lets it in to.
    let bed = bed!();
    let pool = bed.there.at(3);
    pool.create("v", &blank(4 * MIB), &Job::default()).unwrap();
    let _server = User::new(&pool.open("v", false).unwrap());
    let (target, lock) = pool.begin_copy("v", "s").unwrap();
    conformance::qemu_io(&target, &["write -P 9 0 1M".into(), "flush".into()]).unwrap();
    assert!(matches!(bed.here.at(3).delete_snapshot("v", "s"), Err(Error::Busy(_))), "one works on it at a time");
    pool.finish_copy("v", "s", lock).unwrap();
    let luks: Option<Luks> = None;
    let copy = New { content: crate::Content::Copy { from: Spot::snapshot("v", "s"), luks: luks.clone() }, luks, ..blank(4 * MIB) };
    pool.create("w", &copy, &Job::default()).unwrap();
    assert!(holds(&bed.here, "w", 9, 0));
}
