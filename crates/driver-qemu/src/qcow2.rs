//! Just enough of qcow2 to create empty images and to look at headers, without a process for each.
//!
//! Layout of what is written, in clusters of 64 KiB: header, refcount table, refcount block, L1 table. `qemu-img check` is the judge.

use crate::error::{Error, Result};
use crate::layout::create_new;
use crate::spec::Format;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

const MAGIC: u32 = 0x5146_49fb;
const CLUSTER: u64 = 1 << 16;
/// One L2 table maps this much.
const PER_L1_ENTRY: u64 = CLUSTER / 8 * CLUSTER;
const HEADER_BYTES: usize = 104;
const EXTENSION_BACKING_FORMAT: u32 = 0xe279_2aca;
const MAX_BACKING_NAME: usize = 1023;

pub struct Backing<'a> {
    pub path: &'a Path,
    pub format: Format,
}

/// Creates an image of `bytes`, empty or over a backing file. Fails if `path` is there already.
pub fn create(path: &Path, bytes: u64, backing: Option<Backing<'_>>) -> Result<File> {
    let l1_entries = bytes.div_ceil(PER_L1_ENTRY).max(1);
    let l1_clusters = (l1_entries * 8).div_ceil(CLUSTER);
    // One refcount block counts 32768 clusters, so images up to petabytes start with one.
    let header = header(path, bytes, l1_entries, backing)?;
    let mut refcounts = Vec::new();
    for _ in 0..3 + l1_clusters {
        refcounts.extend_from_slice(&1u16.to_be_bytes());
    }
    let file = create_new(path)?;
    let write = |bytes: &[u8], at: u64| file.write_all_at(bytes, at).map_err(Error::io("write image", path));
    write(&header, 0)?;
    write(&(2 * CLUSTER).to_be_bytes(), CLUSTER)?;
    write(&refcounts, 2 * CLUSTER)?;
    file.set_len((3 + l1_clusters) * CLUSTER).map_err(Error::io("write image", path))?;
    Ok(file)
}

fn header(path: &Path, bytes: u64, l1_entries: u64, backing: Option<Backing<'_>>) -> Result<Vec<u8>> {
    let too_big = |problem: &str| Error::Image { path: path.to_path_buf(), problem: problem.to_owned() };
    let l1_entries = u32::try_from(l1_entries).map_err(|_| too_big("too large for one image"))?;
    let mut extensions = Vec::new();
    let mut name: &[u8] = b"";
    if let Some(backing) = &backing {
        name = backing.path.as_os_str().as_encoded_bytes();
        let format = backing.format.name().as_bytes();
        extensions.extend(EXTENSION_BACKING_FORMAT.to_be_bytes());
        extensions.extend((format.len() as u32).to_be_bytes());
        extensions.extend(format);
        extensions.resize(extensions.len().next_multiple_of(8), 0);
    }
    if name.len() > MAX_BACKING_NAME {
        return Err(too_big("the name of its backing file is too long"));
    }
    extensions.extend([0; 8]);
    let name_at = if name.is_empty() { 0 } else { (HEADER_BYTES + extensions.len()) as u64 };
    let mut header = Vec::with_capacity(HEADER_BYTES + extensions.len() + name.len());
    header.extend(MAGIC.to_be_bytes());
    header.extend(3u32.to_be_bytes());
    header.extend(name_at.to_be_bytes());
    header.extend((name.len() as u32).to_be_bytes());
    header.extend(16u32.to_be_bytes()); // cluster bits
    header.extend(bytes.to_be_bytes());
    header.extend(0u32.to_be_bytes()); // not encrypted
    header.extend(l1_entries.to_be_bytes());
    header.extend((3 * CLUSTER).to_be_bytes());
    header.extend(CLUSTER.to_be_bytes()); // refcount table
    header.extend(1u32.to_be_bytes());
    header.extend(0u32.to_be_bytes()); // no snapshots
    header.extend(0u64.to_be_bytes());
    header.extend([0; 24]); // no feature bits
    header.extend(4u32.to_be_bytes()); // 16 bit refcounts
    header.extend((HEADER_BYTES as u32).to_be_bytes());
    debug_assert_eq!(header.len(), HEADER_BYTES);
    header.extend(extensions);
    header.extend(name);
    Ok(header)
}

/// Virtual size of an image that is what it is said to be, and stands alone. Anything else is refused before QEMU sees it.
pub fn inspect(path: &Path, format: Format) -> Result<u64> {
    let mut file = File::open(path).map_err(Error::io("open image", path))?;
    let mut header = [0u8; HEADER_BYTES];
    let mut length = 0;
    while length < header.len() {
        match file.read(&mut header[length..]).map_err(Error::io("read image", path))? {
            0 => break,
            n => length += n,
        }
    }
    let size = file.metadata().map_err(Error::io("read image", path))?.len();
    judge(&header[..length], size, format).map_err(|problem| Error::Image { path: path.to_path_buf(), problem })
}

