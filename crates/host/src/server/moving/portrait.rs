//! From this host's own definition of a server and the portrait of its machine elsewhere to a machine that can go on with its guest.
//!
//! Files and devices are those that this host was told of by the controller; the other host says only where they sit and how large they are.

use base64::Engine;
use unkai_driver_qemu::{Boot, Bus, Disk, Firmware, LaunchSpec, Source};
use unkai_model::Error;
use uuid::Uuid;

use super::channel::{DiskPortrait, Portrait};
use crate::images::Base;
use crate::server::define::ROOT;

/// The disks that are to be sent; `true`: with what they stand on.
pub type Copies = Vec<(String, bool)>;

/// Does the other host's root disk stand on the same bytes as one here would?
pub fn same_base(portrait: &Portrait, base: Option<&Base>) -> bool {
    let theirs = portrait.disks.iter().find(|disk| disk.id == ROOT).and_then(|disk| disk.base.as_deref());
    let ours = base.and_then(|base| base.path.file_name()).map(|name| name.to_string_lossy());
    theirs.is_some() && theirs == ours.as_deref()
}

/// A definition of nothing but a root disk that stands alone: to begin with where there is no common base. None without a local root disk.
pub fn alone(id: Uuid, portrait: &Portrait) -> Option<LaunchSpec> {
    let bytes = portrait.disks.iter().find(|disk| disk.id == ROOT)?.bytes?;
    let root = Disk {
        id: ROOT.into(),
        source: Source::Blank { bytes },
        bus: Bus::Virtio,
        read_only: false,
        serial: None,
        boot_index: None,
        slot: None,
        shared: false,
    };
    Some(LaunchSpec {
        id,
        name: String::new(),
        vcpus: 1,
        memory_mib: 1,
        machine: None,
        cpu_model: None,
        disks: vec![root],
        nics: Vec::new(),
        boot: Boot::Disk,
        config_drive: None,
        firmware: Firmware::default(),
    })
}

/// `ours` with the places and sizes of the portrait, and the disks that have to be sent.
pub fn fit(mut ours: LaunchSpec, portrait: &Portrait) -> Result<(LaunchSpec, Copies), Error> {
    ours.machine = portrait.machine.as_deref().map(word).transpose()?;
    let differs = |what: &str, id: &str| Error::conflict(format!("{what} {id} is not on both hosts"));
    let mut copies = Copies::new();
    let mut disks = Vec::new();
    for theirs in &portrait.disks {
        let place = ours.disks.iter().position(|disk| disk.id == theirs.id).ok_or_else(|| differs("disk", &theirs.id))?;
        let mut disk = ours.disks.remove(place);
        (disk.bus, disk.slot) = (theirs.bus, theirs.slot);
        size(&mut disk.source, theirs)?;
        match disk.source {
            Source::Given { .. } => {}
            Source::Overlay { .. } => copies.push((disk.id.clone(), false)),
            Source::Blank { .. } | Source::Ephemeral { .. } | Source::Swap { .. } => copies.push((disk.id.clone(), true)),
        }
        disks.push(disk);
    }
    if let Some(disk) = ours.disks.first() {
        return Err(differs("disk", &disk.id));
    }
    let mut nics = Vec::new();
    for theirs in &portrait.nics {
        let place = ours.nics.iter().position(|nic| nic.port == theirs.port).ok_or_else(|| differs("port", &theirs.port))?;
        let mut nic = ours.nics.remove(place);
        (nic.model, nic.slot) = (theirs.model, theirs.slot);
        nics.push(nic);
    }
    if let Some(nic) = ours.nics.first() {
        return Err(differs("port", &nic.port));
    }
    (ours.disks, ours.nics) = (disks, nics);
    Ok((ours, copies))
}

fn size(source: &mut Source, theirs: &DiskPortrait) -> Result<(), Error> {
    match source {
        Source::Given { .. } => Ok(()),
        Source::Overlay { bytes, .. } | Source::Blank { bytes } | Source::Ephemeral { bytes, .. } | Source::Swap { bytes } => {
            *bytes = theirs.bytes.ok_or_else(|| Error::conflict(format!("disk {} is the host's own here and not there", theirs.id)))?;
            Ok(())
        }
    }
}

/// A name of a machine becomes part of QEMU's arguments.
fn word(text: &str) -> Result<String, Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    if text.is_empty() || text.len() > 64 || !text.chars().all(plain) {
        return Err(Error::invalid("the other host names a machine that cannot be"));
    }
    Ok(text.to_owned())
}

