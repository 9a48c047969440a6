//! One row per refusal: a file that is refused for exactly that, and a near miss that is accepted.

use unkai_imagefile::Container::{self, Qcow2, Vmdk};
use unkai_imagefile::DescriptorFault as Fault;
use unkai_imagefile::DiskFormat::{self, Aki, Ami, Ari, Raw};
use unkai_imagefile::{Detected, DiskFormat as Format, Policy, Problem, Refusal, check};

use crate::builders::{self as b, DISK, Image, Vhdx};
use crate::{inspect, inspect_in};

pub enum Why {
    Problem(Problem),
    Mismatch(Detected),
    Ambiguous,
}

pub struct Row {
    pub name: &'static str,
    pub declared: DiskFormat,
    pub hostile: Image,
    pub why: Why,
    pub near: Image,
}

fn row(name: &'static str, declared: DiskFormat, hostile: Image, problem: Problem, near: Image) -> Row {
    Row { name, declared, hostile, why: Why::Problem(problem), near }
}

fn not(name: &'static str, declared: DiskFormat, hostile: Image, found: Container, near: Image) -> Row {
    Row { name, declared, hostile, why: Why::Mismatch(Detected::Container(found)), near }
}

fn misplaced(what: &'static str, offset: u64) -> Problem {
    Problem::Misplaced { what, offset }
}

fn outside(what: &'static str, offset: u64, length: u64) -> Problem {
    Problem::OutOfFile { what, offset, length }
}

fn field(what: &'static str, value: u64) -> Problem {
    Problem::Field { what, value }
}

fn too_big(size: u64) -> Problem {
    Problem::VirtualSize { size, limit: Policy::default().max_virtual_size }
}

