use unkai_driver_volume::Notes;
use unkai_link::volume::{Backend, Restore, RestoreFrom, Source, Upload};
use unkai_model::Id;

use super::*;

const GIB: u64 = 1 << 30;

fn item() -> VolumeItem {
    VolumeItem {
        id: "v".into(),
        generation: 3,
        backend: Backend::Files { dir: "/pool".into() },
        present: true,
        made: false,
        fence: 1,
        size_gib: 2,
        shared: false,
        source: Source::Blank,
        encryption: None,
        in_use_by: None,
        snapshots: vec![],
        upload: None,
        backups: vec![],
        restore: None,
    }
}

fn local() -> Local {
    Local { found: Some(Found { bytes: Some(2 * GIB), ..Found::default() }), ..Local::default() }
}

fn backup(id: &str) -> BackupWish {
    BackupWish { backup: id.into(), repository: Backend::Files { dir: "/backups".into() }, snapshot: None, parent: None }
}

#[test]
fn a_volume_comes_and_goes() {
    let gone = Local::default();
    assert_eq!(next(&item(), &gone), Some(Step::Create));
    let half = Local { found: Some(Found::default()), ..Local::default() };
    assert_eq!(next(&item(), &half), Some(Step::Create), "what was begun is begun again");
    assert_eq!(next(&item(), &local()), None);
    let lost = VolumeItem { made: true, ..item() };
    for nothing in [&gone, &half] {
        assert_eq!(next(&lost, nothing), Some(Step::Lost), "what was whole is not made again");
    }
    let unwanted = VolumeItem { present: false, made: true, ..item() };
    assert_eq!(next(&unwanted, &local()), Some(Step::Remove));
    assert_eq!(next(&unwanted, &half), Some(Step::Remove));
    assert_eq!(next(&unwanted, &gone), None);
}

#[test]
fn it_grows_and_never_shrinks() {
    assert_eq!(next(&VolumeItem { size_gib: 3, ..item() }, &local()), Some(Step::Grow));
    assert_eq!(next(&VolumeItem { size_gib: 1, ..item() }, &local()), None);
    let container = Local { found: Some(Found { bytes: Some(2 * GIB + (2 << 20)), ..Found::default() }), ..Local::default() };
    assert_eq!(next(&item(), &container), None);
    assert_eq!(next(&VolumeItem { size_gib: 3, ..item() }, &container), Some(Step::Grow));
}

#[test]
fn snapshots_are_those_that_are_wanted() {
    let wants = VolumeItem { snapshots: vec!["a".into(), "b".into()], ..item() };
    let mut local = local();
    assert_eq!(next(&wants, &local), Some(Step::Snapshot("a".into())));
    let found = local.found.as_mut().unwrap();
    found.snapshots = [("a".into(), GIB), ("c".into(), GIB)].into();
    assert_eq!(next(&wants, &local), Some(Step::Forget("c".into())));
    local.found.as_mut().unwrap().snapshots.remove("c");
    local.found.as_mut().unwrap().drafts = ["b".into(), "x".into()].into();
    assert_eq!(next(&wants, &local), Some(Step::Forget("x".into())), "begun, and nobody wants it");
    local.found.as_mut().unwrap().drafts.clear();
    // one that failed is not tried again before something new is asked
    local.outcomes.insert("b".into(), (3, Some("no room".into())));
    assert_eq!(next(&wants, &local), None);
    assert_eq!(next(&VolumeItem { generation: 4, ..wants.clone() }, &local), Some(Step::Snapshot("b".into())));
    local.outcomes.insert("a".into(), (3, Some("cannot be removed".into())));
    let less = VolumeItem { snapshots: vec![], ..item() };
    assert_eq!(next(&less, &local), None, "nor is a removal");
    assert_eq!(next(&VolumeItem { generation: 4, ..less }, &local), Some(Step::Forget("a".into())));
}

#[test]
fn restores_happen_once() {
    let restores = VolumeItem { restore: Some(Restore { number: 2, from: RestoreFrom::Snapshot("a".into()) }), ..item() };
    let mut local = local();
    assert_eq!(next(&restores, &local), Some(Step::Restore));
    local.found.as_mut().unwrap().notes = Notes { restored: 2, ..Notes::default() };
    assert_eq!(next(&restores, &local), None);
}

#[test]
fn backups_and_uploads_end_once_and_take_their_snapshots_with_them() {
    let upload = Upload { image: Id::new("i"), format: "raw".into() };
    let wants = VolumeItem { backups: vec![backup("b1"), backup("b2")], upload: Some(upload), ..item() };
    let mut local = local();
    assert_eq!(next(&wants, &local), Some(Step::Backup(backup("b1"))));
    local.found.as_mut().unwrap().snapshots = [(temporary("b1"), GIB), (temporary("i"), GIB)].into();
    assert_eq!(next(&wants, &local), Some(Step::Backup(backup("b1"))), "its snapshot stays while it is made");
    local.outcomes.insert("b1".into(), (2, None));
    assert_eq!(next(&wants, &local), Some(Step::Forget(temporary("b1"))));
    local.found.as_mut().unwrap().snapshots.remove(&temporary("b1"));
    assert_eq!(next(&wants, &local), Some(Step::Backup(backup("b2"))));
    local.outcomes.insert("b2".into(), (3, Some("the parent is gone".into())));
    assert_eq!(next(&wants, &local), Some(Step::Upload), "one that fails is in nobody's way");
    local.outcomes.insert("i".into(), (3, None));
    assert_eq!(next(&wants, &local), Some(Step::Forget(temporary("i"))));
}

#[test]
fn long_work_ends_when_it_is_not_wanted_any_more() {
    let wants = VolumeItem { snapshots: vec!["a".into()], backups: vec![backup("b")], ..item() };
    let unwanted = VolumeItem { present: false, ..item() };
    for step in [Step::Create, Step::Snapshot("a".into()), Step::Backup(backup("b"))] {
        assert!(is_still(&wants, &step) && !is_still(&unwanted, &step), "{step:?}");
    }
    assert!(!is_still(&item(), &Step::Snapshot("a".into())));
    assert!(is_still(&unwanted, &Step::Remove) && !is_still(&item(), &Step::Remove));
}