fn judge(header: &[u8], file_size: u64, format: Format) -> std::result::Result<u64, String> {
    let word = |at: usize| header.get(at..at + 4).map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
    let long = |at: usize| u64::from(word(at)) << 32 | u64::from(word(at + 4));
    if format == Format::Raw {
        return if file_size == 0 { Err("it is empty".to_owned()) } else { Ok(file_size) };
    }
    if header.len() < 72 || word(0) != MAGIC {
        return Err("it is said to be qcow2, and is not".to_owned());
    }
    if !matches!(word(4), 2 | 3) {
        return Err(format!("qcow2 version {}", word(4)));
    }
    if long(8) != 0 || word(16) != 0 {
        return Err("it refers to a backing file, and a base image must stand alone".to_owned());
    }
    // incompatible feature bit 2: the data is in another file
    if word(4) == 3 && long(72) & 0b100 != 0 {
        return Err("it refers to an external data file, and a base image must stand alone".to_owned());
    }
    match long(24) {
        0 => Err("it is empty".to_owned()),
        bytes => Ok(bytes),
    }
}

/// Names another backing file in an image that was made here or, by the same program, on another host. What the image said before of
/// others is forgotten.
pub fn stand_on(path: &Path, backing: &Path) -> Result<()> {
    let bad = |problem: &str| Error::Image { path: path.to_path_buf(), problem: problem.to_owned() };
    let failed = |e| Error::io("write image", path)(e);
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).map_err(Error::io("open image", path))?;
    let mut header = [0; HEADER_BYTES];
    file.read_exact_at(&mut header, 0).map_err(Error::io("read image", path))?;
    let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let long = |at: usize| u64::from(word(at)) << 32 | u64::from(word(at + 4));
    if word(0) != MAGIC || word(4) != 3 || long(72) & !0b11 != 0 || 1 << word(20).min(63) != CLUSTER || long(8) == 0 {
        return Err(bad("it is not the kind of image that servers have"));
    }
    let name = backing.as_os_str().as_encoded_bytes();
    // At the end of the first cluster, which holds nothing but the header and its short extensions.
    let at = CLUSTER - (MAX_BACKING_NAME as u64 + 1);
    if name.len() > MAX_BACKING_NAME {
        return Err(bad("the name of its backing file is too long"));
    }
    file.write_all_at(name, at).map_err(failed)?;
    let mut reference = at.to_be_bytes().to_vec();
    reference.extend((name.len() as u32).to_be_bytes());
    file.write_all_at(&reference, 8).map_err(failed)?;
    check_own(path, backing)
}