fn qcow2() -> Vec<Row> {
    let q = b::qcow2;
    let ext = |kind, data: &[u8]| b::extension(q(), kind, data);
    let endless = (0..40).fold(q(), |image, index| image.be32(112 + index * 8, 7));
    let list = |detail| Problem::HeaderExtension { detail };
    vec![
        row("backing", Format::Qcow2, q().be64(8, 512).be32(16, 11).put(512, b"/etc/passwd"), Problem::BackingFile, q().be32(16, 11)),
        row("backing-v2", Format::Qcow2, b::qcow2_v2().be64(8, 512), Problem::BackingFile, b::qcow2_v2()),
        row("data-file-bit", Format::Qcow2, q().be64(72, 4), Problem::ExternalData, q().be64(72, 1)),
        row("data-file-name", Format::Qcow2, ext(0x4441_5441, b"/etc/shadow"), Problem::ExternalData, ext(0x4441_5442, b"/etc/shadow")),
        row("raw-data-autoclear", Format::Qcow2, q().be64(88, 2), Problem::ExternalData, q().be64(88, 1)),
        row("unknown-feature", Format::Qcow2, q().be64(72, 1 << 40), Problem::UnknownFeatures { bits: 1 << 40 }, q().be64(80, 1 << 40)),
        row("corrupt", Format::Qcow2, q().be64(72, 2), Problem::Corrupt, q().be64(72, 16)),
        row("version-4", Format::Qcow2, q().be32(4, 4), field("the qcow2 version", 4), b::qcow2_v2()),
        row("aes", Format::Qcow2, q().be32(32, 1), Problem::Encrypted, q().be32(32, 0)),
        row("luks-inside", Format::Qcow2, q().be32(32, 2), Problem::Encrypted, q()),
        row("crypt-pointer", Format::Qcow2, ext(0x0537_be77, &[0; 16]), Problem::Encrypted, ext(0x6803_f857, &[0; 16])),
        row("unknown-crypt", Format::Qcow2, q().be32(32, 9), field("the encryption method", 9), q()),
        row("size-cap", Format::Qcow2, q().be64(24, (16 << 40) + 512), too_big((16 << 40) + 512), q().be64(24, 512 << 20)),
        row("size-overflow", Format::Qcow2, q().be64(24, u64::MAX), too_big(u64::MAX), q().be64(24, 1)),
        row("size-zero", Format::Qcow2, q().be64(24, 0), Problem::NoVirtualSize, q().be64(24, 512)),
        row("cluster-bits", Format::Qcow2, q().be32(20, 63), field("cluster_bits", 63), q().be32(20, 15)),
        row(
            "l1-absurd",
            Format::Qcow2,
            q().be32(36, u32::MAX),
            Problem::TableTooLarge { what: "the L1 table", length: u64::from(u32::MAX) * 8 },
            q(),
        ),
        row("l1-outside", Format::Qcow2, q().be64(40, 0x40000), outside("the L1 table", 0x40000, 8), q()),
        row("l1-overflow", Format::Qcow2, q().be64(40, u64::MAX - 0xffff), outside("the L1 table", u64::MAX - 0xffff, 8), q()),
        row("l1-cut", Format::Qcow2, q().cut(0x30007), outside("the L1 table", 0x30000, 8), q()),
        row("l1-unaligned", Format::Qcow2, q().be64(40, 0x20200), misplaced("the L1 table", 0x20200), q().be64(40, 0x20000)),
        row("l1-on-header", Format::Qcow2, q().be64(40, 0), misplaced("the L1 table", 0), q()),
        row(
            "l1-small",
            Format::Qcow2,
            q().be64(24, (512 << 20) + 1),
            Problem::TableTooSmall { what: "the L1 table" },
            q().be64(24, 512 << 20),
        ),
        row(
            "refcounts-absurd",
            Format::Qcow2,
            q().be32(56, 129),
            Problem::TableTooLarge { what: "the refcount table", length: 129 << 16 },
            q(),
        ),
        row("refcounts-outside", Format::Qcow2, q().be32(56, 3), outside("the refcount table", 0x10000, 0x30000), q().be32(56, 2)),
        row("refcounts-none", Format::Qcow2, q().be32(56, 0), Problem::TableTooSmall { what: "the refcount table" }, q()),
        row("refcount-order", Format::Qcow2, q().be32(96, 7), field("refcount_order", 7), q().be32(96, 6)),
        row(
            "snapshots-outside",
            Format::Qcow2,
            q().be32(60, 1).be64(64, 0x40000),
            outside("the snapshot table", 0x40000, 40),
            q().be32(60, 1).be64(64, 0x20000),
        ),
        row("snapshots-many", Format::Qcow2, q().be32(60, 65_537).be64(64, 0x20000), field("the number of snapshots", 65_537), q()),
        row("header-length", Format::Qcow2, q().be32(100, 0x1_0008), field("the header length", 0x1_0008), q().be32(100, 104)),
        row(
            "extension-length",
            Format::Qcow2,
            q().be32(112, 7).be32(116, u32::MAX),
            list("one is longer than the header"),
            ext(7, &[1; 900]),
        ),
        row("extensions-endless", Format::Qcow2, endless, list("there are too many"), ext(7, &[])),
        row("extension-list-cut", Format::Qcow2, ext(7, &[]).be32(20, 21), list("the list does not end"), q()).cut_list(),
        row(
            "bitmaps-outside",
            Format::Qcow2,
            ext(0x2385_2875, &[0xff; 24]),
            outside("the bitmap directory", u64::MAX, u64::MAX),
            ext(0x2385_2875, &[0; 24]),
        ),
        row("bitmaps-short", Format::Qcow2, ext(0x2385_2875, &[0; 8]), list("the bitmap extension is too short"), q()),
        row("compression", Format::Qcow2, q().put(104, &[9]).be64(72, 8), field("the compression type", 9), q().put(104, &[1]).be64(72, 8)),
        row("compression-unflagged", Format::Qcow2, q().put(104, &[1]), field("the compression type", 1), q()),
        row(
            "extended-l2",
            Format::Qcow2,
            q().be64(72, 16).be32(20, 13),
            field("cluster_bits with extended L2 entries", 13),
            q().be64(72, 16).be32(20, 14),
        ),
        row("cut-header", Format::Qcow2, q().cut(100), Problem::Truncated { what: "the qcow2 header" }, q()),
    ]
}

impl Row {
    /// The list must run into the end of the file: cut it right behind the first entry.
    fn cut_list(mut self) -> Self {
        self.hostile = self.hostile.cut(120);
        self
    }
}

