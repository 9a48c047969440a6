//! Microsoft's VHDX. Numbers are little-endian. Layout: the open specification [MS-VHDX].
//!
//! The first MiB holds the signature, two headers and two region tables at fixed places; the region table says where the
//! metadata is (the only thing inspected behind the head), and the metadata says how large the disk is and whether it
//! has a parent. An image whose log was not replayed is refused: replaying is writing what the log says, anywhere.

use crate::bytes::{all_zero, has, le16, le32, le64, slice};
use crate::evidence::Evidence;
use crate::findings::Findings;
use crate::problem::Problem;

const KIB64: usize = 64 << 10;
const HEADERS: [usize; 2] = [KIB64, 2 * KIB64];
const REGION_TABLES: [usize; 2] = [3 * KIB64, 4 * KIB64];
const MIB: u64 = 1 << 20;
const MAX_REGIONS: u32 = 2047;
const MAX_ITEMS: u16 = 2047;
const MAX_LOG: u64 = 1 << 30;
const MAX_BAT: u64 = 1 << 30;

// Identifiers, in the mixed byte order they are stored in.
const BAT: [u8; 16] = *b"\x66\x77\xc2\x2d\x23\xf6\x00\x42\x9d\x64\x11\x5e\x9b\xfd\x4a\x08";
const METADATA: [u8; 16] = *b"\x06\xa2\x7c\x8b\x90\x47\x9a\x4b\xb8\xfe\x57\x5f\x05\x0f\x88\x6e";
const FILE_PARAMETERS: [u8; 16] = *b"\x37\x67\xa1\xca\x36\xfa\x43\x4d\xb3\xb6\x33\xf0\xaa\x44\xe7\x6b";
const VIRTUAL_SIZE: [u8; 16] = *b"\x24\x42\xa5\x2f\x1b\xcd\x76\x48\xb2\x11\x5d\xbe\xd8\x3b\xf4\xb8";
const LOGICAL_SECTOR: [u8; 16] = *b"\x1d\xbf\x41\x81\x6f\xa9\x09\x47\xba\x47\xf2\x33\xa8\xfa\xab\x5f";
const PHYSICAL_SECTOR: [u8; 16] = *b"\xc7\x48\xa3\xcd\x5d\x44\x71\x44\x9c\xc9\xe9\x88\x52\x51\xc5\x56";
const PAGE_83: [u8; 16] = *b"\xab\x12\xca\xbe\xe6\xb2\x23\x45\x93\xef\xc3\x09\xe0\x00\xc7\x46";
const PARENT_LOCATOR: [u8; 16] = *b"\x2d\x5f\xd3\xa8\x0b\xb3\x4d\x45\xab\xf7\xd3\xd8\x48\x34\xab\x0c";

const HAS_PARENT: u32 = 1 << 1;
const REQUIRED: u32 = 1 << 2;

/// One entry of a table: what it is, where, how long, and the flags word.
struct Entry<'a> {
    id: &'a [u8],
    offset: u64,
    length: u64,
    flags: u32,
}

/// Where the metadata region begins, if the head holds a valid region table that says so.
pub(crate) fn metadata_region(head: &[u8]) -> Option<u64> {
    if !has(head, 0, b"vhdxfile") {
        return None;
    }
    let found = regions(region_table(head)?)?.find(|entry| entry.id == METADATA)?;
    (found.offset >= MIB).then_some(found.offset)
}

pub(crate) fn judge(evidence: &Evidence, findings: &mut Findings<'_>) {
    let head = &evidence.head;
    let Some(table) = region_table(head) else {
        return findings.add(Problem::Checksum { what: "the region tables" });
    };
    let [first, second] = REGION_TABLES.map(|at| valid(head, at, b"regi", KIB64));
    let differ = first.zip(second).is_some_and(|(first, second)| first != second);
    findings.add_if(differ, Problem::Contradiction { what: "the two region tables" });
    log(head, findings);
    let Some(entries) = regions(table) else {
        return findings.add(Problem::Field { what: "the number of regions", value: u64::MAX });
    };
    let (mut metadata, mut bat) = (0, 0);
    for entry in entries {
        let what = if entry.id == METADATA { "the metadata region" } else { "a region" };
        let placed = entry.offset >= MIB && entry.offset % MIB == 0;
        findings.add_if(!placed, Problem::Misplaced { what, offset: entry.offset });
        findings.inside(what, entry.offset, entry.length);
        match entry.id {
            id if id == METADATA => metadata += 1,
            id if id == BAT => {
                bat += 1;
                findings.field(entry.length <= MAX_BAT, "the length of the allocation table", entry.length);
            }
            _ => findings.add_if(entry.flags & 1 != 0, Problem::UnknownPart { what: "a required region" }),
        }
    }
    findings.field(bat == 1, "the number of allocation tables", bat);
    findings.field(metadata == 1, "the number of metadata regions", metadata);
    items(&evidence.region, findings);
}

/// The structure at `at`, if its signature and CRC-32C are right.
fn valid<'a>(head: &'a [u8], at: usize, signature: &[u8], length: usize) -> Option<&'a [u8]> {
    let bytes = slice(head, at, length)?;
    let stored = le32(bytes, 4)?;
    (has(bytes, 0, signature) && stored == crc32c_without(bytes, 4)).then_some(bytes)
}

fn region_table(head: &[u8]) -> Option<&[u8]> {
    REGION_TABLES.into_iter().find_map(|at| valid(head, at, b"regi", KIB64))
}

