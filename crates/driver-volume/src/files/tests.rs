use std::sync::Barrier;
use std::thread;

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
fn hosts_that_find_a_new_pool_at_the_same_time_agree_on_its_mark() {
    for _ in 0..20 {
        let temp = tempfile::tempdir().unwrap();
        let together = Barrier::new(4);
        let seen = |_| {
            let pool = Pool::new(Files::new(temp.path(), Tools::default()), Tools::default());
            together.wait();
            pool.status(None).unwrap().mark
        };
        let marks: Vec<String> = thread::scope(|s| [0; 4].map(|n| s.spawn(move || seen(n))).map(|t| t.join().unwrap()).to_vec());
        let pool = Pool::new(Files::new(temp.path(), Tools::default()), Tools::default());
        assert!(marks.iter().all(|mark| pool.status(Some(mark)).is_ok()), "{marks:?}");
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1, "no draft is left");
    }
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

#[test]
fn files_do_what_every_kind_of_storage_does() {
    let bed = bed();
    crate::conformance::all(&bed.pool, &Files::new(bed.dir.path().join("pool"), Tools::default()));
    let left: Vec<_> = fs::read_dir(bed.dir.path().join("pool/locks")).unwrap().collect();
    assert!(left.len() <= 1, "{left:?}");
}