fn vmdk() -> Vec<Row> {
    let v = b::vmdk;
    let text = |extent| b::vmdk_text("monolithicSparse", extent);
    let fault = |name, hostile, fault: Fault, near| row(name, Format::Vmdk, hostile, fault.into(), near);
    let parent = b::descriptor("monolithicSparse", b::EXTENT).replace("ffffffff", "0000000a");
    let hint = format!("{}\nparentFileNameHint=\"/etc/passwd\"", b::EXTENT);
    let two = format!("{}\nRW 32768 SPARSE \"b.vmdk\"", b::EXTENT);
    let names = |name: &str| Fault::ExtentName(name.into());
    let footer = b::vmdk_footer;
    let end = footer().0.len();
    vec![
        fault("vmdk-flat", text("RW 32768 FLAT \"/dev/sda\" 0"), Fault::ExtentKind("FLAT".into()), text("RW 32768 SPARSE \"dev-sda\" 0")),
        fault("vmdk-vmfs", text("RW 32768 VMFS \"a-flat.vmdk\""), Fault::ExtentKind("VMFS".into()), v()),
        fault("vmdk-device", text("RW 32768 VMFSRDM \"x\""), Fault::ExtentKind("VMFSRDM".into()), v()),
        fault("vmdk-absolute", text("RW 32768 SPARSE \"/etc/shadow\""), names("/etc/shadow"), text("RW 32768 SPARSE \"etc-shadow\"")),
        fault("vmdk-up", text("RW 32768 SPARSE \"..\""), names(".."), text("RW 32768 SPARSE \"a.b.vmdk\"")),
        fault("vmdk-windows", text("RW 32768 SPARSE \"C:\\x\""), names("C:\\x"), v()),
        fault("vmdk-protocol", text("RW 32768 SPARSE \"nbd:host:1\""), names("nbd:host:1"), v()),
        fault("vmdk-two-extents", text(&two), Fault::Extents(2), v()),
        fault("vmdk-no-extent", text(""), Fault::Extents(0), v()),
        fault("vmdk-type-flat", b::vmdk_text("monolithicFlat", b::EXTENT), Fault::CreateType("monolithicFlat".into()), v()),
        fault("vmdk-type-split", b::vmdk_text("twoGbMaxExtentSparse", b::EXTENT), Fault::CreateType("twoGbMaxExtentSparse".into()), v()),
        fault("vmdk-hint", text(&hint), Fault::NamesFile("parentfilenamehint".into()), text("# a hint\nRW 32768 SPARSE \"a\"")),
        fault("vmdk-hidden", v().put(0x2000, b"parentFileNameHint=\"/x\""), Fault::Trailing, v().put(0x2a00, b"grain")),
        fault("vmdk-extent-size", text("RW 99999 SPARSE \"a\""), Fault::ExtentSize, text("RW 32760 SPARSE \"a\"")),
        fault("vmdk-no-title", v().put(512, b"x"), Fault::Header, v()),
        row("vmdk-parent", Format::Vmdk, v().put(512, parent.as_bytes()), Problem::Parent, v()),
        row("vmdk-split-part", Format::Vmdk, v().le64(28, 0).le64(36, 0), Problem::NoDescriptor, v()),
        row("vmdk-elsewhere", Format::Vmdk, v().le64(28, 2), misplaced("the embedded descriptor", 1024), v()),
        row(
            "vmdk-descriptor-huge",
            Format::Vmdk,
            v().le64(36, 1 << 60),
            Problem::TableTooLarge { what: "the embedded descriptor", length: u64::MAX },
            v(),
        ),
        row("vmdk-descriptor-outside", Format::Vmdk, v().le64(36, 200), outside("the embedded descriptor", 512, 102_400), v().le64(36, 25)),
        row("vmdk-capacity", Format::Vmdk, v().le64(12, u64::MAX), too_big(u64::MAX), v()),
        row("vmdk-empty", Format::Vmdk, v().le64(12, 0), Problem::NoVirtualSize, v()),
        row("vmdk-grain-zero", Format::Vmdk, v().le64(20, 0), field("the grain size in sectors", 0), v().le64(20, 8)),
        row("vmdk-grain-huge", Format::Vmdk, v().le64(20, 1 << 40), field("the grain size in sectors", 1 << 40), v().le64(20, 4096)),
        row("vmdk-grain-odd", Format::Vmdk, v().le64(20, 100), field("the grain size in sectors", 100), v()),
        row("vmdk-entries", Format::Vmdk, v().le32(44, 1 << 30), field("the number of grain table entries", 1 << 30), v()),
        row("vmdk-version", Format::Vmdk, v().le32(4, 9), field("the vmdk version", 9), v().le32(4, 2)),
        row("vmdk-flags", Format::Vmdk, v().le32(8, 1 << 20), Problem::UnknownFeatures { bits: 1 << 20 }, v().le32(8, 7)),
        row("vmdk-line-ends", Format::Vmdk, v().put(73, b"\n \n\n"), Problem::Contradiction { what: "line ends were converted" }, v()),
        row("vmdk-compression", Format::Vmdk, v().le16(77, 1), field("the compression algorithm", 1), b::vmdk_stream()),
        row(
            "vmdk-type-lies",
            Format::Vmdk,
            b::vmdk_text("streamOptimized", b::EXTENT),
            Problem::Contradiction { what: "compression and the descriptor's type" },
            b::vmdk_stream(),
        ),
        row("vmdk-directory-outside", Format::Vmdk, v().le64(56, 128), outside("the grain directory", 65_536, 4), v().le64(56, 127)),
        row("vmdk-directory-overflow", Format::Vmdk, v().le64(56, u64::MAX - 1), outside("the grain directory", u64::MAX, 4), v()),
        row("vmdk-directory-none", Format::Vmdk, v().le64(56, 0), misplaced("the grain directory", 0), v()),
        row(
            "vmdk-spare-outside",
            Format::Vmdk,
            v().le64(48, 500),
            outside("the redundant grain directory", 256_000, 4),
            v().le32(8, 1).le64(48, 500),
        ),
        row("vmdk-footer-missing", Format::Vmdk, footer().cut(end - 1), Problem::Truncated { what: "the vmdk footer" }, footer()),
        row(
            "vmdk-footer-lies",
            Format::Vmdk,
            footer().le64(end - 1024 + 28, 7),
            Problem::Contradiction { what: "vmdk header and footer" },
            footer(),
        ),
        row(
            "vmdk-footer-loops",
            Format::Vmdk,
            footer().le64(end - 1024 + 56, u64::MAX),
            misplaced("the grain directory", u64::MAX),
            footer(),
        ),
        row("vmdk-cut", Format::Vmdk, v().cut(300), Problem::Truncated { what: "the vmdk header" }, v()),
    ]
}

