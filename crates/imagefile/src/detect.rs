//! Which containers a file could be taken for: all of them, not the first that matches.

use crate::bytes::{be32, has, slice};
use crate::evidence::Evidence;
use crate::format::{Container, Content, Detected};

/// Signatures at fixed places of the head.
const MAGIC: &[(Container, usize, &[u8])] = &[
    (Container::Qed, 0, b"QED\0"),
    (Container::Vmdk, 0, b"KDMV"),
    (Container::VmdkCowd, 0, b"COWD"),
    (Container::VmdkSeSparse, 0, &[0xbe, 0xba, 0xfe, 0xca, 0, 0, 0, 0]),
    (Container::Vhdx, 0, b"vhdxfile"),
    (Container::Vdi, 0x40, &[0x7f, 0x10, 0xda, 0xbe]),
    (Container::Parallels, 0, b"WithoutFreeSpace"),
    (Container::Parallels, 0, b"WithouFreSpacExt"),
    (Container::Luks, 0, b"LUKS\xba\xbe"),
    (Container::Bochs, 0, b"Bochs Virtual HD Image"),
    (Container::Cloop, 0, b"#!/bin/sh\n#V2.0 Format\n"),
];

/// How far a VMDK text descriptor may hide its first entry behind comments.
const DESCRIPTOR_SCAN: usize = 64 << 10;
const SECTOR: usize = 2048;
const ISO_FIRST: usize = 16;
/// How many volume descriptors are looked at; real discs have a handful.
const ISO_DESCRIPTORS: usize = 32;

pub(crate) fn detect(evidence: &Evidence) -> Detected {
    let found = containers(evidence);
    match found.as_slice() {
        [] => Detected::Raw,
        [one] => Detected::Container(*one),
        _ => Detected::Ambiguous(found),
    }
}

fn containers(evidence: &Evidence) -> Vec<Container> {
    let head = &evidence.head;
    let mut found: Vec<Container> = Vec::new();
    found.extend(qcow(head));
    found.extend(MAGIC.iter().filter(|(_, at, magic)| has(head, *at, magic)).map(|(container, ..)| *container));
    let text = is_vmdk_text(head) && !found.contains(&Container::Cloop);
    found.extend(text.then_some(Container::VmdkDescriptor));
    found.extend(is_vhd(evidence).then_some(Container::Vhd));
    found.extend(is_dmg(evidence).then_some(Container::Dmg));
    found.extend(primary_volume(head).map(|_| Container::Iso));
    found
}

fn qcow(head: &[u8]) -> Option<Container> {
    if !has(head, 0, b"QFI\xfb") {
        return None;
    }
    Some(if be32(head, 4) == Some(1) { Container::Qcow1 } else { Container::Qcow2 })
}

fn is_vhd(evidence: &Evidence) -> bool {
    let cookie = b"conectix";
    has(&evidence.head, 0, cookie) || evidence.before_end(512, 8) == Some(cookie)
}

fn is_dmg(evidence: &Evidence) -> bool {
    evidence.before_end(512, 512).is_some_and(|trailer| has(trailer, 0, b"koly") && be32(trailer, 8) == Some(512))
}

/// Readers recognise a text descriptor by its `version=` entry behind any number of comments and blank lines.
fn is_vmdk_text(head: &[u8]) -> bool {
    let head = &head[..head.len().min(DESCRIPTOR_SCAN)];
    let title = b"# disk descriptorfile";
    if head.get(..title.len()).is_some_and(|start| start.eq_ignore_ascii_case(title)) {
        return true;
    }
    for line in head.split(|byte| *byte == b'\n') {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        return line.get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"version="));
    }
    false
}

/// The primary volume descriptor of an ISO 9660 volume, among the descriptors from 32 KiB on.
pub(crate) fn primary_volume(head: &[u8]) -> Option<&[u8]> {
    for index in ISO_FIRST..ISO_FIRST + ISO_DESCRIPTORS {
        let sector = slice(head, index * SECTOR, SECTOR)?;
        if !has(sector, 1, b"CD001") {
            return None;
        }
        match sector[0] {
            1 => return Some(sector),
            255 => return None,
            _ => {}
        }
    }
    None
}

/// What a plain disk holds, as far as the head tells.
pub(crate) fn contents(evidence: &Evidence) -> Vec<Content> {
    let head = &evidence.head;
    let gpt = has(head, 512, b"EFI PART") || has(head, 4096, b"EFI PART");
    let found = [
        (Content::Mbr, has(head, 510, &[0x55, 0xaa])),
        (Content::Gpt, gpt),
        (Content::Ext, has(head, 1080, &[0x53, 0xef])),
        (Content::Udf, is_udf(head)),
    ];
    found.into_iter().filter(|(_, is)| *is).map(|(content, _)| content).collect()
}

fn is_udf(head: &[u8]) -> bool {
    (ISO_FIRST..ISO_FIRST + ISO_DESCRIPTORS).any(|index| has(head, index * SECTOR + 1, b"NSR0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_descriptor_may_hide_behind_comments() {
        assert!(is_vmdk_text(b"# Disk DescriptorFile\nversion=1\n"));
        assert!(is_vmdk_text(b"#!/bin/sh\n\n  \n# hello\nversion=1\r\n"));
        assert!(!is_vmdk_text(b"#!/bin/sh\necho version=1\n"));
        assert!(!is_vmdk_text(b""));
    }
}
