//! QEMU's arguments for a server, as a pure function of its specification.
//!
//! Everything QEMU gets from outside its own directory arrives as an open file descriptor: listening sockets, taps, base images and
//! foreign disks. So it needs no permission on any of them and does not open what it is not given.

use crate::layout::ServerDir;
use crate::machine::Accel;
use crate::spec::{Boot, Bus, Disk, Format, LaunchSpec, Nic, NicModel, Source};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::fd::RawFd;
use std::path::Path;

/// What the machine adds to a specification.
pub struct Host<'a> {
    pub accel: Accel,
    /// TCG's cache of translated code, the largest part of an emulated guest's own overhead.
    pub translation_cache_mib: u32,
    pub dir: &'a ServerDir,
}

/// Descriptor numbers as the process will have them.
#[derive(Debug, Default, Clone)]
pub struct Fds {
    pub qmp: RawFd,
    pub serial: RawFd,
    pub guest_agent: RawFd,
    /// By disk id: the base image of an overlay, or the whole of a given disk.
    pub images: BTreeMap<String, ImageFd>,
    /// By disk id: given disks that QEMU reaches by a client of its own.
    pub nodes: BTreeMap<String, Value>,
    /// By the id of the secret object.
    pub secrets: BTreeMap<String, RawFd>,
    /// By port id.
    pub taps: BTreeMap<String, RawFd>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageFd {
    pub fd: RawFd,
    /// QEMU has different drivers for files and for block devices.
    pub block_device: bool,
}

/// A foreign file as QEMU knows it: the number of a descriptor set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Passed {
    pub set: i64,
    pub block_device: bool,
}

/// What a disk's nodes stand on, when that is not the server's own file.
#[derive(Debug, Clone)]
pub(crate) enum Below {
    Passed(Passed),
    Node(Value),
}

/// `incoming`: wait for a saved state instead of starting the firmware.
pub fn command_line(spec: &LaunchSpec, host: &Host<'_>, fds: &Fds, incoming: bool) -> Vec<String> {
    let mut args = Args::default();
    args.machine(spec, host);
    args.consoles(host, fds);
    args.fixed_devices();
    for (id, fd) in &fds.secrets {
        args.json("-object", &json!({"qom-type": "secret", "id": id, "file": format!("/proc/self/fd/{fd}")}));
    }
    let mut ide = 0;
    for disk in &spec.disks {
        args.disk(disk, host, fds, &mut ide);
    }
    if let Some(bus) = spec.config_drive {
        args.config_drive(bus, spec.config_drive_slot(), host, &mut ide);
    }
    // The guest numbers its interfaces by slot.
    for nic in &spec.nics {
        if let Some(fd) = fds.taps.get(&nic.port) {
            args.pair("-netdev", format!("tap,id={},fd={fd},vhost=off", nic.netdev()));
            args.json("-device", &nic_device(nic));
        }
    }
    args.boot(&spec.boot, host);
    if incoming {
        args.pair("-incoming", "defer");
    }
    args.0
}

#[derive(Default)]
struct Args(Vec<String>);

impl Args {
    fn one(&mut self, arg: &str) {
        self.0.push(arg.to_owned());
    }

    fn pair(&mut self, option: &str, value: impl Into<String>) {
        self.0.push(option.to_owned());
        self.0.push(value.into());
    }

    fn json(&mut self, option: &str, value: &Value) {
        self.pair(option, value.to_string());
    }