fn vhd() -> Vec<Row> {
    let v = b::vhd;
    let both = |at: usize, value: u64| {
        let image = v().be64(at, value).be64(2048 + at, value);
        image.vhd_sum(0, 512, 64).vhd_sum(2048, 512, 64)
    };
    let header = |image: Image| image.vhd_sum(512, 1024, 36);
    vec![
        row("vhd-differencing", Format::Vhd, b::vhd_of(4, DISK), Problem::Parent, v()),
        row("vhd-parent-name", Format::Vhd, header(v().put(512 + 64, b"\0p")), Problem::Parent, v()),
        row("vhd-type", Format::Vhd, b::vhd_of(6, DISK), field("the vhd disk type", 6), v()),
        row("vhd-footers-differ", Format::Vhd, v().put(100, b"x"), Problem::Contradiction { what: "the two vhd footers" }, v()),
        row("vhd-footer-gone", Format::Vhd, v().cut(2048), Problem::Truncated { what: "the vhd footer" }, v()),
        row("vhd-checksum", Format::Vhd, v().put(2048 + 68, b"x"), Problem::Checksum { what: "the vhd footer" }, v()),
        row("vhd-header-checksum", Format::Vhd, v().put(512 + 900, b"x"), Problem::Checksum { what: "the dynamic disk header" }, v()),
        row("vhd-header-elsewhere", Format::Vhd, both(16, 1 << 40), misplaced("the dynamic disk header", 1 << 40), v()),
        row("vhd-size", Format::Vhd, b::vhd_of(3, u64::MAX), too_big(u64::MAX), b::vhd_of(3, 18 << 20)),
        row(
            "vhd-table-small",
            Format::Vhd,
            b::vhd_of(3, 19 << 20),
            Problem::TableTooSmall { what: "the block allocation table" },
            b::vhd_of(3, 18 << 20),
        ),
        row(
            "vhd-table-huge",
            Format::Vhd,
            header(v().be32(540, u32::MAX)),
            Problem::TableTooLarge { what: "the block allocation table", length: u64::from(u32::MAX) * 4 },
            v(),
        ),
        row("vhd-table-outside", Format::Vhd, header(v().be64(528, 1 << 50)), outside("the block allocation table", 1 << 50, 36), v()),
        row("vhd-block", Format::Vhd, header(v().be32(544, 3 << 20)), field("the vhd block size", 3 << 20), header(v().be32(544, 4 << 20))),
        row(
            "vhd-fixed-cut",
            Format::Vhd,
            Image(b::vhd_fixed().0.split_off(1024)),
            outside("the disk of a fixed vhd", 0, DISK + 512),
            b::vhd_fixed(),
        ),
        row(
            "vhd-fixed-header",
            Format::Vhd,
            b::vhd_fixed().put(0, b"conectix"),
            Problem::Contradiction { what: "a fixed vhd with a header" },
            b::vhd_fixed(),
        ),
    ]
}

