//! From an item to what QEMU is given: disks, devices, configuration drive.

use std::path::PathBuf;

use unkai_driver_qemu::{Boot, Bus, DiscFile, Disk, Firmware, LaunchSpec, Nic, NicModel, Source};
use unkai_link::item::{ServerItem, net};
use unkai_model::Error;
use uuid::Uuid;

use super::disks::root;
use crate::images::Base;

pub const ROOT: &str = "root";
const RESCUE: &str = "rescue";
const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

/// Files that must be on this host before the server can be defined.
pub struct Bases {
    /// None: the root disk exists already, or the server has no image.
    pub root: Option<Base>,
    pub rescue: Option<Base>,
    pub kernel: Option<PathBuf>,
    pub ramdisk: Option<PathBuf>,
}

pub fn uuid(item: &ServerItem) -> Result<Uuid, Error> {
    Uuid::parse_str(item.id.as_str()).map_err(|e| Error::caused(format!("reading the server id {}", item.id), e))
}

/// `old`: the definition so far, whose root disk is kept; `volumes`: the disks that are not its own.
pub fn spec(
    item: &ServerItem,
    ports: &[net::PortSpec],
    volumes: Vec<Disk>,
    bases: Bases,
    old: Option<&LaunchSpec>,
) -> Result<LaunchSpec, Error> {
    let old_root = old.and_then(|spec| spec.disks.iter().find(|disk| disk.id == ROOT)).map(|disk| disk.source.clone());
    Ok(LaunchSpec {
        id: uuid(item)?,
        name: word(&item.guest.hostname),
        vcpus: u16::try_from(item.vcpus).map_err(|_| Error::invalid(format!("{} processors", item.vcpus)))?,
        memory_mib: item.memory_mib,
        machine: None,
        cpu_model: None,
        disks: disks(item, volumes, &bases, old_root)?,
        nics: ports.iter().map(|port| nic(item, port)).collect(),
        boot: boot(item, bases),
        config_drive: item.config_drive.then_some(Bus::IdeCdrom),
        firmware: Firmware::default(),
    })
}

fn disks(item: &ServerItem, volumes: Vec<Disk>, bases: &Bases, old_root: Option<Source>) -> Result<Vec<Disk>, Error> {
    let mut disks = Vec::new();
    let rescuing = item.rescue.is_some();
    if let Some(base) = bases.rescue.as_ref().filter(|_| rescuing) {
        disks.push(disk(item, RESCUE, overlay(base, item.root_gib * GIB), Some(0)));
    }
    if root(item).is_none() {
        let root = root_source(item, bases.root.as_ref(), old_root)?;
        disks.push(disk(item, ROOT, root, Some(u32::from(rescuing))));
    }
    let (starts, others): (Vec<_>, Vec<_>) =
        volumes.into_iter().partition(|volume| root(item).is_some_and(|root| root.volume == volume.id));
    disks.extend(starts);
    if item.ephemeral_gib > 0 {
        disks.push(disk(item, "ephemeral0", Source::Ephemeral { bytes: item.ephemeral_gib * GIB, label: "ephemeral0".into() }, None));
    }
    if item.swap_mib > 0 {
        disks.push(disk(item, "swap", Source::Swap { bytes: item.swap_mib * MIB }, None));
    }
    disks.extend(others);
    Ok(disks)
}

fn root_source(item: &ServerItem, base: Option<&Base>, old: Option<Source>) -> Result<Source, Error> {
    match (base, old) {
        (Some(base), _) => Ok(overlay(base, item.root_gib * GIB)),
        (None, Some(Source::Overlay { base, base_format, bytes })) => {
            // A disk only grows: what is beyond the end of a smaller one would be lost.
            Ok(Source::Overlay { base, base_format, bytes: bytes.max(item.root_gib * GIB) })
        }
        (None, Some(old)) => Ok(old),
        (None, None) => Err(Error::invalid("the server has no image to start from")),
    }
}

fn overlay(base: &Base, wanted: u64) -> Source {
    let bytes = base.virtual_size.max(wanted).next_multiple_of(512);
    Source::Overlay { base: base.path.clone(), base_format: base.format, bytes }
}

fn disk(item: &ServerItem, id: &str, source: Source, boot_index: Option<u32>) -> Disk {
    let bus = match item.hardware.get("hw_disk_bus").map(String::as_str) {
        Some("ide") => Bus::Ide,
        _ => Bus::Virtio,
    };
    Disk { id: id.into(), source, bus, read_only: false, shared: false, serial: None, boot_index, slot: None }
}

fn nic(item: &ServerItem, port: &net::PortSpec) -> Nic {
    let model = match item.hardware.get("hw_vif_model").map(String::as_str) {
        Some("e1000") => NicModel::E1000,
        Some("rtl8139") => NicModel::Rtl8139,
        _ => NicModel::Virtio,
    };
    Nic { port: port.id.clone(), mac: port.mac.to_string(), model, slot: None }
}

fn boot(item: &ServerItem, bases: Bases) -> Boot {
    let command_line = item.hardware.get("os_command_line").cloned().unwrap_or_else(|| "root=/dev/vda console=tty0 console=ttyS0".into());
    match bases.kernel {
        Some(kernel) if item.rescue.is_none() => Boot::Kernel { kernel, ramdisk: bases.ramdisk, command_line },
        _ => Boot::Disk,
    }
}

/// For people who read the process list: letters, digits and hyphens only.
fn word(name: &str) -> String {
    let word: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' }).take(64).collect();
    let word = word.trim_matches('-');
    if word.is_empty() { "server".into() } else { word.to_owned() }
}

pub fn config_drive(item: &ServerItem, ports: &[net::PortSpec], networks: &[net::NetworkSpec]) -> Option<Vec<DiscFile>> {
    if !item.config_drive {
        return None;
    }
    let files = crate::metadata::config_drive(item, ports, networks);
    Some(files.into_iter().map(|(path, content)| DiscFile { path, content }).collect())
}
