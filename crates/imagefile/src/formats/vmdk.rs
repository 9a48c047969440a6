//! VMware's hosted sparse extent with an embedded descriptor: `monolithicSparse` and `streamOptimized`.
//!
//! Numbers are little-endian, places are in sectors of 512 bytes. Layout: VMware's "Virtual Disk Format 5.0". What makes
//! it dangerous: the descriptor names files, and readers differ in where they look for it. So it must be where every
//! reader finds it, right behind the header.

use super::vmdk_descriptor::{self, Kind};
use crate::bytes::{has, le16, le32, le64, slice};
use crate::evidence::Evidence;
use crate::findings::Findings;
use crate::problem::{DescriptorFault, Problem};

const SECTOR: u64 = 512;
/// In place of the grain directory: look in the footer.
const AT_END: u64 = u64::MAX;
const FLAG_REDUNDANT: u32 = 1 << 1;
const FLAG_COMPRESSED: u32 = 1 << 16;
const FLAG_MARKERS: u32 = 1 << 17;
const KNOWN_FLAGS: u32 = 0b111 | FLAG_COMPRESSED | FLAG_MARKERS;
const ENTRIES: u32 = 512;
/// 256 KiB, all of it in the head that is kept; real descriptors have 20 sectors.
const MAX_DESCRIPTOR_SECTORS: u64 = 512;
const MAX_DIRECTORY_BYTES: u64 = 32 << 20;
const FOOTER_MARKER: u32 = 3;

#[derive(Debug, PartialEq, Eq)]
struct Header {
    version: u32,
    flags: u32,
    capacity: u64,
    grain: u64,
    descriptor_at: u64,
    descriptor_sectors: u64,
    entries: u32,
    redundant_directory: u64,
    directory: u64,
    line_ends: [u8; 4],
    compression: u16,
}

impl Header {
    fn parse(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            version: le32(bytes, 4)?,
            flags: le32(bytes, 8)?,
            capacity: le64(bytes, 12)?,
            grain: le64(bytes, 20)?,
            descriptor_at: le64(bytes, 28)?,
            descriptor_sectors: le64(bytes, 36)?,
            entries: le32(bytes, 44)?,
            redundant_directory: le64(bytes, 48)?,
            directory: le64(bytes, 56)?,
            line_ends: slice(bytes, 73, 4)?.try_into().ok()?,
            compression: le16(bytes, 77)?,
        })
    }

    fn directory_bytes(&self) -> u64 {
        let reach = self.grain.saturating_mul(u64::from(self.entries)).max(1);
        self.capacity.div_ceil(reach).saturating_mul(4)
    }
}

pub(crate) fn judge(evidence: &Evidence, findings: &mut Findings<'_>) {
    let whole = slice(&evidence.head, 0, SECTOR as usize);
    let Some(header) = whole.and_then(Header::parse) else {
        return findings.add(Problem::Truncated { what: "the vmdk header" });
    };
    findings.size_in(header.capacity, SECTOR);
    findings.size_not_zero();
    fields(&header, findings);
    directories(&header, evidence, findings);
    if let Some(kind) = descriptor(&header, evidence, findings) {
        let compressed = header.flags & FLAG_COMPRESSED != 0;
        let expected = if compressed { Kind::StreamOptimized } else { Kind::MonolithicSparse };
        findings.add_if(kind != expected, Problem::Contradiction { what: "compression and the descriptor's type" });
    }
}

fn fields(header: &Header, findings: &mut Findings<'_>) {
    findings.field((1..=3).contains(&header.version), "the vmdk version", header.version.into());
    let unknown = header.flags & !KNOWN_FLAGS;
    findings.add_if(unknown != 0, Problem::UnknownFeatures { bits: unknown.into() });
    let grain = header.grain;
    findings.field(grain.is_power_of_two() && (8..=4096).contains(&grain), "the grain size in sectors", grain);
    findings.field(header.entries == ENTRIES, "the number of grain table entries", header.entries.into());
    findings.add_if(header.line_ends != *b"\n \r\n", Problem::Contradiction { what: "line ends were converted" });
    let compressed = header.flags & FLAG_COMPRESSED != 0;
    let sound = header.compression == u16::from(compressed);
    findings.field(sound, "the compression algorithm", header.compression.into());
}

fn directories(header: &Header, evidence: &Evidence, findings: &mut Findings<'_>) {
    let length = header.directory_bytes();
    let what = "the grain directory";
    findings.add_if(length > MAX_DIRECTORY_BYTES, Problem::TableTooLarge { what, length });
    match header.directory {
        AT_END => footer(header, evidence, findings),
        0 => findings.add(Problem::Misplaced { what, offset: 0 }),
        at => findings.inside(what, at.saturating_mul(SECTOR), length),
    }
    if header.flags & FLAG_REDUNDANT != 0 && header.redundant_directory != 0 && header.directory != AT_END {
        let offset = header.redundant_directory.saturating_mul(SECTOR);
        findings.inside("the redundant grain directory", offset, length);
    }
}

/// The footer is a second header with the real place of the grain directory; readers take all of it, so all of the
/// rest must be the same.
fn footer(header: &Header, evidence: &Evidence, findings: &mut Findings<'_>) {
    let marker = evidence.before_end(1536, 512).is_some_and(|bytes| le32(bytes, 12) == Some(FOOTER_MARKER));
    let bytes = evidence.before_end(1024, 512).filter(|bytes| marker && has(bytes, 0, b"KDMV"));
    let Some(footer) = bytes.and_then(Header::parse) else {
        return findings.add(Problem::Truncated { what: "the vmdk footer" });
    };
    let directory = footer.directory;
    let what = "the grain directory";
    findings.add_if(directory == AT_END || directory == 0, Problem::Misplaced { what, offset: directory });
    findings.inside(what, directory.saturating_mul(SECTOR), header.directory_bytes());
    let same = Header { directory: AT_END, redundant_directory: header.redundant_directory, ..footer } == *header;
    findings.add_if(!same, Problem::Contradiction { what: "vmdk header and footer" });
}

fn descriptor(header: &Header, evidence: &Evidence, findings: &mut Findings<'_>) -> Option<Kind> {
    let what = "the embedded descriptor";
    if header.descriptor_at == 0 || header.descriptor_sectors == 0 {
        findings.add(Problem::NoDescriptor);
        return None;
    }
    let offset = header.descriptor_at.saturating_mul(SECTOR);
    let length = header.descriptor_sectors.saturating_mul(SECTOR);
    findings.inside(what, offset, length);
    if header.descriptor_sectors > MAX_DESCRIPTOR_SECTORS {
        findings.add(Problem::TableTooLarge { what, length });
        return None;
    }
    if header.descriptor_at != 1 {
        findings.add(Problem::Misplaced { what, offset });
        return None;
    }
    let bytes = slice(&evidence.head, SECTOR as usize, length as usize)?;
    let (kind, faults) = vmdk_descriptor::judge(bytes, header.capacity, header.grain);
    findings.problems.extend(faults.into_iter().map(Problem::from).map(parent_is_parent));
    kind
}

/// Being a child is the same refusal in every format.
fn parent_is_parent(problem: Problem) -> Problem {
    match problem {
        Problem::Descriptor(DescriptorFault::Parent) => Problem::Parent,
        other => other,
    }
}
