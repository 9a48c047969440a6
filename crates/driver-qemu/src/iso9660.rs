//! A small ISO 9660 writer with Joliet names, for configuration drives: a tree of files in memory to the bytes of a disc.
//!
//! Joliet carries the real names and every system that reads configuration drives knows it; the plain tree beside it has
//! upper-cased names for those that do not. Both trees point at the same file contents.

use crate::error::{Error, Result};
use std::collections::BTreeMap;

const SECTOR: usize = 2048;
const MAX_FILE: usize = 64 << 20;
const MAX_NAME: usize = 60;

/// A file of the disc: path with slashes, and content.
pub struct DiscFile {
    pub path: String,
    pub content: Vec<u8>,
}

#[derive(Default)]
struct Directory {
    children: BTreeMap<String, Node>,
}

enum Node {
    Directory(Directory),
    /// Index into the files.
    File(usize),
}

#[derive(Clone, Copy, PartialEq)]
enum Names {
    Plain,
    Joliet,
}

/// A directory laid out: where it is, how long, and its parent's index.
struct Placed<'a> {
    directory: &'a Directory,
    name: String,
    parent: usize,
    sector: usize,
    bytes: usize,
}

pub fn write(label: &str, files: &[DiscFile]) -> Result<Vec<u8>> {
    let root = tree(files)?;
    // system area 0-15, descriptors 16-18, then path tables, directories, files
    let mut next = 19;
    let mut plain = place(&root, Names::Plain);
    let mut joliet = place(&root, Names::Joliet);
    let tables: Vec<[usize; 2]> = [(&mut plain, Names::Plain), (&mut joliet, Names::Joliet)]
        .into_iter()
        .map(|(tree, names)| {
            let sectors = path_table(tree, names, false).len().div_ceil(SECTOR);
            let at = [next, next + sectors];
            next += 2 * sectors;
            for directory in tree.iter_mut() {
                directory.sector = next;
                next += directory.bytes / SECTOR;
            }
            at
        })
        .collect();
    let contents: Vec<usize> = files
        .iter()
        .map(|file| {
            let at = next;
            next += file.content.len().div_ceil(SECTOR);
            at
        })
        .collect();
    let mut disc = vec![0; next * SECTOR];
    for (i, (tree, names)) in [(&plain, Names::Plain), (&joliet, Names::Joliet)].into_iter().enumerate() {
        put(&mut disc, 16 + i, &descriptor(label, tree, names, tables[i], next));
        put(&mut disc, tables[i][0], &path_table(tree, names, false));
        put(&mut disc, tables[i][1], &path_table(tree, names, true));
        for index in 0..tree.len() {
            put(&mut disc, tree[index].sector, &directory_records(tree, index, names, files, &contents));
        }
    }
    put(&mut disc, 18, b"\xffCD001\x01");
    for (file, at) in files.iter().zip(contents) {
        put(&mut disc, at, &file.content);
    }
    Ok(disc)
}

fn put(disc: &mut [u8], sector: usize, bytes: &[u8]) {
    disc[sector * SECTOR..sector * SECTOR + bytes.len()].copy_from_slice(bytes);
}

fn tree(files: &[DiscFile]) -> Result<Directory> {
    let mut root = Directory::default();
    for (index, file) in files.iter().enumerate() {
        let bad = || Error::Invalid(format!("configuration drive file {:?}", file.path));
        if file.content.len() > MAX_FILE {
            return Err(bad());
        }
        let mut parts: Vec<&str> = file.path.split('/').collect();
        if parts.iter().any(|p| p.is_empty() || p.len() > MAX_NAME || p.starts_with('.') || p.chars().any(|c| c.is_control())) {
            return Err(bad());
        }
        let name = parts.pop().ok_or_else(bad)?;
        let mut at = &mut root;
        for part in parts {
            let child = at.children.entry(part.to_owned()).or_insert_with(|| Node::Directory(Directory::default()));
            let Node::Directory(next) = child else { return Err(bad()) };
            at = next;
        }
        if at.children.insert(name.to_owned(), Node::File(index)).is_some() {
            return Err(bad());
        }
    }
    Ok(root)
}

