//! VirtualBox's VDI. Numbers are little-endian. One block map, then the blocks; a child names its parent by id.

use crate::bytes::{all_zero, le32, le64, slice};
use crate::evidence::Evidence;
use crate::findings::Findings;
use crate::problem::Problem;

const HEADER: usize = 0x1c8;
const VERSION: u32 = 0x0001_0001;
const DYNAMIC: u32 = 1;
const STATIC: u32 = 2;
const MAX_BLOCK: u64 = 64 << 20;
const MAX_MAP_BYTES: u64 = 128 << 20;

pub(crate) fn judge(evidence: &Evidence, findings: &mut Findings<'_>) {
    let Some(header) = slice(&evidence.head, 0, HEADER) else {
        return findings.add(Problem::Truncated { what: "the vdi header" });
    };
    let version = le32(header, 0x44).unwrap_or(0);
    findings.field(version == VERSION, "the vdi version", version.into());
    findings.size(le64(header, 0x170).unwrap_or(0));
    findings.size_not_zero();
    let sector = le32(header, 0x168).unwrap_or(0);
    findings.field(sector == 512, "the sector size", sector.into());
    kind(header, findings);
    map(header, findings);
}

/// Types 3 and 4 are undo and difference images; the ids at the end belong to the parent and to its last change.
fn kind(header: &[u8], findings: &mut Findings<'_>) {
    match le32(header, 0x4c).unwrap_or(0) {
        DYNAMIC | STATIC => {}
        3 | 4 => findings.add(Problem::Parent),
        other => findings.field(false, "the vdi image type", other.into()),
    }
    let parents = slice(header, 0x1a8, 32).unwrap_or_default();
    findings.add_if(!all_zero(parents) && !findings.problems.contains(&Problem::Parent), Problem::Parent);
}

fn map(header: &[u8], findings: &mut Findings<'_>) {
    let what = "the block map";
    let number = |at| u64::from(le32(header, at).unwrap_or(0));
    let (map_at, data_at, block) = (number(0x154), number(0x158), number(0x178));
    let (blocks, allocated) = (number(0x180), number(0x184));
    let sane = block.is_power_of_two() && (4096..=MAX_BLOCK).contains(&block);
    findings.field(sane, "the vdi block size", block);
    findings.field(number(0x17c) == 0, "the extra data per block", number(0x17c));
    findings.add_if(blocks * 4 > MAX_MAP_BYTES, Problem::TableTooLarge { what, length: blocks * 4 });
    findings.add_if((map_at as usize) < HEADER, Problem::Misplaced { what, offset: map_at });
    findings.inside(what, map_at, blocks * 4);
    let small = blocks * block < findings.virtual_size.unwrap_or(0);
    findings.add_if(small, Problem::TableTooSmall { what });
    let behind = data_at >= map_at.saturating_add(blocks * 4);
    findings.add_if(!behind, Problem::Misplaced { what: "the vdi data", offset: data_at });
    findings.field(allocated <= blocks, "the number of allocated blocks", allocated);
    findings.inside("the vdi data", data_at, allocated.saturating_mul(block));
}
