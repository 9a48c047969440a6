//! Microsoft's VHD: fixed (a plain disk with a footer) and dynamic. All numbers are big-endian.
//!
//! The footer is the last 512 bytes; a dynamic disk has a copy of it at the start, which most readers prefer, so both
//! must say the same. Differencing disks name their parent and are refused.

use crate::bytes::{all_zero, be16, be32, be64, has, slice};
use crate::evidence::Evidence;
use crate::findings::Findings;
use crate::problem::Problem;

const FOOTER: usize = 512;
const DYNAMIC_HEADER: usize = 1024;
const FIXED: u32 = 2;
const DYNAMIC: u32 = 3;
const DIFFERENCING: u32 = 4;
const COOKIE: &[u8] = b"conectix";
const MAX_BLOCK: u64 = 256 << 20;
const MAX_TABLE_BYTES: u64 = 64 << 20;
/// A geometry this large only says "larger than CHS can tell".
const CHS_FULL: u64 = 65_535 * 16 * 255;

pub(crate) fn judge(evidence: &Evidence, findings: &mut Findings<'_>) {
    let at_start = slice(&evidence.head, 0, FOOTER).filter(|bytes| has(bytes, 0, COOKIE));
    let at_end = evidence.before_end(FOOTER, FOOTER).filter(|bytes| has(bytes, 0, COOKIE));
    let Some(footer) = at_end else {
        return findings.add(Problem::Truncated { what: "the vhd footer" });
    };
    let kind = be32(footer, 60).unwrap_or(0);
    checksum(footer, 64, "the vhd footer", findings);
    sizes(footer, findings);
    match kind {
        FIXED => fixed(at_start.is_some(), findings),
        DYNAMIC | DIFFERENCING => {
            let same = at_start == Some(footer);
            findings.add_if(!same, Problem::Contradiction { what: "the two vhd footers" });
            findings.add_if(kind == DIFFERENCING, Problem::Parent);
            dynamic(footer, evidence, findings);
        }
        other => findings.field(false, "the vhd disk type", other.into()),
    }
}

/// Readers take the size from one of two fields, depending on who wrote the file: count the larger.
fn sizes(footer: &[u8], findings: &mut Findings<'_>) {
    let current = be64(footer, 48).unwrap_or(0);
    let cylinders = u64::from(be16(footer, 56).unwrap_or(0));
    let heads_and_sectors = be16(footer, 58).unwrap_or(0).to_be_bytes();
    let sectors = cylinders * u64::from(heads_and_sectors[0]) * u64::from(heads_and_sectors[1]);
    let geometry = if sectors >= CHS_FULL { 0 } else { sectors * 512 };
    findings.size(current.max(geometry));
    findings.size_not_zero();
}

fn fixed(cookie_at_start: bool, findings: &mut Findings<'_>) {
    findings.add_if(cookie_at_start, Problem::Contradiction { what: "a fixed vhd with a header" });
    let size = findings.virtual_size.unwrap_or(0);
    findings.inside("the disk of a fixed vhd", 0, size.saturating_add(FOOTER as u64));
}

fn dynamic(footer: &[u8], evidence: &Evidence, findings: &mut Findings<'_>) {
    let what = "the dynamic disk header";
    let offset = be64(footer, 16).unwrap_or(u64::MAX);
    let place = usize::try_from(offset).ok().filter(|at| *at >= FOOTER);
    let Some(header) = place.and_then(|at| slice(&evidence.head, at, DYNAMIC_HEADER)) else {
        return findings.add(Problem::Misplaced { what, offset });
    };
    if !has(header, 0, b"cxsparse") {
        return findings.add(Problem::Misplaced { what, offset });
    }
    checksum(header, 36, what, findings);
    // Parent: unique id, its time stamp, its name, and where to look for it.
    let parent = [slice(header, 40, 20), slice(header, 64, 512 + 8 * 24)];
    findings.add_if(!parent.into_iter().flatten().all(all_zero), Problem::Parent);
    allocation(header, findings);
}

fn allocation(header: &[u8], findings: &mut Findings<'_>) {
    let what = "the block allocation table";
    let entries = u64::from(be32(header, 28).unwrap_or(0));
    let block = u64::from(be32(header, 32).unwrap_or(0));
    let sane = block.is_power_of_two() && (4096..=MAX_BLOCK).contains(&block);
    findings.field(sane, "the vhd block size", block);
    findings.add_if(entries * 4 > MAX_TABLE_BYTES, Problem::TableTooLarge { what, length: entries * 4 });
    findings.inside(what, be64(header, 16).unwrap_or(u64::MAX), entries * 4);
    let small = entries.saturating_mul(block) < findings.virtual_size.unwrap_or(0);
    findings.add_if(small, Problem::TableTooSmall { what });
}

/// The complement of the sum of all bytes but the checksum's own four.
fn checksum(bytes: &[u8], at: usize, what: &'static str, findings: &mut Findings<'_>) {
    let sum = |part: &[u8]| part.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    let own = slice(bytes, at, 4).map(sum).unwrap_or(0);
    let wanted = !(sum(bytes).wrapping_sub(own));
    findings.add_if(be32(bytes, at) != Some(wanted), Problem::Checksum { what });
}
