use super::*;
use crate::{Content, New, Pool};

const MIB: u64 = 1 << 20;

struct Bed {
    dir: tempfile::TempDir,
    pool: Pool,
}

fn bed() -> Bed {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let pool = Pool::new(Files::new(dir.path().join("pool"), Tools::default()), Tools::default());
    pool.status(None).unwrap();
    Bed { dir, pool }
}

fn blank(bytes: u64) -> New {
    New { bytes, shared: false, content: Content::Blank, luks: None }
}

#[test]
fn an_empty_directory_becomes_a_pool_once_and_a_vanished_one_none() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("a/pool");
    let pool = Pool::new(Files::new(&dir, Tools::default()), Tools::default());
    assert!(matches!(pool.look("v"), Err(Error::Pool(_))), "nothing is looked for where no pool is");
    let first = pool.status(None).unwrap();
    assert!(first.total > 0 && pool.status(Some(&first.mark)).is_ok());
    assert!(matches!(pool.status(Some("another")), Err(Error::Pool(text)) if text.contains("another pool")));

    // unmounted: the directory below is empty
    fs::rename(&dir, temp.path().join("away")).unwrap();
    fs::create_dir(&dir).unwrap();
    assert!(matches!(pool.status(Some(&first.mark)), Err(Error::Pool(text)) if text.contains("not mounted")));
    assert!(matches!(pool.create("v", &blank(MIB), &Job::default()), Err(Error::Pool(_))));
    assert!(matches!(pool.remove("v"), Err(Error::Pool(_))), "gone with its pool is not removed");
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "nothing was made");

    fs::write(dir.join("letter.txt"), "not ours").unwrap();
    assert!(matches!(pool.status(None), Err(Error::Pool(text)) if text.contains("letter.txt")));
}

#[test]
fn volumes_are_made_grown_and_removed() {
    let bed = bed();
    bed.pool.create("v", &blank(MIB), &Job::default()).unwrap();
    bed.pool.create("v", &blank(5 * MIB), &Job::default()).unwrap();
    assert_eq!(bed.pool.look("v").unwrap().unwrap().bytes, Some(MIB), "made once");
    bed.pool.grow("v", 3 * MIB, false).unwrap();
    bed.pool.grow("v", 2 * MIB, false).unwrap();
    assert_eq!(bed.pool.look("v").unwrap().unwrap().bytes, Some(3 * MIB), "never shrinks");
    bed.pool.remove("v").unwrap();
    bed.pool.remove("v").unwrap();
    assert_eq!(bed.pool.look("v").unwrap(), None);
    let left: Vec<_> = fs::read_dir(bed.dir.path().join("pool/locks")).unwrap().collect();
    assert!(left.len() <= 1, "{left:?}");
    for name in ["", "../x", ".hidden", "a/b", "-v"] {
        assert!(matches!(bed.pool.look(name), Err(Error::Invalid(_))), "{name}");
    }
}

#[test]
fn what_several_write_is_raw_and_so_are_its_snapshots() {
    let bed = bed();
    bed.pool.create("v", &New { shared: true, ..blank(MIB) }, &Job::default()).unwrap();
    assert!(bed.pool.is_shared("v"));
    bed.pool.grow("v", 2 * MIB, false).unwrap();
    bed.pool.snapshot("v", "s", &Job::default()).unwrap();
    let found = bed.pool.look("v").unwrap().unwrap();
    assert_eq!((found.bytes, found.snapshots["s"]), (Some(2 * MIB), 2 * MIB));
    // a copy that only one may write, from one that several may
    let copy = New { content: Content::Copy { from: Spot::snapshot("v", "s"), luks: None }, ..blank(3 * MIB) };
    bed.pool.create("w", &copy, &Job::default()).unwrap();
    assert!(!bed.pool.is_shared("w"));
    assert_eq!(bed.pool.look("w").unwrap().unwrap().bytes, Some(3 * MIB));
    bed.pool.delete_snapshot("v", "s").unwrap();
    assert!(bed.pool.look("v").unwrap().unwrap().snapshots.is_empty());
}

#[test]
fn older_generations_are_refused() {
    let bed = bed();
    bed.pool.create("v", &blank(MIB), &Job::default()).unwrap();
    for generation in [4, 4, 7] {
        bed.pool.at(generation).open("v", false).unwrap();
    }
    let old = bed.pool.at(6);
    let refused = old.open("v", false).unwrap_err();
    assert!(matches!(refused, Error::Fenced { asked: 6, newest: 7, .. }) && !refused.passes(), "{refused}");
    let job = Job::default();
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
    assert!(matches!(bed.pool.at(9).open("w", false), Err(Error::Missing(_))));
    assert_eq!(bed.pool.look("w").unwrap(), None);
    bed.pool.at(7).remove("v").unwrap();
}

#[test]
fn one_works_on_a_volume_at_a_time() {
    let bed = bed();
    bed.pool.create("v", &blank(MIB), &Job::default()).unwrap();
    let files = Files::new(bed.dir.path().join("pool"), Tools::default());
    let reader = files.lock("v", true).unwrap();
    let another = files.lock("v", true).unwrap();
    assert!(matches!(bed.pool.grow("v", 2 * MIB, false), Err(Error::Busy(_))));
    drop((reader, another));
    bed.pool.grow("v", 2 * MIB, false).unwrap();
}

#[test]
fn headers_that_name_other_files_are_damaged_ones() {
    let bed = bed();
    bed.pool.create("v", &blank(MIB), &Job::default()).unwrap();
    let path = bed.dir.path().join("pool/volumes/v/data.qcow2");
    let good = fs::read(&path).unwrap();
    let corruptions: [(usize, u8, &str); 4] = [(15, 0xff, "backing"), (79, 4, "external data"), (79, 2, "corrupt"), (0, 0, "no qcow2")];
    for (at, byte, words) in corruptions {
        let mut bad = good.clone();
        bad[at] = byte;
        fs::write(&path, &bad).unwrap();
        let error = bed.pool.at(1).open("v", false).unwrap_err();
        assert!(matches!(&error, Error::Damaged(_, why) if why.contains(words)), "{error}");
    }
    fs::write(&path, &good[..50]).unwrap();
    assert!(matches!(bed.pool.look("v"), Err(Error::Damaged(..))));
}