fn regions(table: &[u8]) -> Option<impl Iterator<Item = Entry<'_>>> {
    let count = le32(table, 8).filter(|count| *count <= MAX_REGIONS)?;
    Some((0..count as usize).filter_map(|index| {
        let bytes = slice(table, 16 + index * 32, 32)?;
        Some(Entry { id: &bytes[..16], offset: le64(bytes, 16)?, length: u64::from(le32(bytes, 24)?), flags: le32(bytes, 28)? })
    }))
}

/// The current header is the valid one with the higher sequence number; its log must be empty.
fn log(head: &[u8], findings: &mut Findings<'_>) {
    let headers = HEADERS.into_iter().filter_map(|at| valid(head, at, b"head", 4096));
    let Some(current) = headers.max_by_key(|header| le64(header, 8)) else {
        return findings.add(Problem::Checksum { what: "both vhdx headers" });
    };
    let version = le16(current, 66).unwrap_or(0);
    findings.field(version == 1, "the vhdx version", version.into());
    let used = slice(current, 48, 16).is_some_and(|id| !all_zero(id));
    findings.add_if(used, Problem::DirtyLog);
    let length = u64::from(le32(current, 68).unwrap_or(0));
    findings.field(length <= MAX_LOG, "the length of the log", length);
    findings.inside("the log", le64(current, 72).unwrap_or(u64::MAX), length);
}

fn items(region: &[u8], findings: &mut Findings<'_>) {
    let table = slice(region, 0, KIB64).filter(|table| has(table, 0, b"metadata"));
    let Some(table) = table else {
        return findings.add(Problem::Truncated { what: "the metadata table" });
    };
    let count = le16(table, 10).unwrap_or(0);
    if count > MAX_ITEMS {
        return findings.add(Problem::Field { what: "the number of metadata items", value: count.into() });
    }
    let mut seen: Vec<&[u8]> = Vec::new();
    for index in 0..usize::from(count) {
        let Some(entry) = item(table, 32 + index * 32) else {
            break;
        };
        let known = seen.contains(&entry.id);
        findings.add_if(known, Problem::Contradiction { what: "a metadata item that is there twice" });
        if known {
            return;
        }
        seen.push(entry.id);
        judge_item(&entry, region, findings);
    }
    findings.add_if(!seen.contains(&&FILE_PARAMETERS[..]), Problem::Truncated { what: "the file parameters" });
    findings.size_not_zero();
}

fn item(table: &[u8], at: usize) -> Option<Entry<'_>> {
    let bytes = slice(table, at, 32)?;
    Some(Entry { id: &bytes[..16], offset: u64::from(le32(bytes, 16)?), length: u64::from(le32(bytes, 20)?), flags: le32(bytes, 24)? })
}

fn judge_item(entry: &Entry<'_>, region: &[u8], findings: &mut Findings<'_>) {
    let at = usize::try_from(entry.offset).ok().filter(|at| *at >= KIB64);
    let data = at.and_then(|at| slice(region, at, entry.length.min(8) as usize));
    let known = [VIRTUAL_SIZE, FILE_PARAMETERS, LOGICAL_SECTOR, PHYSICAL_SECTOR, PAGE_83];
    if entry.id == PARENT_LOCATOR {
        return findings.add(Problem::Parent);
    }
    if !known.iter().any(|id| entry.id == id) {
        return findings.add_if(entry.flags & REQUIRED != 0, Problem::UnknownPart { what: "a required metadata item" });
    }
    let Some(data) = data else {
        return findings.add(Problem::Misplaced { what: "a metadata item", offset: entry.offset });
    };
    match entry.id {
        id if id == VIRTUAL_SIZE => match le64(data, 0) {
            Some(size) => findings.size(size),
            None => findings.add(Problem::Truncated { what: "the virtual disk size" }),
        },
        id if id == FILE_PARAMETERS => file_parameters(data, findings),
        id if id == LOGICAL_SECTOR || id == PHYSICAL_SECTOR => {
            let sector = le32(data, 0).unwrap_or(0);
            findings.field(matches!(sector, 512 | 4096), "the sector size", sector.into());
        }
        _ => {}
    }
}

fn file_parameters(data: &[u8], findings: &mut Findings<'_>) {
    let block = u64::from(le32(data, 0).unwrap_or(0));
    findings.field(block.is_power_of_two() && (MIB..=256 * MIB).contains(&block), "the vhdx block size", block);
    let parent = le32(data, 4).is_none_or(|flags| flags & HAS_PARENT != 0);
    findings.add_if(parent, Problem::Parent);
}

/// CRC-32C of `bytes` with the four bytes at `hole` taken as zero.
fn crc32c_without(bytes: &[u8], hole: usize) -> u32 {
    let mut crc = u32::MAX;
    for (index, byte) in bytes.iter().enumerate() {
        let byte = if (hole..hole + 4).contains(&index) { 0 } else { *byte };
        crc = (crc >> 8) ^ CRC32C[usize::from(byte ^ crc as u8)];
    }
    !crc
}

const CRC32C: [u32; 256] = crc32c_table();

const fn crc32c_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_known_answer() {
        assert_eq!(crc32c_without(b"123456789", 100), 0xe306_9283);
        assert_eq!(crc32c_without(b"ab\x01\x02\x03\x04", 2), crc32c_without(b"ab\0\0\0\0", 2));
    }
}