/// A disk file of ours was written by QEMU since, which a guest may have taken over: before a program of the host opens it, it must
/// still name nothing but the backing file we gave it.
pub fn check_own(path: &Path, backing: &Path) -> Result<()> {
    let bad = |problem: &str| Error::Image { path: path.to_path_buf(), problem: problem.to_owned() };
    let file = File::open(path).map_err(Error::io("open disk", path))?;
    let mut header = [0; HEADER_BYTES];
    file.read_exact_at(&mut header, 0).map_err(Error::io("read disk", path))?;
    let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let long = |at: usize| u64::from(word(at)) << 32 | u64::from(word(at + 4));
    // bits 0 and 1 only say that the image was not closed; anything above changes what the file means
    if word(0) != MAGIC || word(4) != 3 || long(72) & !0b11 != 0 {
        return Err(bad("it is not the kind of image that was made here; the guest's QEMU may have been taken over"));
    }
    let mut name = vec![0; (word(16) as usize).min(MAX_BACKING_NAME + 1)];
    file.read_exact_at(&mut name, long(8)).map_err(Error::io("read disk", path))?;
    if name == backing.as_os_str().as_encoded_bytes() {
        Ok(())
    } else {
        Err(bad("it names another backing file than the one it was made with; the guest's QEMU may have been taken over"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    fn qemu_img(args: &[&str], path: &Path) -> Option<String> {
        let Ok(out) = Command::new("qemu-img").args(args).arg(path).output() else {
            eprintln!("skipped: no qemu-img on this machine");
            return None;
        };
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        Some(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    #[test]
    fn an_image_stands_on_another_file() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("old"), dir.path().join("a name that is longer than the one before"));
        let path = dir.path().join("image");
        for base in [&old, &new] {
            create(base, 1 << 20, None).unwrap();
        }
        create(&path, 1 << 20, Some(Backing { path: &old, format: Format::Qcow2 })).unwrap();
        std::fs::remove_file(&old).unwrap();
        assert!(check_own(&path, &new).is_err());
        stand_on(&path, &new).unwrap();
        check_own(&path, &new).unwrap();
        let Some(info) = qemu_img(&["info", "--output=json", "-f", "qcow2"], &path) else { return };
        let info: serde_json::Value = serde_json::from_str(&info).unwrap();
        assert_eq!(info["backing-filename"], new.to_str().unwrap());
        qemu_img(&["check", "-q", "-f", "qcow2"], &path);
        // QEMU writes the header anew.
        qemu_img(&["amend", "-q", "-f", "qcow2", "-o", "lazy_refcounts=off"], &path);
        check_own(&path, &new).unwrap();
        for bad in [&new, &dir.path().join("text")] {
            if bad != &new {
                std::fs::write(
                    bad,
                    "text that is no image at all and long enough to be read as a header of one, if need be, so that is that",
                )
                .unwrap();
            }
            assert!(stand_on(bad, &new).is_err(), "without a backing file, or no image");
        }
    }

    #[test]
    fn qemu_img_finds_nothing_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("base");
        create(&base, 1 << 20, None).unwrap();
        let sizes = [512, 65536, PER_L1_ENTRY, PER_L1_ENTRY + 512, 40 << 30, 5 << 40, 64 << 40];
        for (i, bytes) in sizes.into_iter().enumerate() {
            for over in [false, true] {
                let path = dir.path().join(format!("image{i}{over}"));
                create(&path, bytes, over.then_some(Backing { path: &base, format: Format::Qcow2 })).unwrap();
                let Some(_) = qemu_img(&["check", "-q", "-f", "qcow2"], &path) else { return };
                let info = qemu_img(&["info", "--output=json", "-f", "qcow2"], &path).unwrap();
                let info: serde_json::Value = serde_json::from_str(&info).unwrap();
                assert_eq!(info["virtual-size"], bytes);
                assert_eq!(info["backing-filename"].as_str(), over.then(|| base.to_str().unwrap()));
                assert_eq!(info["backing-filename-format"].as_str(), over.then_some("qcow2"));
                assert_eq!(inspect(&path, Format::Qcow2).ok(), (!over).then_some(bytes));
            }
        }
    }

    #[test]
    fn a_disk_that_was_tampered_with_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let (path, base) = (dir.path().join("disk"), Path::new("/images/base"));
        let file = create(&path, 1 << 20, Some(Backing { path: base, format: Format::Raw })).unwrap();
        check_own(&path, base).unwrap();
        assert!(check_own(&path, Path::new("/images/other")).is_err());
        file.write_all_at(&[4], 79).unwrap();
        assert!(check_own(&path, base).unwrap_err().to_string().contains("taken over"), "external data file");
        file.write_all_at(&[1], 79).unwrap();
        check_own(&path, base).unwrap();
        file.write_all_at(&u64::MAX.to_be_bytes(), 8).unwrap();
        assert!(check_own(&path, base).is_err(), "name beyond the end");
    }

    #[test]
    fn an_existing_file_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, "precious").unwrap();
        assert!(create(&path, 1 << 20, None).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn what_a_base_image_may_not_be() {
        let path = Path::new("/x");
        let plain = header(path, 1 << 20, 1, None).unwrap();
        let backed = header(path, 1 << 20, 1, Some(Backing { path, format: Format::Raw })).unwrap();
        let mut external = plain.clone();
        external[79] = 4;
        let mut version = plain.clone();
        version[7] = 9;
        let table: [(&[u8], Format, std::result::Result<u64, &str>); 8] = [
            (&plain, Format::Qcow2, Ok(1 << 20)),
            (&backed, Format::Qcow2, Err("backing file")),
            (&external, Format::Qcow2, Err("external data file")),
            (&version, Format::Qcow2, Err("version 9")),
            (b"QFI\xfb", Format::Qcow2, Err("is not")),
            (b"", Format::Qcow2, Err("is not")),
            (&plain, Format::Raw, Ok(7)),
            (b"\x7fELF and more", Format::Qcow2, Err("is not")),
        ];
        for (bytes, format, want) in table {
            match (judge(bytes, 7, format), want) {
                (Ok(got), Ok(want)) => assert_eq!(got, want),
                (Err(got), Err(want)) => assert!(got.contains(want), "{got}"),
                other => panic!("{other:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn any_header_is_judged(bytes in proptest::collection::vec(any::<u8>(), 0..200), size: u64) {
            let _ = judge(&bytes, size, Format::Qcow2);
            let mut marked = MAGIC.to_be_bytes().to_vec();
            marked.extend(bytes);
            let _ = judge(&marked, size, Format::Qcow2);
        }
    }
}