fn vdi() -> Vec<Row> {
    let v = b::vdi;
    vec![
        row("vdi-diff", Format::Vdi, v().le32(0x4c, 4), Problem::Parent, v().le32(0x4c, 2)),
        row("vdi-link", Format::Vdi, v().put(0x1a8, &[1; 16]), Problem::Parent, v().put(0x188, &[1; 32])),
        row("vdi-parent", Format::Vdi, v().put(0x1b8, &[1; 16]), Problem::Parent, v()),
        row("vdi-type", Format::Vdi, v().le32(0x4c, 9), field("the vdi image type", 9), v()),
        row("vdi-version", Format::Vdi, v().le32(0x44, 1), field("the vdi version", 1), v()),
        row("vdi-sector", Format::Vdi, v().le32(0x168, 4096), field("the sector size", 4096), v()),
        row("vdi-block", Format::Vdi, v().le32(0x178, 0), field("the vdi block size", 0), v()),
        row(
            "vdi-map-huge",
            Format::Vdi,
            v().le32(0x180, u32::MAX),
            Problem::TableTooLarge { what: "the block map", length: u64::from(u32::MAX) * 4 },
            v(),
        ),
        row("vdi-map-small", Format::Vdi, v().le32(0x180, 15), Problem::TableTooSmall { what: "the block map" }, v().le32(0x180, 17)),
        row("vdi-map-on-header", Format::Vdi, v().le32(0x154, 0), misplaced("the block map", 0), v()),
        row("vdi-data-on-map", Format::Vdi, v().le32(0x158, 520), misplaced("the vdi data", 520), v().le32(0x158, 576)),
        row(
            "vdi-cut",
            Format::Vdi,
            v().le32(0x184, 1),
            outside("the vdi data", 1024, 1 << 20),
            v().le32(0x184, 1).put(1024 + (1 << 20) - 1, &[1]),
        ),
        row("vdi-size", Format::Vdi, v().le64(0x170, 1 << 60), too_big(1 << 60), v()),
        row("vdi-short", Format::Vdi, v().cut(300), Problem::Truncated { what: "the vdi header" }, v()),
    ]
}

