//! Small sound images of every format, built byte by byte, and the means to spoil them.

/// Bytes that are changed at places; the file grows when a place is behind its end.
#[derive(Clone)]
pub struct Image(pub Vec<u8>);

impl Image {
    pub fn zeros(len: usize) -> Self {
        Self(vec![0; len])
    }

    pub fn put(mut self, at: usize, bytes: &[u8]) -> Self {
        let end = at + bytes.len();
        self.0.resize(self.0.len().max(end), 0);
        self.0[at..end].copy_from_slice(bytes);
        self
    }

    pub fn be16(self, at: usize, value: u16) -> Self {
        self.put(at, &value.to_be_bytes())
    }

    pub fn be32(self, at: usize, value: u32) -> Self {
        self.put(at, &value.to_be_bytes())
    }

    pub fn be64(self, at: usize, value: u64) -> Self {
        self.put(at, &value.to_be_bytes())
    }

    pub fn le16(self, at: usize, value: u16) -> Self {
        self.put(at, &value.to_le_bytes())
    }

    pub fn le32(self, at: usize, value: u32) -> Self {
        self.put(at, &value.to_le_bytes())
    }

    pub fn le64(self, at: usize, value: u64) -> Self {
        self.put(at, &value.to_le_bytes())
    }

    pub fn cut(mut self, len: usize) -> Self {
        self.0.truncate(len);
        self
    }

    pub fn at_end(self, back: usize, bytes: &[u8]) -> Self {
        let at = self.0.len() - back;
        self.put(at, bytes)
    }

    pub fn vhd_sum(self, at: usize, len: usize, field: usize) -> Self {
        let image = self.be32(at + field, 0);
        let sum: u32 = image.0[at..at + len].iter().map(|byte| u32::from(*byte)).sum();
        image.be32(at + field, !sum)
    }

    pub fn crc(self, at: usize, len: usize) -> Self {
        let image = self.le32(at + 4, 0);
        let crc = crc32c(&image.0[at..at + len]);
        image.le32(at + 4, crc)
    }
}

fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

pub const DISK: u64 = 16 << 20;

/// A disk with a boot sector, a partition table and an ext file system's magic.
pub fn raw() -> Image {
    Image::zeros(64 << 10).put(510, &[0x55, 0xaa]).put(512, b"EFI PART").put(1080, &[0x53, 0xef])
}

pub fn qcow2() -> Image {
    let image = Image::zeros(0x30008).put(0, b"QFI\xfb").be32(4, 3).be32(20, 16).be64(24, DISK);
    let image = image.be32(36, 1).be64(40, 0x30000).be64(48, 0x10000).be32(56, 1);
    image.be32(96, 4).be32(100, 112)
}

pub fn qcow2_v2() -> Image {
    qcow2().be32(4, 2).put(72, &[0; 40])
}

/// One header extension behind the header.
pub fn extension(image: Image, kind: u32, data: &[u8]) -> Image {
    image.be32(112, kind).be32(116, data.len() as u32).put(120, data)
}

pub fn descriptor(kind: &str, extent: &str) -> String {
    let head = "# Disk DescriptorFile\nversion=1\nCID=c6daec9d\nparentCID=ffffffff\n";
    format!("{head}createType=\"{kind}\"\n\n# Extent description\n{extent}\n\nddb.adapterType = \"ide\"\n")
}

pub const EXTENT: &str = "RW 32768 SPARSE \"disk.vmdk\"";

fn vmdk_with(text: &str) -> Image {
    let image = Image::zeros(64 << 10).put(0, b"KDMV").le32(4, 1).le32(8, 3).le64(12, DISK / 512).le64(20, 128);
    let image = image.le64(28, 1).le64(36, 20).le32(44, 512).le64(48, 0x15).le64(56, 0x1a).le64(64, 0x80);
    image.put(73, b"\n \r\n").put(512, text.as_bytes())
}

pub fn vmdk() -> Image {
    vmdk_with(&descriptor("monolithicSparse", EXTENT))
}

pub fn vmdk_text(kind: &str, extent: &str) -> Image {
    vmdk_with(&descriptor(kind, extent))
}

pub fn vmdk_stream() -> Image {
    vmdk_with(&descriptor("streamOptimized", EXTENT)).le32(4, 3).le32(8, 3 | 3 << 16).le16(77, 1)
}

/// A stream whose header refers to the footer.
pub fn vmdk_footer() -> Image {
    let image = vmdk_stream().le64(56, u64::MAX);
    let footer = image.clone().le64(56, 0x1a).0[..512].to_vec();
    let at = image.0.len();
    image.le32(at + 12, 3).put(at + 512, &footer).put(at + 1024, &[0; 512])
}

fn vhd_footer(kind: u32, size: u64, header: u64) -> Vec<u8> {
    let image = Image::zeros(512).put(0, b"conectix").be32(8, 2).be32(12, 0x1_0000).be64(16, header);
    let image = image.put(28, b"win ").be64(40, size).be64(48, size).be16(56, 480).put(58, &[4, 17]).be32(60, kind);
    image.vhd_sum(0, 512, 64).0
}

pub fn vhd_fixed() -> Image {
    let footer = vhd_footer(2, DISK, u64::MAX);
    Image::zeros(DISK as usize).put(DISK as usize, &footer)
}

