use std::path::Path;

use super::*;
use crate::{Content, Files, Format, Job, Luks, New, Pool, Spot, Tools};

const MIB: u64 = 1 << 20;

struct Bed {
    dir: tempfile::TempDir,
    pool: Pool,
    repository: Repository,
}

fn bed() -> Bed {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let at = |name: &str| Files::new(dir.path().join(name), Tools::default());
    let pool = Pool::new(at("pool"), Tools::default());
    pool.status(None).unwrap();
    Pool::new(at("kept"), Tools::default()).status(None).unwrap();
    let repository = Repository::of(&Backend::Files { dir: dir.path().join("kept") }).unwrap();
    Bed { dir, pool, repository }
}

impl Bed {
    fn volume(&self, name: &str, bytes: u64, luks: Option<Luks>) {
        self.pool.create(name, &New { bytes, shared: false, content: Content::Blank, luks }, &Job::default()).unwrap();
    }

    fn backup(&self, id: &str, parent: Option<&str>) -> Result<Kept> {
        self.pool.backup(&Spot::data("v"), &self.repository, id, parent, &Job::default())
    }

    fn chain(&self, id: &str) -> PathBuf {
        self.dir.path().join("kept/backups").join(id)
    }
}

/// Writes a pattern into a volume as a guest would.
fn write(bed: &Bed, volume: &str, commands: &[&str]) {
    let image = bed.pool.peek(volume).unwrap();
    let commands: Vec<String> = commands.iter().map(|command| (*command).to_owned()).collect();
    crate::conformance::qemu_io(&image, &commands).unwrap();
}

fn content(bed: &Bed, volume: &str) -> Vec<u8> {
    let path = bed.dir.path().join("content");
    let file = crate::create_file(&path).unwrap();
    bed.pool.export(&Spot::data(volume), None, &file, "raw", &Job::default()).unwrap();
    fs::read(&path).unwrap()
}

fn pieces(chain: &Path) -> usize {
    entries(&chain.join("pieces")).unwrap().iter().map(|group| entries(group).unwrap().len()).sum()
}

#[test]
fn a_chain_is_restored_to_the_byte_and_stores_only_what_changed() {
    let bed = bed();
    bed.volume("v", 64 * MIB, None);
    write(&bed, "v", &["write -P 1 0 3M", "write -P 2 40M 1M", "write -P 7 4097k 512"]);
    let first = content(&bed, "v");
    let full = bed.backup("full", None).unwrap();
    // Three pieces of ones are one; the twos; the odd one.
    assert_eq!(full, Kept { stored: 3 * MIB, objects: 5 });
    assert_eq!(bed.backup("full", None).unwrap(), full, "made once");

    write(&bed, "v", &["write -P 3 1M 1M", "write -z 40M 1M"]);
    let second = content(&bed, "v");
    assert_eq!(bed.backup("next", Some("full")).unwrap(), Kept { stored: MIB, objects: 4 });

    write(&bed, "v", &["write -P 9 0 64M"]);
    let spoilt = content(&bed, "v");
    for (number, backup, expected) in [(1, "full", &first), (2, "next", &second)] {
        bed.pool.restore("v", &bed.repository, backup, number, &Job::default()).unwrap();
        assert!(content(&bed, "v") == *expected, "{backup}");
    }
    write(&bed, "v", &["write -P 9 0 64M"]);
    bed.pool.restore("v", &bed.repository, "full", 2, &Job::default()).unwrap();
    assert!(content(&bed, "v") == spoilt, "done once per number");

    let from_backup = Content::Backup { repository: bed.repository.clone(), backup: "next".into() };
    bed.pool.create("w", &New { bytes: 80 * MIB, shared: false, content: from_backup, luks: None }, &Job::default()).unwrap();
    let copy = content(&bed, "w");
    assert!(copy.len() as u64 == 80 * MIB && copy[..second.len()] == second[..] && copy[second.len()..].iter().all(|byte| *byte == 0));
}

#[test]
fn a_removed_backup_leaves_what_others_are_made_of() {
    let bed = bed();
    bed.volume("v", 8 * MIB, None);
    write(&bed, "v", &["write -P 1 0 1M", "write -P 2 1M 1M"]);
    bed.backup("full", None).unwrap();
    write(&bed, "v", &["write -P 3 1M 1M"]);
    let expected = content(&bed, "v");
    bed.backup("next", Some("full")).unwrap();
    assert_eq!(pieces(&bed.chain("full")), 3);
    bed.repository.remove("full").unwrap();
    assert_eq!(pieces(&bed.chain("full")), 2);
    bed.pool.restore("v", &bed.repository, "next", 1, &Job::default()).unwrap();
    assert!(content(&bed, "v") == expected);
    bed.repository.remove("next").unwrap();
    bed.repository.remove("next").unwrap();
    assert!(!bed.chain("full").exists());
    assert!(matches!(bed.backup("late", Some("full")), Err(Error::Missing(_))), "a parent that is gone");
}

#[test]
fn a_damaged_piece_or_manifest_is_told_and_changes_no_volume() {
    let bed = bed();
    bed.volume("v", 4 * MIB, None);
    write(&bed, "v", &["write -P 1 0 1M"]);
    bed.backup("full", None).unwrap();
    write(&bed, "v", &["write -P 5 0 1M"]);
    let before = content(&bed, "v");
    let group = entries(&bed.chain("full").join("pieces")).unwrap().remove(0);
    let piece = entries(&group).unwrap().remove(0);
    let mut bytes = fs::read(&piece).unwrap();
    bytes[77] ^= 1;
    fs::write(&piece, &bytes).unwrap();
    let restore = |number| bed.pool.restore("v", &bed.repository, "full", number, &Job::default());
    assert!(matches!(restore(1), Err(Error::Damaged(..))));
    assert!(content(&bed, "v") == before);
    let manifest = bed.chain("full").join("full.manifest");
    let text = fs::read_to_string(&manifest).unwrap();
    for broken in [text[..text.len() / 2].to_owned(), text.replace("0 ", "1 "), String::new()] {
        fs::write(&manifest, broken).unwrap();
        assert!(matches!(restore(1), Err(Error::Damaged(..))));
    }
    assert!(content(&bed, "v") == before);
}

#[test]
fn backups_of_encrypted_volumes_hold_what_is_encrypted() {
    let bed = bed();
    let luks = Luks { cipher: "aes-256".into(), mode: "xts".into(), passphrase: "secret".into() };
    bed.volume("v", 1 << 30, Some(luks.clone()));
    let before = content(&bed, "v");
    bed.backup("full", None).unwrap();
    write(&bed, "v", &["write -P 1 64M 1M"]);
    bed.pool.restore("v", &bed.repository, "full", 1, &Job::default()).unwrap();
    assert!(content(&bed, "v") == before && before.starts_with(b"LUKS"));
    assert_eq!(bed.pool.peek("v").unwrap().format, Format::Qcow2);
}

#[test]
fn no_repository_where_no_pool_is() {
    let bed = bed();
    bed.volume("v", MIB, None);
    fs::remove_file(bed.dir.path().join("kept/.unkai-pool")).unwrap();
    assert!(matches!(bed.backup("full", None), Err(Error::Pool(_))));
    assert!(Repository::of(&Backend::Rbd { monitors: vec![], pool: "p".into(), user: "u".into(), key: "k".into() }).is_err());
}