    fn machine(&mut self, spec: &LaunchSpec, host: &Host<'_>) {
        let machine = spec.machine.as_deref().unwrap_or("pc");
        let (accel, cpu) = match host.accel {
            Accel::Kvm => ("kvm".to_owned(), "host"),
            Accel::Tcg => (format!("tcg,thread=multi,tb-size={}", host.translation_cache_mib), "max"),
        };
        self.pair("-name", format!("guest={},debug-threads=on", escape(&spec.name)));
        self.pair("-uuid", spec.id.to_string());
        self.one("-nodefaults");
        self.one("-no-user-config");
        self.pair("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
        self.pair("-machine", format!("{machine},usb=off,dump-guest-core=off"));
        self.pair("-accel", accel);
        self.pair("-cpu", spec.cpu_model.as_deref().unwrap_or(cpu));
        self.pair("-smp", spec.vcpus.to_string());
        self.pair("-m", format!("size={}M", spec.memory_mib));
        self.pair("-rtc", "base=utc,driftfix=slew");
        // A guest that ends keeps its process, paused, until the agent has seen why: an agent that was away learns it too.
        self.pair("-action", "reboot=reset,shutdown=pause,panic=pause,watchdog=reset");
        let fw = &spec.firmware;
        self.pair(
            "-smbios",
            format!(
                "type=1,manufacturer={},product={},version={},serial={id},uuid={id},family=Virtual Machine",
                escape(&fw.manufacturer),
                escape(&fw.product),
                escape(&fw.version),
                id = spec.id
            ),
        );
        self.pair("-msg", "timestamp=on");
    }

    fn consoles(&mut self, host: &Host<'_>, fds: &Fds) {
        let log = escape(&host.dir.console_log().display().to_string());
        self.pair("-chardev", format!("socket,id=qmp,fd={},server=on,wait=off", fds.qmp));
        self.pair("-mon", "chardev=qmp,mode=control");
        self.pair("-chardev", format!("socket,id=serial0,fd={},server=on,wait=off,logfile={log},logappend=on", fds.serial));
        self.json("-device", &json!({"driver": "isa-serial", "id": "serial0-port", "chardev": "serial0"}));
        self.pair("-chardev", format!("socket,id=agent,fd={},server=on,wait=off", fds.guest_agent));
        // Screens are opened on demand through QMP (`add_client`): nothing listens.
        self.pair("-display", "none");
        self.pair("-vnc", "none");
    }

    fn fixed_devices(&mut self) {
        let devices = [
            json!({"driver": "VGA", "id": "vga", "addr": "0x2", "vgamem_mb": 16}),
            json!({"driver": "virtio-serial-pci", "id": "virtio-serial", "addr": "0x3"}),
            json!({"driver": "virtserialport", "id": "agent-port", "bus": "virtio-serial.0", "chardev": "agent", "name": "org.qemu.guest_agent.0"}),
            json!({"driver": "virtio-rng-pci", "id": "rng", "addr": "0x4", "rng": "entropy"}),
            json!({"driver": "virtio-balloon-pci", "id": "balloon", "addr": "0x5", "deflate-on-oom": true}),
            json!({"driver": "pvpanic", "id": "panic"}),
        ];
        self.json("-object", &json!({"qom-type": "rng-random", "id": "entropy", "filename": "/dev/urandom"}));
        for device in &devices {
            self.json("-device", device);
        }
    }

    fn disk(&mut self, disk: &Disk, host: &Host<'_>, fds: &Fds, ide: &mut usize) {
        let image = fds.images.get(&disk.id);
        if let Some(ImageFd { fd, .. }) = image {
            self.pair("-add-fd", format!("fd={fd},set={fd},opaque={}", disk.node()));
        }
        let below = image.copied().map(Below::from).or_else(|| fds.nodes.get(&disk.id).cloned().map(Below::Node));
        for node in disk_nodes(disk, &host.dir.disk(&disk.id).display().to_string(), below.as_ref()) {
            self.json("-blockdev", &node);
        }
        self.json("-device", &disk_device(disk, ide));
    }

    fn config_drive(&mut self, bus: Bus, slot: Option<u8>, host: &Host<'_>, ide: &mut usize) {
        let path = host.dir.config_drive().display().to_string();
        self.json("-blockdev", &file_node("config-f", &path, true));
        self.json("-blockdev", &json!({"driver": "raw", "node-name": "config", "file": "config-f", "read-only": true}));
        let mut device = bus_device(bus, slot, ide);
        device["id"] = "config-drive".into();
        device["drive"] = "config".into();
        self.json("-device", &device);
    }

    fn boot(&mut self, boot: &Boot, host: &Host<'_>) {
        match boot {
            Boot::Disk => self.pair("-boot", "strict=on"),
            Boot::Kernel { ramdisk, command_line, .. } => {
                self.pair("-kernel", host.dir.kernel().display().to_string());
                if ramdisk.is_some() {
                    self.pair("-initrd", host.dir.ramdisk().display().to_string());
                }
                self.pair("-append", command_line.clone());
            }
        }
    }
}

/// The block nodes of a disk, lowest first; the last is the one a device uses.
pub(crate) fn disk_nodes(disk: &Disk, own_path: &str, below: Option<&Below>) -> Vec<Value> {
    let top = disk.node();
    let format = disk.source.format();
    let foreign = |name: &str, path: &Path, read_only: bool| match below {
        Some(below) => below_node(name, below, read_only),
        None => file_node(name, &path.display().to_string(), read_only),
    };
    let mut nodes = Vec::new();
    let file = format!("{top}-f");
    let lowest = match &disk.source {
        Source::Given { .. } => {
            let mut node = foreign(&file, Path::new(""), disk.read_only);
            if node["locking"].is_string() {
                // A server that should be gone and is not keeps this one out.
                node["locking"] = "on".into();
            }
            node
        }
        Source::Overlay { base, base_format, .. } => {
            nodes.push(foreign(&format!("{top}-bf"), base, true));
            let mut image =
                json!({"driver": base_format.name(), "node-name": format!("{top}-b"), "file": format!("{top}-bf"), "read-only": true});
            if *base_format == Format::Qcow2 {
                image["backing"] = Value::Null;
            }
            nodes.push(image);
            file_node(&file, own_path, disk.read_only)
        }
        Source::Blank { .. } | Source::Ephemeral { .. } | Source::Swap { .. } => file_node(&file, own_path, disk.read_only),
    };
    nodes.push(lowest);
    let image = disk.image_node();
    let mut node = json!({"driver": format.name(), "node-name": image, "file": file, "read-only": disk.read_only, "discard": "unmap"});
    if format == Format::Qcow2 {
        // Named or null, never left to what the header says.
        node["backing"] = if matches!(disk.source, Source::Overlay { .. }) { format!("{top}-b").into() } else { Value::Null };
    }
    nodes.push(node);
    if image != top {
        let secret = disk.luks_secret();
        nodes.push(json!({"driver": "luks", "node-name": top, "file": image, "key-secret": secret, "read-only": disk.read_only, "discard": "unmap"}));
    }
    nodes
}

pub(crate) fn below_node(name: &str, below: &Below, read_only: bool) -> Value {
    match below {
        Below::Passed(passed) => passed_node(name, *passed, read_only),
        Below::Node(node) => {
            let mut node = node.clone();
            node["node-name"] = name.into();
            node["read-only"] = read_only.into();
            node["discard"] = "unmap".into();
            node
        }
    }
}

fn file_node(name: &str, path: &str, read_only: bool) -> Value {
    json!({"driver": "file", "node-name": name, "filename": path, "read-only": read_only, "discard": "unmap", "locking": "auto"})
}

fn passed_node(name: &str, passed: Passed, read_only: bool) -> Value {
    let mut node = file_node(name, &format!("/dev/fdset/{}", passed.set), read_only);
    if passed.block_device {
        node["driver"] = "host_device".into();
    }
    node
}

/// Arguments of `-device` and of `device_add` alike.
pub(crate) fn disk_device(disk: &Disk, ide: &mut usize) -> Value {
    let mut device = bus_device(disk.bus, disk.slot, ide);
    device["id"] = disk.device().into();
    device["drive"] = disk.node().into();
    if let Some(serial) = &disk.serial {
        device["serial"] = serial.chars().take(20).collect::<String>().into();
    }
    if let Some(index) = disk.boot_index {
        device["bootindex"] = index.into();
    }
    if disk.shared {
        device["share-rw"] = true.into();
    }
    device
}

fn bus_device(bus: Bus, slot: Option<u8>, ide: &mut usize) -> Value {
    let driver = match bus {
        Bus::Virtio => {
            let mut device = json!({"driver": "virtio-blk-pci"});
            if let Some(slot) = slot {
                device["addr"] = format!("{slot:#x}").into();
            }
            return device;
        }
        Bus::Ide => "ide-hd",
        Bus::IdeCdrom => "ide-cd",
    };
    let place = *ide;
    *ide += 1;
    json!({"driver": driver, "bus": format!("ide.{}", place / 2), "unit": place % 2})
}

pub(crate) fn nic_device(nic: &Nic) -> Value {
    // Without its ROM a card cannot boot from the network, which nobody asked for, and the firmware starts faster.
    let mut device = json!({"driver": nic.model.device(), "id": nic.device(), "netdev": nic.netdev(), "mac": nic.mac, "romfile": ""});
    if let Some(slot) = nic.slot {
        device["addr"] = format!("{slot:#x}").into();
    }
    if nic.model == NicModel::Virtio {
        device["mq"] = false.into();
    }
    device
}

/// A value inside a comma separated option: commas are doubled, control characters dropped.
fn escape(value: &str) -> String {
    value.chars().filter(|c| !c.is_control()).collect::<String>().replace(',', ",,")
}

#[cfg(test)]
mod tests;