fn vhdx() -> Vec<Row> {
    let v = || Vhdx::default().build();
    let with = |change: fn(&mut Vhdx)| {
        let mut parts = Vhdx::default();
        change(&mut parts);
        parts.build()
    };
    vec![
        row("vhdx-parent", Format::Vhdx, with(|x| x.flags = 2), Problem::Parent, with(|x| x.flags = 1)),
        row(
            "vhdx-locator",
            Format::Vhdx,
            with(|x| x.extra_item = Some((b::PARENT_LOCATOR, 0))),
            Problem::Parent,
            with(|x| x.extra_item = Some(([8; 16], 0))),
        ),
        row(
            "vhdx-item",
            Format::Vhdx,
            with(|x| x.extra_item = Some(([8; 16], 4))),
            Problem::UnknownPart { what: "a required metadata item" },
            v(),
        ),
        row(
            "vhdx-region",
            Format::Vhdx,
            with(|x| x.extra_region = Some(1)),
            Problem::UnknownPart { what: "a required region" },
            with(|x| x.extra_region = Some(0)),
        ),
        row("vhdx-log", Format::Vhdx, with(|x| x.log_used = true), Problem::DirtyLog, v()),
        row("vhdx-version", Format::Vhdx, with(|x| x.version = 2), field("the vhdx version", 2), v()),
        row("vhdx-block", Format::Vhdx, with(|x| x.block = 3), field("the vhdx block size", 3), with(|x| x.block = 32 << 20)),
        row("vhdx-size", Format::Vhdx, with(|x| x.size = 1 << 62), too_big(1 << 62), with(|x| x.size = 1 << 40)),
        row("vhdx-size-zero", Format::Vhdx, with(|x| x.size = 0), Problem::NoVirtualSize, v()),
        row("vhdx-meta-low", Format::Vhdx, with(|x| x.meta_at = 0), misplaced("the metadata region", 0), v()),
        row("vhdx-meta-outside", Format::Vhdx, with(|x| x.meta_at = 1 << 62), outside("the metadata region", 1 << 62, 1 << 20), v()),
        row(
            "vhdx-regions-crc",
            Format::Vhdx,
            v().put(0x30100, b"x").put(0x40100, b"x"),
            Problem::Checksum { what: "the region tables" },
            v().put(0x30100, b"x"),
        ),
        row(
            "vhdx-regions-differ",
            Format::Vhdx,
            v().put(0x40100, b"x").crc(0x40000, 0x10000),
            Problem::Contradiction { what: "the two region tables" },
            v(),
        ),
        row(
            "vhdx-headers-crc",
            Format::Vhdx,
            v().put(0x10100, b"x").put(0x20100, b"x"),
            Problem::Checksum { what: "both vhdx headers" },
            v().put(0x10100, b"x"),
        ),
        row(
            "vhdx-twice",
            Format::Vhdx,
            v().put(b::META + 64, &v().0[b::META + 32..b::META + 48]),
            Problem::Contradiction { what: "a metadata item that is there twice" },
            v(),
        ),
        row("vhdx-cut", Format::Vhdx, v().cut(0x50000), Problem::Checksum { what: "the region tables" }, v()).cut_regions(),
    ]
}

impl Row {
    /// Cut inside the region tables.
    fn cut_regions(mut self) -> Self {
        self.hostile = self.hostile.cut(0x38000);
        self
    }
}

fn iso() -> Vec<Row> {
    let at = 32 << 10;
    let i = b::iso;
    vec![
        row("iso-cut", Format::Iso, i().cut(36 * 2048), outside("the iso volume", 0, 40 * 2048), i().put(90 * 2048, &[0])),
        row(
            "iso-orders",
            Format::Iso,
            i().be32(at + 84, 41),
            Problem::Contradiction { what: "the two byte orders of the volume size" },
            i(),
        ),
        row("iso-block", Format::Iso, i().le16(at + 128, 0).be16(at + 130, 0), field("the logical block size", 0), i()),
        row("iso-version", Format::Iso, i().put(at + 6, &[2]), field("the volume descriptor version", 2), i().put(510, &[0x55, 0xaa])),
        Row { name: "iso-none", declared: Format::Iso, hostile: i().put(at + 1, b"CD002"), why: Why::Mismatch(Detected::Raw), near: i() },
    ]
}