/// Directories breadth first, which is the order a path table wants.
fn place(root: &Directory, names: Names) -> Vec<Placed<'_>> {
    let mut placed = vec![Placed { directory: root, name: String::new(), parent: 0, sector: 0, bytes: 0 }];
    let mut at = 0;
    while at < placed.len() {
        let directory = placed[at].directory;
        for (name, node) in &directory.children {
            if let Node::Directory(child) = node {
                placed.push(Placed { directory: child, name: name.clone(), parent: at, sector: 0, bytes: 0 });
            }
        }
        let lengths = [34, 34]
            .into_iter()
            .chain(directory.children.iter().map(|(n, c)| record_length(&encoded(n, names, matches!(c, Node::File(_))))));
        // a record does not cross a sector
        let end =
            lengths.fold(0, |end, length| if end % SECTOR + length > SECTOR { (end / SECTOR + 1) * SECTOR + length } else { end + length });
        placed[at].bytes = end.div_ceil(SECTOR) * SECTOR;
        at += 1;
    }
    placed
}

fn encoded(name: &str, names: Names, file: bool) -> Vec<u8> {
    match names {
        Names::Joliet => name.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        Names::Plain => {
            let mut text: String =
                name.chars().map(|c| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c.to_ascii_uppercase() } else { '_' }).collect();
            if file {
                text.push_str(";1");
            }
            text.into_bytes()
        }
    }
}

fn record_length(name: &[u8]) -> usize {
    (33 + name.len()).next_multiple_of(2)
}

fn both16(value: u16) -> [u8; 4] {
    let (l, b) = (value.to_le_bytes(), value.to_be_bytes());
    [l[0], l[1], b[0], b[1]]
}

fn both32(value: usize) -> Vec<u8> {
    let value = value as u32;
    [value.to_le_bytes(), value.to_be_bytes()].concat()
}

fn record(name: &[u8], sector: usize, bytes: usize, directory: bool) -> Vec<u8> {
    let mut record = vec![record_length(name) as u8, 0];
    record.extend(both32(sector));
    record.extend(both32(bytes));
    record.extend([100, 1, 1, 0, 0, 0, 0]); // 2000-01-01: the same files are the same disc
    record.extend([if directory { 2 } else { 0 }, 0, 0]);
    record.extend(both16(1));
    record.push(name.len() as u8);
    record.extend(name);
    record.resize(record_length(name), 0);
    record
}

