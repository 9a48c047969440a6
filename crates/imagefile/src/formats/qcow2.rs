//! QEMU's qcow2, versions 2 and 3. All numbers are big-endian. Layout: `docs/interop/qcow2.txt` of QEMU.
//!
//! What makes it dangerous: a backing file or an external data file is a name the reader opens, and table sizes are
//! what the reader allocates.

use super::qcow2_extensions;
use crate::bytes::{be32, be64};
use crate::evidence::Evidence;
use crate::findings::Findings;
use crate::problem::Problem;

const V2_HEADER: u32 = 72;
const V3_HEADER: u32 = 104;
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;
const COMPRESSION_TYPE: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;
const KNOWN_FEATURES: u64 = 0b1_1111;
const AUTOCLEAR_RAW_DATA: u64 = 1 << 1;

const MAX_L1_BYTES: u64 = 32 << 20;
const MAX_REFCOUNT_TABLE_BYTES: u64 = 8 << 20;
const MAX_SNAPSHOTS: u64 = 65_536;
const MAX_SNAPSHOT_BYTES: u64 = 16 << 20;
/// The least a snapshot table entry takes.
const SNAPSHOT_ENTRY: u64 = 40;

/// The header, with what version 2 lacks filled in.
#[derive(Debug)]
struct Header {
    backing_offset: u64,
    cluster_bits: u32,
    size: u64,
    crypt_method: u32,
    l1_entries: u64,
    l1_offset: u64,
    refcount_offset: u64,
    refcount_clusters: u64,
    snapshots: u64,
    snapshots_offset: u64,
    incompatible: u64,
    autoclear: u64,
    refcount_order: u32,
    length: u32,
    compression: u8,
}

impl Header {
    fn parse(head: &[u8], version: u32) -> Option<Self> {
        let mut header = Self {
            backing_offset: be64(head, 8)?,
            cluster_bits: be32(head, 20)?,
            size: be64(head, 24)?,
            crypt_method: be32(head, 32)?,
            l1_entries: u64::from(be32(head, 36)?),
            l1_offset: be64(head, 40)?,
            refcount_offset: be64(head, 48)?,
            refcount_clusters: u64::from(be32(head, 56)?),
            snapshots: u64::from(be32(head, 60)?),
            snapshots_offset: be64(head, 64)?,
            incompatible: 0,
            autoclear: 0,
            refcount_order: 4,
            length: V2_HEADER,
            compression: 0,
        };
        if version >= 3 {
            header.incompatible = be64(head, 72)?;
            header.autoclear = be64(head, 88)?;
            header.refcount_order = be32(head, 96)?;
            header.length = be32(head, 100)?;
        }
        if header.length > V3_HEADER {
            header.compression = *head.get(104)?;
        }
        Some(header)
    }

    fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// How many bytes of the disk one entry of the L1 table covers.
    fn l1_reach(&self) -> u64 {
        let entry = if self.incompatible & EXTENDED_L2 != 0 { 16 } else { 8 };
        self.cluster() * (self.cluster() / entry)
    }
}

pub(crate) fn judge(evidence: &Evidence, findings: &mut Findings<'_>) {
    let head = &evidence.head;
    let version = be32(head, 4).unwrap_or(0);
    if !matches!(version, 2 | 3) {
        return findings.add(Problem::Field { what: "the qcow2 version", value: version.into() });
    }
    let Some(header) = Header::parse(head, version) else {
        return findings.add(Problem::Truncated { what: "the qcow2 header" });
    };
    findings.size(header.size);
    findings.size_not_zero();
    references(&header, findings);
    features(&header, findings);
    if !(9..=21).contains(&header.cluster_bits) {
        return findings.add(Problem::Field { what: "cluster_bits", value: header.cluster_bits.into() });
    }
    tables(&header, findings);
    snapshots(&header, findings);
    if header_length(&header, version, findings) {
        qcow2_extensions::judge(head, header.length, header.cluster(), findings);
    }
}

fn references(header: &Header, findings: &mut Findings<'_>) {
    findings.add_if(header.backing_offset != 0, Problem::BackingFile);
    let external = header.incompatible & EXTERNAL_DATA != 0 || header.autoclear & AUTOCLEAR_RAW_DATA != 0;
    findings.add_if(external, Problem::ExternalData);
}

fn features(header: &Header, findings: &mut Findings<'_>) {
    let unknown = header.incompatible & !KNOWN_FEATURES;
    findings.add_if(unknown != 0, Problem::UnknownFeatures { bits: unknown });
    findings.add_if(header.incompatible & CORRUPT != 0, Problem::Corrupt);
    findings.field(header.crypt_method <= 2, "the encryption method", header.crypt_method.into());
    if header.crypt_method != 0 {
        findings.encrypted();
    }
    findings.field(header.refcount_order <= 6, "refcount_order", header.refcount_order.into());
    let flagged = header.incompatible & COMPRESSION_TYPE != 0;
    let sound = header.compression <= 1 && flagged == (header.compression != 0);
    findings.field(sound, "the compression type", header.compression.into());
    let small = header.incompatible & EXTENDED_L2 != 0 && header.cluster_bits < 14;
    findings.field(!small, "cluster_bits with extended L2 entries", header.cluster_bits.into());
}

fn tables(header: &Header, findings: &mut Findings<'_>) {
    let l1 = header.l1_entries * 8;
    table(header, findings, "the L1 table", header.l1_offset, l1, MAX_L1_BYTES);
    let short = header.l1_entries < header.size.div_ceil(header.l1_reach());
    findings.add_if(short, Problem::TableTooSmall { what: "the L1 table" });
    let refcounts = header.refcount_clusters * header.cluster();
    let what = "the refcount table";
    table(header, findings, what, header.refcount_offset, refcounts, MAX_REFCOUNT_TABLE_BYTES);
    findings.add_if(refcounts == 0, Problem::TableTooSmall { what });
}

fn snapshots(header: &Header, findings: &mut Findings<'_>) {
    if header.snapshots == 0 {
        return;
    }
    findings.field(header.snapshots <= MAX_SNAPSHOTS, "the number of snapshots", header.snapshots);
    let least = header.snapshots * SNAPSHOT_ENTRY;
    table(header, findings, "the snapshot table", header.snapshots_offset, least, MAX_SNAPSHOT_BYTES);
}

/// A table is cluster-aligned, behind the header, inside the file and of a sane length.
fn table(header: &Header, findings: &mut Findings<'_>, what: &'static str, offset: u64, length: u64, most: u64) {
    if length == 0 {
        return;
    }
    findings.add_if(length > most, Problem::TableTooLarge { what, length });
    let placed = offset.is_multiple_of(header.cluster()) && offset >= header.cluster();
    findings.add_if(!placed, Problem::Misplaced { what, offset });
    findings.inside(what, offset, length);
}

fn header_length(header: &Header, version: u32, findings: &mut Findings<'_>) -> bool {
    let length = header.length;
    let good = version == 2 || (length >= V3_HEADER && length.is_multiple_of(8) && u64::from(length) <= header.cluster());
    findings.field(good, "the header length", length.into());
    good
}
