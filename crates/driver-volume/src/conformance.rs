//! What every kind of storage does alike, told once. Each part removes what it made.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use unkai_model::volume::Backend;

use crate::image::{Image, Storage};
use crate::tool::Run;
use crate::{Content, Driver, Error, Files, Format, Job, Luks, New, Pool, Repository, Result, Spot, Tools};

const MIB: u64 = 1 << 20;

pub fn all(pool: &Pool, driver: &dyn Driver) {
    volumes_are_made_grown_and_removed(pool);
    what_several_write_stays_so(pool);
    older_generations_are_refused(pool);
    one_works_on_a_volume_at_a_time(pool, driver);
    contents_are_those_of_images(pool);
    snapshots_and_copies_keep_what_was(pool);
    contents_are_put_back(pool);
    backups_come_back(pool);
    what_is_encrypted_stays_so(pool);
}

pub fn blank(bytes: u64) -> New {
    New { bytes, shared: false, content: Content::Blank, luks: None }
}

pub fn copy_of(from: Spot, bytes: u64) -> New {
    New { content: Content::Copy { from, luks: None }, ..blank(bytes) }
}

/// Commands of `qemu-io` on an image, which takes its locks as a server's QEMU does. A child of another test holds what was open while it
/// was forked, for a moment.
pub fn qemu_io(image: &Image, commands: &[String]) -> Result<()> {
    let mut tries = 0;
    loop {
        match qemu_io_once(image, commands) {
            Err(Error::Busy(_)) if tries < 20 => tries += 1,
            other => return other,
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

fn qemu_io_once(image: &Image, commands: &[String]) -> Result<()> {
    let tools = Tools::default();
    let mut run = Run::program(&tools, Path::new("/usr/bin/qemu-io"));
    let node = run.open(image, true)?;
    for command in commands {
        run.args(["-c", command]);
    }
    run.arg(format!("json:{node}"));
    let said = String::from_utf8_lossy(&run.go(&Job::default())?).into_owned();
    // it ends well when a read finds something else
    if said.contains("failed") { Err(Error::Invalid(said)) } else { Ok(()) }
}

pub fn write(pool: &Pool, volume: &str, pattern: u8, at: u64) {
    let image = pool.peek(volume).unwrap();
    qemu_io(&image, &[format!("write -P {pattern} {at} {MIB}"), "flush".into()]).unwrap();
}

pub fn holds(pool: &Pool, volume: &str, pattern: u8, at: u64) -> bool {
    let image = pool.peek(volume).unwrap();
    qemu_io(&image, &[format!("read -P {pattern} {at} {MIB}")]).is_ok()
}

/// A server's QEMU, as far as the storage is concerned: it has the image open, and goes on.
pub struct User {
    child: Child,
    said: Receiver<String>,
}

impl User {
    pub fn new(image: &Image) -> User {
        let Storage::Node { node, secrets } = &image.storage else { panic!("not reached by a client of QEMU's own") };
        let mut command = Command::new("stdbuf");
        command.args(["-oL", "qemu-io"]);
        let keys = tempfile::tempdir().unwrap();
        for secret in secrets {
            fs::write(keys.path().join(&secret.id), &secret.value).unwrap();
            command.args(["--object", &format!("secret,id={},file={}", secret.id, keys.path().join(&secret.id).display())]);
        }
        command.arg(format!("json:{}", image.over(node.clone())));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (tell, said) = channel();
        std::thread::spawn(move || out.lines().map_while(|line| line.ok()).all(|line| tell.send(line).is_ok()));
        let mut user = User { child, said };
        assert!(user.does("read 0 512"), "it opens the image");
        user
    }

    /// Whether it worked. Not to be answered at all is not to work.
    pub fn does(&mut self, command: &str) -> bool {
        writeln!(self.child.stdin.as_mut().unwrap(), "{command}").unwrap();
        while let Ok(line) = self.said.recv_timeout(Duration::from_secs(10)) {
            if line.contains("failed") || line.contains("bytes at offset") {
                return line.contains("bytes at offset");
            }
        }
        false
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn bytes(pool: &Pool, volume: &str) -> Option<u64> {
    pool.look(volume).unwrap().unwrap().bytes
}

fn volumes_are_made_grown_and_removed(pool: &Pool) {
    assert_eq!(pool.look("v").unwrap(), None);
    pool.create("v", &blank(MIB), &Job::default()).unwrap();
    pool.create("v", &blank(5 * MIB), &Job::default()).unwrap();
    assert_eq!(bytes(pool, "v"), Some(MIB), "made once");
    write(pool, "v", 3, 0);
    pool.grow("v", 3 * MIB, false).unwrap();
    pool.grow("v", 2 * MIB, false).unwrap();
    assert_eq!(bytes(pool, "v"), Some(3 * MIB), "never shrinks");
    assert!(holds(pool, "v", 3, 0) && holds(pool, "v", 0, 2 * MIB));
    pool.remove("v").unwrap();
    pool.remove("v").unwrap();
    assert_eq!(pool.look("v").unwrap(), None);
    assert!(matches!(pool.at(9).open("v", false), Err(Error::Missing(_))));
    assert!(matches!(pool.peek("v"), Err(Error::Missing(_))));
    assert_eq!(pool.look("v").unwrap(), None, "to be asked for leaves no trace");
    let orphan = copy_of(Spot::snapshot("none", "s"), MIB);
    assert!(matches!(pool.create("v", &orphan, &Job::default()), Err(Error::Missing(_))));
    pool.remove("v").unwrap();
    for name in ["", "../x", ".hidden", "a/b", "-v", "a@b"] {
        assert!(matches!(pool.look(name), Err(Error::Invalid(_))), "{name}");
    }
}

fn what_several_write_stays_so(pool: &Pool) {
    let job = Job::default();
    pool.create("v", &New { shared: true, ..blank(MIB) }, &job).unwrap();
    assert!(pool.is_shared("v").unwrap());
    pool.grow("v", 2 * MIB, false).unwrap();
    pool.snapshot("v", "s", &job).unwrap();
    let found = pool.look("v").unwrap().unwrap();
    assert_eq!((found.bytes, found.snapshots["s"]), (Some(2 * MIB), 2 * MIB));
    // a copy that only one may write, from one that several may
    pool.create("w", &copy_of(Spot::snapshot("v", "s"), 3 * MIB), &job).unwrap();
    assert!(!pool.is_shared("w").unwrap());
    assert_eq!(bytes(pool, "w"), Some(3 * MIB));
    pool.revert("v", "s", 1, &job).unwrap();
    assert!(pool.is_shared("v").unwrap());
    pool.delete_snapshot("v", "s").unwrap();
    assert!(pool.look("v").unwrap().unwrap().snapshots.is_empty());
    pool.remove("v").unwrap();
    pool.remove("w").unwrap();
}

fn older_generations_are_refused(pool: &Pool) {
    let job = Job::default();
    pool.create("v", &blank(MIB), &job).unwrap();
    for generation in [4, 4, 7] {
        pool.at(generation).open("v", false).unwrap();
    }
    let old = pool.at(6);
    let refused = old.open("v", false).unwrap_err();
    assert!(matches!(refused, Error::Fenced { asked: 6, newest: 7, .. }) && !refused.passes(), "{refused}");
    for refused in [
        old.grow("v", 2 * MIB, false),
        old.snapshot("v", "s", &job),
        old.begin_copy("v", "s").map(drop),
        old.delete_snapshot("v", "s"),
        old.revert("v", "s", 1, &job),
        old.remove("v"),
    ] {
        assert!(matches!(refused, Err(Error::Fenced { .. })), "{refused:?}");
    }
    assert!(old.open("v", true).is_ok(), "those who share do not fence each other");
    assert!(matches!(pool.at(9).open("w", false), Err(Error::Missing(_))));
    assert_eq!(pool.look("w").unwrap(), None);
    write(pool, "v", 7, 0);
    pool.at(7).remove("v").unwrap();
}

fn one_works_on_a_volume_at_a_time(pool: &Pool, driver: &dyn Driver) {
    pool.create("v", &blank(MIB), &Job::default()).unwrap();
    let reader = driver.lock("v", true).unwrap();
    let another = driver.lock("v", true).unwrap();
    assert!(matches!(pool.grow("v", 2 * MIB, false), Err(Error::Busy(_))));
    drop((reader, another));
    let worker = driver.lock("v", false).unwrap();
    assert!(matches!(driver.lock("v", true), Err(Error::Busy(_))));
    drop(worker);
    pool.grow("v", 2 * MIB, false).unwrap();
    assert!(matches!(driver.lock("w", true), Err(Error::Missing(_))));
    pool.remove("v").unwrap();
}

fn contents_are_those_of_images(pool: &Pool) {
    let temp = tempfile::tempdir_in("/var/tmp").unwrap();
    let path = temp.path().join("image");
    let tools = Tools::default();
    let mut run = Run::qemu_img(&tools, "create");
    let file = crate::create_file(&path).unwrap();
    tools.give(&file, &path).unwrap();
    let target = format!("/proc/self/fd/{}", run.hand(&file).unwrap());
    run.args(["-q", "-f", "qcow2", &target, "4M"]);
    run.go(&Job::default()).unwrap();
    qemu_io(&Image::file(&path, Format::Qcow2), &[format!("write -P 9 {MIB} {MIB}")]).unwrap();
    let new = New { content: Content::Image { path: path.clone(), format: Format::Qcow2 }, ..blank(8 * MIB) };
    pool.create("v", &new, &Job::default()).unwrap();
    assert!(holds(pool, "v", 0, 0) && holds(pool, "v", 9, MIB) && holds(pool, "v", 0, 7 * MIB));

    let out = temp.path().join("out");
    pool.export(&Spot::data("v"), None, &crate::create_file(&out).unwrap(), "raw", &Job::default()).unwrap();
    let content = fs::read(&out).unwrap();
    assert_eq!(content.len() as u64, 8 * MIB);
    assert!(content[MIB as usize..2 * MIB as usize].iter().all(|byte| *byte == 9) && content[..MIB as usize].iter().all(|byte| *byte == 0));
    let stopped = Job::default();
    stopped.stop();
    assert!(matches!(pool.create("w", &new, &stopped), Err(Error::Stopped)));
    assert!(pool.look("w").unwrap().is_none_or(|found| found.bytes.is_none()));
    pool.create("w", &new, &Job::default()).unwrap();
    assert!(holds(pool, "w", 9, MIB), "what was begun is begun anew");
    pool.remove("v").unwrap();
    pool.remove("w").unwrap();
}

fn snapshots_and_copies_keep_what_was(pool: &Pool) {
    let job = Job::default();
    pool.create("v", &blank(4 * MIB), &job).unwrap();
    write(pool, "v", 1, 0);
    pool.snapshot("v", "one", &job).unwrap();
    pool.snapshot("v", "one", &job).unwrap();
    write(pool, "v", 2, 0);
    pool.create("old", &copy_of(Spot::snapshot("v", "one"), 4 * MIB), &job).unwrap();
    pool.create("now", &copy_of(Spot::data("v"), 6 * MIB), &job).unwrap();
    assert!(holds(pool, "old", 1, 0) && holds(pool, "now", 2, 0) && holds(pool, "now", 0, 5 * MIB));
    write(pool, "old", 3, 0);
    write(pool, "v", 4, 0);
    assert!(holds(pool, "v", 4, 0) && holds(pool, "now", 2, 0) && holds(pool, "old", 3, 0), "nothing is shared that is written");
    pool.create("copy-of-copy", &copy_of(Spot::data("old"), 4 * MIB), &job).unwrap();

    // in the order in which users delete: what others came from goes first
    pool.delete_snapshot("v", "one").unwrap();
    pool.delete_snapshot("v", "one").unwrap();
    pool.remove("v").unwrap();
    assert_eq!(pool.look("v").unwrap(), None);
    assert!(holds(pool, "now", 2, 0));
    pool.remove("old").unwrap();
    assert!(holds(pool, "copy-of-copy", 3, 0));
    pool.create("v", &blank(MIB), &job).unwrap();
    assert!(holds(pool, "v", 0, 0), "a name may come back, nothing else does");
    for volume in ["v", "now", "copy-of-copy"] {
        pool.remove(volume).unwrap();
    }
}

fn contents_are_put_back(pool: &Pool) {
    let job = Job::default();
    pool.create("v", &blank(MIB), &job).unwrap();
    write(pool, "v", 1, 0);
    pool.snapshot("v", "one", &job).unwrap();
    pool.grow("v", 2 * MIB, false).unwrap();
    write(pool, "v", 2, 0);
    pool.snapshot("v", "two", &job).unwrap();
    write(pool, "v", 3, 0);
    pool.revert("v", "one", 1, &job).unwrap();
    assert!(holds(pool, "v", 1, 0) && holds(pool, "v", 0, MIB));
    let found = pool.look("v").unwrap().unwrap();
    assert_eq!((found.bytes, found.notes.restored), (Some(2 * MIB), 1), "never shrinks");
    assert_eq!(found.snapshots.into_iter().collect::<Vec<_>>(), [("one".to_owned(), MIB), ("two".to_owned(), 2 * MIB)]);
    write(pool, "v", 4, 0);
    pool.revert("v", "one", 1, &job).unwrap();
    assert!(holds(pool, "v", 4, 0), "done once");
    pool.snapshot("v", "three", &job).unwrap();
    pool.revert("v", "two", 2, &job).unwrap();
    assert!(holds(pool, "v", 2, 0));
    pool.revert("v", "three", 3, &job).unwrap();
    assert!(holds(pool, "v", 4, 0));
    assert!(matches!(pool.revert("v", "none", 4, &job), Err(Error::Missing(_))));
    for snapshot in ["one", "three", "two"] {
        pool.delete_snapshot("v", snapshot).unwrap();
    }
    assert!(holds(pool, "v", 4, 0));
    assert!(pool.look("v").unwrap().unwrap().snapshots.is_empty());
    pool.remove("v").unwrap();
}

fn backups_come_back(pool: &Pool) {
    let temp = tempfile::tempdir_in("/var/tmp").unwrap();
    let kept = temp.path().join("kept");
    Pool::new(Files::new(&kept, Tools::default()), Tools::default()).status(None).unwrap();
    let repository = Repository::of(&Backend::Files { dir: kept }).unwrap();
    let job = Job::default();
    pool.create("v", &blank(4 * MIB), &job).unwrap();
    write(pool, "v", 1, 0);
    pool.backup(&Spot::data("v"), &repository, "full", None, &job).unwrap();
    write(pool, "v", 2, MIB);
    pool.snapshot("v", "s", &job).unwrap();
    pool.backup(&Spot::snapshot("v", "s"), &repository, "more", Some("full"), &job).unwrap();
    write(pool, "v", 3, 0);
    pool.restore("v", &repository, "full", 1, &job).unwrap();
    assert!(holds(pool, "v", 1, 0) && holds(pool, "v", 0, MIB));
    assert!(pool.look("v").unwrap().unwrap().snapshots.contains_key("s"), "snapshots stay");
    let new = New { content: Content::Backup { repository: repository.clone(), backup: "more".into() }, ..blank(5 * MIB) };
    pool.create("w", &new, &job).unwrap();
    assert!(holds(pool, "w", 1, 0) && holds(pool, "w", 2, MIB) && holds(pool, "w", 0, 4 * MIB));
    pool.remove("v").unwrap();
    pool.remove("w").unwrap();
}

fn what_is_encrypted_stays_so(pool: &Pool) {
    let key = |passphrase: &str| Luks { cipher: "aes-256".into(), mode: "xts".into(), passphrase: passphrase.into() };
    let (job, temp) = (Job::default(), tempfile::tempdir_in("/var/tmp").unwrap());
    let path = temp.path().join("image");
    fs::write(&path, vec![5; MIB as usize]).unwrap();
    let content = Content::Image { path, format: Format::Raw };
    pool.create("v", &New { content, luks: Some(key("first")), ..blank(2 * MIB) }, &job).unwrap();
    assert!(bytes(pool, "v").unwrap() > 2 * MIB, "a container has a header");
    pool.snapshot("v", "s", &job).unwrap();
    let copy = |luks| New { content: Content::Copy { from: Spot::snapshot("v", "s"), luks: Some(key("first")) }, luks, ..blank(2 * MIB) };
    pool.create("same", &copy(Some(key("first"))), &job).unwrap();
    pool.create("other", &copy(Some(key("second"))), &job).unwrap();
    pool.create("plain", &copy(None), &job).unwrap();
    let read = |volume: &str, luks: Option<Luks>| {
        let out = temp.path().join("out");
        pool.export(&Spot::data(volume), luks.as_ref(), &crate::create_file(&out).unwrap(), "raw", &job)?;
        let content = fs::read(&out).unwrap();
        // The driver takes all sizes for whole GiB, so the same container may come out longer.
        Ok::<_, Error>(content.len() as u64 >= 2 * MIB && content[..MIB as usize].iter().all(|byte| *byte == 5))
    };
    for (volume, luks) in [("v", Some("first")), ("same", Some("first")), ("other", Some("second")), ("plain", None)] {
        assert!(read(volume, luks.map(key)).unwrap(), "{volume}");
    }
    assert!(read("v", Some(key("wrong"))).is_err() && !read("v", None).unwrap());
    for volume in ["v", "same", "other", "plain"] {
        pool.remove(volume).unwrap();
    }
}
