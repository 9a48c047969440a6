//! The names of formats: what a client may declare, and what bytes may turn out to be.

use std::fmt;
use std::str::FromStr;

/// A disk format a client may declare, by Glance's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DiskFormat {
    Raw,
    Qcow2,
    Vmdk,
    Iso,
    Vhd,
    Vhdx,
    Vdi,
    Ami,
    Aki,
    Ari,
}

/// A declared disk format this cloud does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown disk format `{0}`")]
pub struct UnknownDiskFormat(pub String);

impl DiskFormat {
    pub const ALL: [Self; 10] =
        [Self::Raw, Self::Qcow2, Self::Vmdk, Self::Iso, Self::Vhd, Self::Vhdx, Self::Vdi, Self::Ami, Self::Aki, Self::Ari];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
            Self::Iso => "iso",
            Self::Vhd => "vhd",
            Self::Vhdx => "vhdx",
            Self::Vdi => "vdi",
            Self::Ami => "ami",
            Self::Aki => "aki",
            Self::Ari => "ari",
        }
    }

    /// Whether the bytes of the file are the bytes of the disk (or of the kernel or ramdisk), with no wrapping.
    pub fn is_plain(self) -> bool {
        matches!(self, Self::Raw | Self::Ami | Self::Aki | Self::Ari)
    }

    /// The container the bytes must be in, if the format has one.
    pub fn container(self) -> Option<Container> {
        match self {
            Self::Qcow2 => Some(Container::Qcow2),
            Self::Vmdk => Some(Container::Vmdk),
            Self::Iso => Some(Container::Iso),
            Self::Vhd => Some(Container::Vhd),
            Self::Vhdx => Some(Container::Vhdx),
            Self::Vdi => Some(Container::Vdi),
            Self::Raw | Self::Ami | Self::Aki | Self::Ari => None,
        }
    }
}

impl fmt::Display for DiskFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for DiskFormat {
    type Err = UnknownDiskFormat;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|format| format.as_str() == name);
        found.ok_or_else(|| UnknownDiskFormat(name.chars().take(64).collect()))
    }
}

/// A wrapping that gives bytes a meaning of their own. Some are known only so that they can be refused by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Container {
    Qcow1,
    Qcow2,
    Qed,
    /// VMDK sparse extent, with or without an embedded descriptor.
    Vmdk,
    /// VMDK text descriptor, which only names other files.
    VmdkDescriptor,
    /// The old ESX copy-on-write extent (`COWD`).
    VmdkCowd,
    /// The space-efficient sparse extent of vSphere.
    VmdkSeSparse,
    Vhd,
    Vhdx,
    Vdi,
    Parallels,
    Luks,
    Bochs,
    Cloop,
    Dmg,
    Iso,
}

impl Container {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Qcow1 => "qcow (version 1)",
            Self::Qcow2 => "qcow2",
            Self::Qed => "qed",
            Self::Vmdk => "vmdk",
            Self::VmdkDescriptor => "vmdk text descriptor",
            Self::VmdkCowd => "vmdk COWD extent",
            Self::VmdkSeSparse => "vmdk SESparse extent",
            Self::Vhd => "vhd",
            Self::Vhdx => "vhdx",
            Self::Vdi => "vdi",
            Self::Parallels => "parallels",
            Self::Luks => "luks",
            Self::Bochs => "bochs",
            Self::Cloop => "cloop",
            Self::Dmg => "dmg",
            Self::Iso => "iso",
        }
    }
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the bytes of a plain disk hold. A hint for people and for tests; never a reason to refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Content {
    Mbr,
    Gpt,
    Ext,
    Udf,
}

/// The format found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detected {
    /// No container: the bytes are a disk as they are.
    Raw,
    Container(Container),
    /// Readers would disagree about this file.
    Ambiguous(Vec<Container>),
}

impl fmt::Display for Detected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Raw => f.write_str("raw"),
            Self::Container(container) => container.fmt(f),
            Self::Ambiguous(several) => {
                let names: Vec<_> = several.iter().map(|one| one.as_str()).collect();
                write!(f, "ambiguous ({})", names.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_the_round_trip() {
        for format in DiskFormat::ALL {
            assert_eq!(format.as_str().parse(), Ok(format));
        }
        assert!("QCOW2".parse::<DiskFormat>().is_err());
    }
}