pub fn vhd_of(kind: u32, size: u64) -> Image {
    let footer = vhd_footer(kind, size, 512);
    let header = Image::zeros(2048).put(512, b"cxsparse").be64(520, u64::MAX).be64(528, 1536).be32(536, 0x1_0000);
    let header = header.be32(540, 9).be32(544, 2 << 20).vhd_sum(512, 1024, 36);
    header.put(0, &footer).put(1536, &[0xff; 512]).put(2048, &footer)
}

pub fn vhd() -> Image {
    vhd_of(3, DISK)
}

pub fn vdi() -> Image {
    let image = Image::zeros(1024).put(0, b"<<< Some VM Disk Image >>>\n").le32(0x40, 0xbeda_107f);
    let image = image.le32(0x44, 0x1_0001).le32(0x48, 0x180).le32(0x4c, 1).le32(0x154, 512).le32(0x158, 1024);
    image.le32(0x168, 512).le64(0x170, DISK).le32(0x178, 1 << 20).le32(0x180, 16).put(512, &[0xff; 64])
}

const MIB: usize = 1 << 20;
pub const META: usize = 3 * MIB;
const KIB64: usize = 64 << 10;

/// What a VHDX is made of, so that a case can change one part and have the checksums follow.
pub struct Vhdx {
    pub log_used: bool,
    pub version: u16,
    pub flags: u32,
    pub block: u32,
    pub size: u64,
    pub extra_region: Option<u32>,
    pub extra_item: Option<([u8; 16], u32)>,
    pub meta_at: u64,
}

impl Default for Vhdx {
    fn default() -> Self {
        let (log_used, version, flags, block) = (false, 1, 0, 1 << 20);
        Self { log_used, version, flags, block, size: DISK, extra_region: None, extra_item: None, meta_at: META as u64 }
    }
}

const BAT: [u8; 16] = [0x66, 0x77, 0xc2, 0x2d, 0x23, 0xf6, 0, 0x42, 0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 8];
const METADATA: [u8; 16] = [6, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b, 0xb8, 0xfe, 0x57, 0x5f, 5, 0x0f, 0x88, 0x6e];
const FILE_PARAMETERS: [u8; 16] = [0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d, 0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b];
const VIRTUAL_SIZE: [u8; 16] = [0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48, 0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8];
pub const PARENT_LOCATOR: [u8; 16] = [0x2d, 0x5f, 0xd3, 0xa8, 0x0b, 0xb3, 0x4d, 0x45, 0xab, 0xf7, 0xd3, 0xd8, 0x48, 0x34, 0xab, 0x0c];

impl Vhdx {
    pub fn build(&self) -> Image {
        let mut image = Image::zeros(4 * MIB).put(0, b"vhdxfile");
        for (index, at) in [KIB64, 2 * KIB64].into_iter().enumerate() {
            image = image.put(at, b"head").le64(at + 8, index as u64).le16(at + 66, self.version);
            image = image.put(at + 48, &[u8::from(self.log_used); 16]);
            image = image.le32(at + 68, MIB as u32).le64(at + 72, MIB as u64).crc(at, 4096);
        }
        for at in [3 * KIB64, 4 * KIB64] {
            image = self.regions(image, at);
        }
        self.metadata(image)
    }

    fn regions(&self, image: Image, at: usize) -> Image {
        let entry = |image: Image, index: usize, id: &[u8], offset: u64, required: u32| {
            let at = at + 16 + index * 32;
            image.put(at, id).le64(at + 16, offset).le32(at + 24, MIB as u32).le32(at + 28, required)
        };
        let image = image.put(at, b"regi").le32(at + 8, 2 + u32::from(self.extra_region.is_some()));
        let image = entry(image, 0, &BAT, 2 * MIB as u64, 1);
        let image = entry(image, 1, &METADATA, self.meta_at, 1);
        match self.extra_region {
            Some(required) => entry(image, 2, &[9; 16], 2 * MIB as u64, required),
            None => image,
        }
        .crc(at, KIB64)
    }

    fn metadata(&self, image: Image) -> Image {
        let entry = |image: Image, index: usize, id: &[u8], offset: u32, flags: u32| {
            let at = META + 32 + index * 32;
            image.put(at, id).le32(at + 16, offset).le32(at + 20, 8).le32(at + 24, flags)
        };
        let image = image.put(META, b"metadata").le16(META + 10, 2 + u16::from(self.extra_item.is_some()));
        let image = entry(image, 0, &FILE_PARAMETERS, KIB64 as u32, 4);
        let image = entry(image, 1, &VIRTUAL_SIZE, KIB64 as u32 + 8, 6);
        let image = match self.extra_item {
            Some((id, flags)) => entry(image, 2, &id, KIB64 as u32 + 16, flags),
            None => image,
        };
        let data = META + KIB64;
        image.le32(data, self.block).le32(data + 4, self.flags).le64(data + 8, self.size)
    }
}

pub fn vhdx() -> Image {
    Vhdx::default().build()
}

pub fn iso() -> Image {
    let at = 32 << 10;
    let image = Image::zeros(40 * 2048).put(at, b"\x01CD001\x01").le16(at + 128, 2048).be16(at + 130, 2048);
    image.le32(at + 80, 40).be32(at + 84, 40).put(at + 2048, b"\xffCD001\x01")
}