/// Files that are not what they are declared to be.
fn disguises() -> Vec<Row> {
    let raw = b::raw;
    let text = b::descriptor("monolithicFlat", "RW 32768 FLAT \"/etc/passwd\" 0");
    let commented = format!("#!/bin/sh\n\n# harmless\n{}", text.replace("# Disk DescriptorFile\n", ""));
    let koly = raw().at_end(512, b"koly\0\0\0\x04\0\0\x02\0");
    vec![
        not("raw-qcow2", Raw, b::qcow2(), Qcow2, b::qcow2().put(0, b"QFJ")),
        not("raw-qcow2-backing", Raw, b::qcow2().be64(8, 512), Qcow2, raw()),
        not("raw-qcow1", Raw, raw().put(0, b"QFI\xfb\0\0\0\x01"), Container::Qcow1, raw().put(1, b"QFI\xfb\0\0\0\x01")),
        not("raw-qed", Raw, raw().put(0, b"QED\0"), Container::Qed, raw().put(0, b"QED").put(3, b"!")),
        not("raw-vmdk", Raw, b::vmdk(), Vmdk, b::vmdk().put(0, b"K").put(1, b"X")),
        not("raw-cowd", Raw, raw().put(0, b"COWD"), Container::VmdkCowd, raw().put(0, b"COWS")),
        not("raw-sesparse", Raw, raw().le64(0, 0xcafe_babe), Container::VmdkSeSparse, raw().le64(0, 0xcafe_babf)),
        not("raw-vmdk-text", Raw, Image(text.clone().into_bytes()), Container::VmdkDescriptor, Image(b"# Disk description\n".to_vec())),
        not(
            "raw-vmdk-commented",
            Raw,
            Image(commented.into_bytes()),
            Container::VmdkDescriptor,
            Image(b"#!/bin/sh\necho version=1\n".to_vec()),
        ),
        not("vmdk-text-only", Format::Vmdk, Image(text.into_bytes()), Container::VmdkDescriptor, b::vmdk()),
        not("raw-vdi", Raw, b::vdi(), Container::Vdi, b::vdi().le32(0x40, 1)),
        not("raw-vhdx", Raw, b::vhdx(), Container::Vhdx, b::vhdx().put(0, b"V")),
        not("raw-vhd", Raw, b::vhd(), Container::Vhd, b::vhd().put(0, b"C").put(2048, b"C")),
        not("raw-vhd-fixed", Raw, b::vhd_fixed(), Container::Vhd, b::vhd_fixed().put(DISK as usize + 512, &[0])),
        not("raw-parallels", Raw, raw().put(0, b"WithoutFreeSpace"), Container::Parallels, raw().put(0, b"WithoutFreeSpaces").put(0, b"w")),
        not("raw-luks", Raw, raw().put(0, b"LUKS\xba\xbe"), Container::Luks, raw().put(0, b"LUKS\0\0")),
        not("raw-bochs", Raw, raw().put(0, b"Bochs Virtual HD Image"), Container::Bochs, raw().put(0, b"Bochs")),
        not("raw-cloop", Raw, raw().put(0, b"#!/bin/sh\n#V2.0 Format\n"), Container::Cloop, raw().put(0, b"#!/bin/sh\n#V3.0 Format\n")),
        not("raw-dmg", Raw, koly, Container::Dmg, raw().at_end(512, b"koly")),
        not("ami-qcow2", Ami, b::qcow2(), Qcow2, raw()),
        not("aki-vmdk", Aki, b::vmdk(), Vmdk, Image(b"\x7fELF kernel".to_vec())),
        not("ari-vdi", Ari, b::vdi(), Container::Vdi, Image(b"070701 ramdisk".to_vec())),
        not("qcow2-vmdk", Format::Qcow2, b::vmdk(), Vmdk, b::qcow2()),
        not("iso-qcow2", Format::Iso, b::qcow2(), Qcow2, b::iso()),
        not("vhd-vhdx", Format::Vhd, b::vhdx(), Container::Vhdx, b::vhd()),
        Row { name: "qcow2-raw", declared: Format::Qcow2, hostile: raw(), why: Why::Mismatch(Detected::Raw), near: b::qcow2() },
        Row { name: "qcow2-empty", declared: Format::Qcow2, hostile: Image::zeros(0), why: Why::Mismatch(Detected::Raw), near: b::qcow2() },
    ]
}

fn polyglots() -> Vec<Row> {
    let ambiguous = |name, declared, hostile, near| Row { name, declared, hostile, why: Why::Ambiguous, near };
    let iso_part = b::iso().0[32 << 10..36 << 10].to_vec();
    vec![
        ambiguous("qcow2-and-iso", Format::Qcow2, b::qcow2().put(32 << 10, &iso_part), b::qcow2()),
        ambiguous("iso-and-qcow2", Format::Iso, b::iso().put(0, &b::qcow2().0[..112]), b::iso().put(510, &[0x55, 0xaa])),
        ambiguous("raw-of-two", Raw, b::iso().put(0, b"KDMV"), b::iso()),
        ambiguous("vdi-and-qcow2", Format::Vdi, b::vdi().put(0, b"QFI\xfb\0\0\0\x03"), b::vdi()),
        ambiguous("vhd-and-qcow2", Format::Vhd, b::vhd_fixed().put(0, &b::qcow2().0[..112]), b::vhd_fixed().put(0, &b::raw().0)),
        ambiguous("vmdk-and-vhd", Format::Vmdk, b::vmdk().at_end(512, b"conectix"), b::vmdk()),
    ]
}

