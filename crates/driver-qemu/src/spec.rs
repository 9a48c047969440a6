//! What one server's QEMU is made of, as data. The agent writes it, the ledger keeps it, [`crate::command_line`] renders it.
//!
//! Machine: always i440fx (`pc`). Its one PCI bus takes hot plugged devices in any free slot by ACPI, without ports reserved ahead as on
//! q35, and it is the machine QEMU's COLO replication works on. Slots are part of the specification: a suspended guest can
//! only be restored into a machine with the same devices in the same places, hot plugged ones included.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::PathBuf;
use uuid::Uuid;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaunchSpec {
    /// The server's id: name of its directory, UUID in its firmware, and how its process is recognised.
    pub id: Uuid,
    /// For people who look at the process list.
    pub name: String,
    pub vcpus: u16,
    pub memory_mib: u64,
    /// A machine of the i440fx family, by its versioned name; `pc` (the newest) when absent.
    #[serde(default)]
    pub machine: Option<String>,
    /// `host` under KVM and `max` under TCG when absent.
    #[serde(default)]
    pub cpu_model: Option<String>,
    #[serde(default)]
    pub disks: Vec<Disk>,
    #[serde(default)]
    pub nics: Vec<Nic>,
    #[serde(default)]
    pub boot: Boot,
    /// Whether a configuration drive, written by [`crate::Qemu::define`], is attached and how.
    #[serde(default)]
    pub config_drive: Option<Bus>,
    #[serde(default)]
    pub firmware: Firmware,
}

/// Where the firmware finds a system.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Boot {
    #[default]
    Disk,
    Kernel {
        kernel: PathBuf,
        #[serde(default)]
        ramdisk: Option<PathBuf>,
        #[serde(default)]
        command_line: String,
    },
}

/// What the guest reads in its DMI tables. cloud-init recognises an OpenStack server by the product name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Firmware {
    pub manufacturer: String,
    pub product: String,
    pub version: String,
}