fn directory_records(tree: &[Placed<'_>], index: usize, names: Names, files: &[DiscFile], contents: &[usize]) -> Vec<u8> {
    let (own, parent) = (&tree[index], &tree[tree[index].parent]);
    let mut records = vec![record(&[0], own.sector, own.bytes, true), record(&[1], parent.sector, parent.bytes, true)];
    for (name, node) in &own.directory.children {
        records.push(match node {
            Node::File(i) => record(&encoded(name, names, true), contents[*i], files[*i].content.len(), false),
            Node::Directory(_) => {
                let child = tree.iter().skip(1).find(|p| p.parent == index && p.name == *name).unwrap_or(own);
                record(&encoded(name, names, false), child.sector, child.bytes, true)
            }
        });
    }
    let mut bytes = Vec::with_capacity(own.bytes);
    for record in records {
        if bytes.len() % SECTOR + record.len() > SECTOR {
            bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
        }
        bytes.extend(record);
    }
    bytes
}

fn path_table(tree: &[Placed<'_>], names: Names, big_endian: bool) -> Vec<u8> {
    let mut table = Vec::new();
    for placed in tree {
        let name = if placed.name.is_empty() { vec![0] } else { encoded(&placed.name, names, false) };
        let (sector, parent) = (placed.sector as u32, placed.parent as u16 + 1);
        table.extend([name.len() as u8, 0]);
        table.extend(if big_endian { sector.to_be_bytes() } else { sector.to_le_bytes() });
        table.extend(if big_endian { parent.to_be_bytes() } else { parent.to_le_bytes() });
        table.extend(&name);
        if name.len() % 2 == 1 {
            table.push(0);
        }
    }
    table
}

fn descriptor(label: &str, tree: &[Placed<'_>], names: Names, tables: [usize; 2], sectors: usize) -> Vec<u8> {
    let text = |value: &str, width: usize| -> Vec<u8> {
        let mut bytes = match names {
            Names::Plain => value.bytes().take(width).collect::<Vec<u8>>(),
            Names::Joliet => value.encode_utf16().flat_map(u16::to_be_bytes).take(width).collect(),
        };
        while bytes.len() < width {
            bytes.extend(if names == Names::Plain { &b" "[..] } else { &b"\0 "[..] });
        }
        bytes.truncate(width);
        bytes
    };
    let mut d = vec![if names == Names::Plain { 1 } else { 2 }];
    d.extend(b"CD001\x01\0");
    d.extend(text("", 32));
    d.extend(text(label, 32));
    d.extend([0; 8]);
    d.extend(both32(sectors));
    let mut escapes = [0; 32];
    if names == Names::Joliet {
        escapes[..3].copy_from_slice(b"%/E");
    }
    d.extend(escapes);
    d.extend(both16(1));
    d.extend(both16(1));
    d.extend(both16(SECTOR as u16));
    d.extend(both32(path_table(tree, names, false).len()));
    d.extend((tables[0] as u32).to_le_bytes());
    d.extend([0; 4]);
    d.extend((tables[1] as u32).to_be_bytes());
    d.extend([0; 4]);
    d.extend(record(&[0], tree[0].sector, tree[0].bytes, true));
    for width in [128, 128, 128, 128, 37, 37, 37] {
        d.extend(text("", width));
    }
    for _ in 0..4 {
        d.extend(b"0000000000000000\0");
    }
    d.extend([1, 0]);
    d.resize(SECTOR, 0);
    d
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn file(path: &str, content: &[u8]) -> DiscFile {
        DiscFile { path: path.into(), content: content.to_vec() }
    }

    /// Read back by somebody else's reader.
    #[test]
    fn isoinfo_reads_what_was_written() {
        let mut files = vec![
            file("openstack/latest/meta_data.json", b"{\"uuid\": 1}"),
            file("openstack/latest/user_data", &[7; 5000]),
            file("openstack/content/0000", b""),
            file("ec2/latest/meta-data.json", b"{}"),
        ];
        files.extend((0..80).map(|i| file(&format!("many/file-with-a-long-name-{i:04}"), &[i as u8; 10])));
        let disc = write("config-2", &files).unwrap();
        assert_eq!(disc.len() % SECTOR, 0);
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("disc");
        std::fs::write(&path, &disc).unwrap();
        let isoinfo = |args: &[&str]| Command::new("isoinfo").arg("-i").arg(&path).args(args).output();
        let Ok(listing) = isoinfo(&["-J", "-f"]) else {
            eprintln!("skipped: no isoinfo on this machine");
            return;
        };
        let listing = String::from_utf8(listing.stdout).unwrap();
        for file in &files {
            assert!(listing.lines().any(|l| l == format!("/{}", file.path)), "{} in {listing}", file.path);
            let got = isoinfo(&["-J", "-x", &format!("/{}", file.path)]).unwrap().stdout;
            assert!(got == file.content, "{}", file.path);
        }
        let plain = String::from_utf8(isoinfo(&["-f"]).unwrap().stdout).unwrap();
        assert!(plain.contains("/OPENSTACK/LATEST/META_DATA.JSON;1"), "{plain}");
        let label = String::from_utf8(isoinfo(&["-d"]).unwrap().stdout).unwrap();
        assert!(label.contains("Volume id: config-2"), "{label}");
    }

    #[test]
    fn odd_paths_are_refused() {
        for path in ["", "/x", "a//b", "../x", "a/", "a\nb"] {
            assert!(write("x", &[file(path, b"")]).is_err(), "{path:?}");
        }
        assert!(write("x", &[file("a", b""), file("a/b", b"")]).is_err());
        assert!(write("x", &[file("a", b""), file("a", b"")]).is_err());
    }
}