pub fn rows() -> Vec<Row> {
    [qcow2(), vmdk(), vhd(), vdi(), vhdx(), iso(), disguises(), polyglots()].into_iter().flatten().collect()
}

#[test]
fn every_refusal_has_a_reason_and_a_near_miss() {
    for row in rows() {
        let refusal = check(row.declared, &inspect(&row.hostile.0)).expect_err(row.name);
        match (&row.why, &refusal) {
            (Why::Problem(wanted), refusal) => {
                assert!(refusal.problems().contains(wanted), "{}: wanted {wanted:?}, got {refusal:?}", row.name);
            }
            (Why::Mismatch(wanted), Refusal::Mismatch { found, .. }) => {
                assert_eq!(found, wanted, "{}", row.name)
            }
            (Why::Ambiguous, Refusal::Ambiguous { .. }) => {}
            (_, other) => panic!("{}: {other:?}", row.name),
        }
        let near = check(row.declared, &inspect(&row.near.0));
        assert!(near.is_ok(), "the near miss of {}: {near:?}", row.name);
    }
}

#[test]
fn chunks_make_no_difference() {
    let policy = Policy::default();
    let directory = tempfile::tempdir().expect("a directory");
    for row in rows() {
        let whole = inspect(&row.hostile.0);
        for sizes in [&[4093][..], &[1, 7, 65_537], &[131_072], &[3, 1 << 20]] {
            assert_eq!(inspect_in(&row.hostile.0, sizes, &policy), whole, "{} in {sizes:?}", row.name);
        }
        let path = directory.path().join(row.name);
        std::fs::write(&path, &row.hostile.0).expect("writing");
        assert_eq!(unkai_imagefile::inspect_file(&path, &policy).expect("reading"), whole, "{}", row.name);
    }
}

#[test]
fn the_policy_decides_about_size_and_encryption() {
    let encrypted = b::extension(b::qcow2().be32(32, 2), 0x0537_be77, &[0; 16]);
    let policy = Policy { allow_encrypted: true, max_virtual_size: DISK };
    assert!(check(Format::Qcow2, &inspect_in(&encrypted.0, &[4096], &policy)).is_ok());
    let tight = Policy { max_virtual_size: DISK - 1, ..Policy::default() };
    for (declared, image) in [(Format::Qcow2, b::qcow2()), (Format::Vmdk, b::vmdk()), (Format::Vdi, b::vdi()), (Format::Vhd, b::vhd())] {
        let refusal = check(declared, &inspect_in(&image.0, &[4096], &tight)).expect_err("too large");
        assert_eq!(refusal.problems(), [Problem::VirtualSize { size: DISK, limit: DISK - 1 }]);
    }
    let small = Policy { max_virtual_size: 512, ..Policy::default() };
    assert!(check(Raw, &inspect_in(&[0; 512], &[100], &small)).is_ok());
    assert!(check(Raw, &inspect_in(&[0; 513], &[100], &small)).is_err());
}

#[test]
fn an_upload_that_ends_early_is_refused() {
    let mut inspector = unkai_imagefile::Inspector::new(Policy::default());
    inspector.push(&[0; 100]);
    let report = inspector.finish(101);
    let refusal = check(Raw, &report).expect_err("one byte is missing");
    assert_eq!(refusal.problems(), [Problem::Length { expected: 101, received: 100 }]);
}

#[test]
fn only_regular_files_are_inspected() {
    assert!(unkai_imagefile::inspect_file("/dev/zero".as_ref(), &Policy::default()).is_err());
    assert!(unkai_imagefile::inspect_file("/tmp".as_ref(), &Policy::default()).is_err());
}