impl Default for Firmware {
    fn default() -> Self {
        Firmware { manufacturer: "Unkai".into(), product: "OpenStack Compute".into(), version: env!("CARGO_PKG_VERSION").into() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    Raw,
    Qcow2,
}

impl Format {
    pub fn name(self) -> &'static str {
        match self {
            Format::Raw => "raw",
            Format::Qcow2 => "qcow2",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bus {
    Virtio,
    /// An ATAPI drive, for images without virtio drivers and for boot from ISO. Cannot be plugged while running.
    IdeCdrom,
    Ide,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Unique within the server: `root`, `ephemeral0`, `swap`, or a volume's id.
    pub id: String,
    pub source: Source,
    #[serde(default = "virtio")]
    pub bus: Bus,
    #[serde(default)]
    pub read_only: bool,
    /// Other servers may write it at the same time.
    #[serde(default)]
    pub shared: bool,
    /// At most 20 characters reach the guest.
    #[serde(default)]
    pub serial: Option<String>,
    /// Lower numbers boot first; absent: never booted from.
    #[serde(default)]
    pub boot_index: Option<u32>,
    #[serde(default)]
    pub slot: Option<u8>,
}

fn virtio() -> Bus {
    Bus::Virtio
}

/// Where a disk's bytes live and how they come to be there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Source {
    /// A qcow2 file of this server over a read-only base image.
    Overlay { base: PathBuf, base_format: Format, bytes: u64 },
    /// A sparse raw file of this server, empty.
    Blank { bytes: u64 },
    /// The same with an ext4 file system of this label.
    Ephemeral { bytes: u64, label: String },
    /// The same with a swap signature.
    Swap { bytes: u64 },
    /// Somebody else's, given at every start: see [`crate::Given`]. With `luks`, what the guest sees is inside a LUKS container.
    Given {
        format: Format,
        #[serde(default)]
        luks: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nic {
    /// The port's id: unique within the server.
    pub port: String,
    pub mac: String,
    #[serde(default)]
    pub model: NicModel,
    #[serde(default)]
    pub slot: Option<u8>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NicModel {
    #[default]
    Virtio,
    E1000,
    Rtl8139,
}

impl NicModel {
    pub(crate) fn device(self) -> &'static str {
        match self {
            NicModel::Virtio => "virtio-net-pci",
            NicModel::E1000 => "e1000",
            NicModel::Rtl8139 => "rtl8139",
        }
    }
}

/// Slots 1-5 hold the chipset, VGA, virtio-serial, the entropy source and the balloon.
const SLOTS: std::ops::RangeInclusive<u8> = 6..=30;
/// i440fx has two IDE channels with two drives each.
const IDE_DRIVES: usize = 4;

impl Source {
    /// The format QEMU opens the disk with. Never probed.
    pub fn format(&self) -> Format {
        match self {
            Source::Overlay { .. } => Format::Qcow2,
            Source::Given { format, .. } => *format,
            Source::Blank { .. } | Source::Ephemeral { .. } | Source::Swap { .. } => Format::Raw,
        }
    }
}

impl Disk {
    /// Node name in QEMU, which allows 31 characters; suffixes are added for the layers below.
    pub fn node(&self) -> String {
        format!("d-{}", short(&self.id))
    }

    /// The node of the format's layer, which is the topmost one unless the content is encrypted.
    pub(crate) fn image_node(&self) -> String {
        match self.source {
            Source::Given { luks: true, .. } => format!("{}-i", self.node()),
            _ => self.node(),
        }
    }

    pub fn device(&self) -> String {
        format!("disk-{}", short(&self.id))
    }
}

impl Nic {
    pub fn device(&self) -> String {
        format!("nic-{}", self.port)
    }

    pub fn netdev(&self) -> String {
        format!("net-{}", self.port)
    }
}

fn short(id: &str) -> String {
    id.chars().filter(|c| *c != '-').take(24).collect()
}

impl LaunchSpec {
    /// Gives every PCI device that has none the lowest free slot. Deterministic, so calling it again changes nothing.
    pub fn assign_slots(&mut self) -> Result<()> {
        let mut used: BTreeSet<u8> = self.slots_used().collect();
        let config_slot = self.config_drive_slot();
        let wanting = self.disks.iter_mut().filter(|d| d.bus == Bus::Virtio).map(|d| &mut d.slot);
        for slot in wanting.chain(self.nics.iter_mut().map(|n| &mut n.slot)).filter(|s| s.is_none()) {
            let free = SLOTS.clone().find(|s| !used.contains(s) && Some(*s) != config_slot).ok_or(Error::NoSlot)?;
            used.insert(free);
            *slot = Some(free);
        }
        Ok(())
    }

    fn slots_used(&self) -> impl Iterator<Item = u8> + '_ {
        self.disks.iter().filter_map(|d| d.slot).chain(self.nics.iter().filter_map(|n| n.slot))
    }

    /// The configuration drive, when on virtio, is always in the last slot.
    pub(crate) fn config_drive_slot(&self) -> Option<u8> {
        (self.config_drive == Some(Bus::Virtio)).then_some(*SLOTS.end())
    }

    pub fn validate(&self) -> Result<()> {
        let fail = |text: String| Err(Error::Invalid(text));
        if self.vcpus == 0 || self.vcpus > 255 {
            return fail(format!("{} virtual CPUs", self.vcpus));
        }
        if self.memory_mib < 16 {
            return fail(format!("{} MiB of memory", self.memory_mib));
        }
        if self.machine.as_ref().is_some_and(|m| !word(m) || !(m == "pc" || m.starts_with("pc-i440fx-"))) {
            return fail(format!("machine {:?} is not of the i440fx family", self.machine));
        }
        if self.cpu_model.as_ref().is_some_and(|m| !m.split([',', '=', '+']).all(word)) {
            return fail(format!("CPU model {:?}", self.cpu_model));
        }
        let ide =
            self.disks.iter().filter(|d| d.bus != Bus::Virtio).count() + usize::from(self.config_drive.is_some_and(|b| b != Bus::Virtio));
        if ide > IDE_DRIVES {
            return fail(format!("{ide} IDE drives, and there are places for {IDE_DRIVES}"));
        }
        let mut seen = BTreeSet::new();
        for disk in &self.disks {
            disk.validate()?;
            if !seen.insert(disk.device()) {
                return fail(format!("disk {} twice", disk.id));
            }
        }
        for nic in &self.nics {
            nic.validate()?;
            if !seen.insert(nic.device()) {
                return fail(format!("port {} twice", nic.port));
            }
        }
        let mut slots = BTreeSet::new();
        match self.slots_used().chain(self.config_drive_slot()).find(|s| !SLOTS.contains(s) || !slots.insert(*s)) {
            Some(slot) => fail(format!("PCI slot {slot} is reserved or used twice")),
            None => Ok(()),
        }
    }
}

impl Disk {
    pub fn validate(&self) -> Result<()> {
        if !word(&self.id) {
            return Err(Error::Invalid(format!("disk id {:?}", self.id)));
        }
        if self.serial.as_ref().is_some_and(|s| !word(s)) {
            return Err(Error::Invalid(format!("serial number {:?} of disk {}", self.serial, self.id)));
        }
        if self.shared && self.source.format() != Format::Raw {
            return Err(Error::Invalid(format!("disk {} is {}, which only one server can write", self.id, self.source.format().name())));
        }
        match self.source {
            Source::Blank { bytes } | Source::Ephemeral { bytes, .. } | Source::Swap { bytes } | Source::Overlay { bytes, .. }
                if bytes == 0 || bytes % 512 != 0 || bytes > 1 << 52 =>
            {
                Err(Error::Invalid(format!("disk {} of {bytes} bytes", self.id)))
            }
            _ => Ok(()),
        }
    }
}

impl Nic {
    pub fn validate(&self) -> Result<()> {
        if !word(&self.port) || self.port.len() > 64 {
            return Err(Error::Invalid(format!("port id {:?}", self.port)));
        }
        let octets: Vec<&str> = self.mac.split(':').collect();
        if octets.len() != 6 || !octets.iter().all(|o| o.len() == 2 && u8::from_str_radix(o, 16).is_ok()) {
            return Err(Error::Invalid(format!("MAC address {:?} of port {}", self.mac, self.port)));
        }
        Ok(())
    }
}

/// Safe inside QEMU ids, options and file names.
fn word(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 128
        && !text.starts_with(['.', '-'])
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn spec() -> LaunchSpec {
        LaunchSpec {
            id: Uuid::from_u128(0x1234),
            name: "web".into(),
            vcpus: 1,
            memory_mib: 128,
            machine: None,
            cpu_model: None,
            disks: vec![disk("root")],
            nics: vec![nic("p1")],
            boot: Boot::Disk,
            config_drive: None,
            firmware: Firmware::default(),
        }
    }

    fn disk(id: &str) -> Disk {
        Disk {
            id: id.into(),
            source: Source::Blank { bytes: 1 << 20 },
            bus: Bus::Virtio,
            read_only: false,
            shared: false,
            serial: None,
            boot_index: None,
            slot: None,
        }
    }

    fn nic(port: &str) -> Nic {
        Nic { port: port.into(), mac: "fa:16:3e:00:00:01".into(), model: NicModel::Virtio, slot: None }
    }

    #[test]
    fn slots_fill_gaps_and_stay() {
        let mut spec = spec();
        spec.nics[0].slot = Some(7);
        spec.disks.push(disk("swap"));
        spec.assign_slots().unwrap();
        assert_eq!((spec.disks[0].slot, spec.disks[1].slot, spec.nics[0].slot), (Some(6), Some(8), Some(7)));
        let again = spec.clone();
        spec.assign_slots().unwrap();
        assert_eq!(spec, again);
        spec.validate().unwrap();
    }

    #[test]
    fn slots_run_out() {
        let mut spec = spec();
        spec.nics = (0..30).map(|i| nic(&format!("p{i}"))).collect();
        assert!(matches!(spec.assign_slots(), Err(Error::NoSlot)));
    }

    #[test]
    fn nonsense_is_refused() {
        let broken: [fn(&mut LaunchSpec); 10] = [
            |s| s.vcpus = 0,
            |s| s.memory_mib = 1,
            |s| s.machine = Some("q35".into()),
            |s| s.machine = Some("pc,accel=kvm".into()),
            |s| s.cpu_model = Some("host -monitor".into()),
            |s| s.disks[0].id = "../x".into(),
            |s| s.disks.push(disk("root")),
            |s| s.nics[0].mac = "fa:16:3e:00:00".into(),
            |s| s.nics[0].port = "a,b".into(),
            |s| s.disks[0].slot = Some(2),
        ];
        for (i, break_it) in broken.iter().enumerate() {
            let mut spec = spec();
            break_it(&mut spec);
            assert!(spec.validate().is_err(), "case {i}");
        }
        spec().validate().unwrap();
    }

    #[test]
    fn node_names_fit() {
        let mut d = disk("6d8f1d2c-8c2b-4a51-9d1f-3f1a0b0c7e55");
        assert!(format!("{}-bf", d.node()).len() <= 31);
        d.id = "root".into();
        assert_eq!(d.node(), "d-root");
    }
}