/// The bytes of the configuration drive.
pub fn config_drive(portrait: &Portrait) -> Result<Option<Vec<u8>>, Error> {
    let decode = |text: &String| base64::engine::general_purpose::STANDARD.decode(text);
    portrait.config_drive.as_ref().map(decode).transpose().map_err(|e| Error::caused("reading the configuration drive", e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use unkai_driver_qemu::{Format, Nic, NicModel};

    fn disk(id: &str, source: Source, slot: Option<u8>) -> Disk {
        Disk { id: id.into(), source, bus: Bus::Virtio, read_only: false, serial: None, boot_index: None, slot, shared: false }
    }

    fn spec(disks: Vec<Disk>, ports: &[(&str, Option<u8>)]) -> LaunchSpec {
        let nic = |(port, slot): &(&str, Option<u8>)| Nic { port: (*port).into(), mac: "m".into(), model: NicModel::Virtio, slot: *slot };
        LaunchSpec {
            id: Uuid::from_u128(1),
            name: "s".into(),
            vcpus: 1,
            memory_mib: 64,
            machine: None,
            cpu_model: None,
            disks,
            nics: ports.iter().map(nic).collect(),
            boot: Default::default(),
            config_drive: None,
            firmware: Firmware::default(),
        }
    }

    fn root(path: &str, bytes: u64, slot: Option<u8>) -> Disk {
        disk(ROOT, Source::Overlay { base: path.into(), base_format: Format::Qcow2, bytes }, slot)
    }

    #[test]
    fn places_and_sizes_are_theirs_and_files_are_ours() {
        let swap = |slot| disk("swap", Source::Swap { bytes: 1 << 20 }, slot);
        let mut theirs = spec(vec![root("/there/img", 7 << 20, Some(9)), swap(Some(12))], &[("q", Some(8)), ("p", Some(7))]);
        theirs.machine = Some("pc-i440fx-10.0".into());
        let portrait = Portrait::of(&theirs, None);
        let ours = spec(vec![swap(None), root("/here/img", 1 << 20, None)], &[("p", None), ("q", None)]);
        let (fitted, copies) = fit(ours, &portrait).unwrap();
        assert_eq!(fitted.disks, [root("/here/img", 7 << 20, Some(9)), swap(Some(12))]);
        assert_eq!(fitted.nics, theirs.nics);
        assert_eq!(fitted.machine, theirs.machine);
        assert_eq!(copies, [(ROOT.to_owned(), false), ("swap".to_owned(), true)]);
    }

    #[test]
    fn what_this_host_was_not_told_of_is_refused() {
        let portrait = Portrait::of(&spec(vec![root("/i", 1, None)], &[("p", None)]), None);
        let said = |ours: LaunchSpec| fit(ours, &portrait).map(drop).map_err(|e| e.to_string());
        assert!(said(spec(vec![], &[("p", None)])).unwrap_err().contains("disk root"));
        assert!(said(spec(vec![root("/i", 1, None)], &[])).unwrap_err().contains("port p"));
        let more = disk("swap", Source::Swap { bytes: 1 }, None);
        assert!(said(spec(vec![root("/i", 1, None), more], &[("p", None)])).unwrap_err().contains("disk swap"));
        let foreign = disk(ROOT, Source::Given { format: Format::Raw, luks: false }, None);
        let shared = Portrait::of(&spec(vec![foreign], &[]), None);
        assert!(fit(spec(vec![root("/i", 1, None)], &[]), &shared).is_err(), "a size is missing");
        let mut odd = portrait.clone();
        odd.machine = Some("pc,dump-guest-core=on".into());
        assert!(fit(spec(vec![root("/i", 1, None)], &[("p", None)]), &odd).is_err());
    }

    #[test]
    fn without_a_common_base_the_disk_stands_alone_and_is_sent_whole() {
        let theirs = spec(vec![root("/there/a-1", 5 << 20, Some(6))], &[]);
        let portrait = Portrait::of(&theirs, None);
        let base = |name: &str| Base { path: format!("/here/{name}").into(), format: Format::Qcow2, virtual_size: 1 };
        assert!(same_base(&portrait, Some(&base("a-1"))));
        assert!(!same_base(&portrait, Some(&base("a-2"))));
        assert!(!same_base(&portrait, None));
        let (fitted, copies) = fit(alone(Uuid::from_u128(1), &portrait).unwrap(), &portrait).unwrap();
        assert_eq!(fitted.disks[0].source, Source::Blank { bytes: 5 << 20 });
        assert_eq!(copies, [(ROOT.to_owned(), true)]);
    }
}
