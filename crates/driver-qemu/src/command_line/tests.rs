//! Goldens: `UPDATE_GOLDENS=1 cargo test -p unkai-driver-qemu` rewrites them; the diff is part of the review.

use super::*;
use crate::spec::Firmware;
use std::path::PathBuf;
use uuid::Uuid;

fn disk(id: &str, source: Source) -> Disk {
    Disk { id: id.into(), source, bus: Bus::Virtio, read_only: false, shared: false, serial: None, boot_index: None, slot: None }
}

fn simple() -> LaunchSpec {
    LaunchSpec {
        id: Uuid::from_u128(0x6d8f1d2c8c2b4a519d1f3f1a0b0c7e55),
        name: "web,1\n".into(),
        vcpus: 1,
        memory_mib: 128,
        machine: None,
        cpu_model: None,
        disks: vec![Disk {
            boot_index: Some(1),
            ..disk("root", Source::Overlay { base: "/images/b".into(), base_format: Format::Qcow2, bytes: 1 << 30 })
        }],
        nics: vec![Nic {
            port: "2b7c0f9e-8a54-4f0e-a3a5-7b52a4f8f6d1".into(),
            mac: "fa:16:3e:01:02:03".into(),
            model: NicModel::Virtio,
            slot: None,
        }],
        boot: Boot::Disk,
        config_drive: None,
        firmware: Firmware { version: "0".into(), ..Firmware::default() },
    }
}

fn wide() -> LaunchSpec {
    let given = |format, luks| Source::Given { format, luks };
    let mut spec = simple();
    spec.machine = Some("pc-i440fx-7.2".into());
    spec.cpu_model = Some("Nehalem".into());
    spec.vcpus = 4;
    spec.disks.extend([
        disk("ephemeral0", Source::Ephemeral { bytes: 1 << 30, label: "ephemeral0".into() }),
        disk("swap", Source::Swap { bytes: 1 << 20 }),
        Disk {
            serial: Some("0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9".into()),
            shared: true,
            ..disk("0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9", given(Format::Raw, false))
        },
        disk("9f8e7d6c-0000-4000-8000-000000000002", given(Format::Qcow2, true)),
        disk("7e6d5c4b-0000-4000-8000-000000000003", given(Format::Raw, false)),
        Disk { bus: Bus::IdeCdrom, read_only: true, ..disk("install", given(Format::Raw, false)) },
    ]);
    spec.nics.push(Nic { port: "p2".into(), mac: "fa:16:3e:01:02:04".into(), model: NicModel::E1000, slot: None });
    spec.boot =
        Boot::Kernel { kernel: "/images/k".into(), ramdisk: Some("/images/r".into()), command_line: "console=ttyS0 root=/dev/vda".into() };
    spec.config_drive = Some(Bus::IdeCdrom);
    spec
}

fn render(mut spec: LaunchSpec, accel: Accel, incoming: bool) -> String {
    spec.assign_slots().unwrap();
    spec.validate().unwrap();
    let dir = ServerDir::new(Path::new("/srv"), spec.id);
    let mut fds = Fds { qmp: 301, serial: 302, guest_agent: 303, ..Fds::default() };
    let remote = "7e6d5c4b-0000-4000-8000-000000000003";
    let foreign = spec.disks.iter().filter(|d| matches!(d.source, Source::Overlay { .. } | Source::Given { .. }) && d.id != remote);
    fds.images = foreign.zip(310..).map(|(d, fd)| (d.id.clone(), ImageFd { fd, block_device: d.id.starts_with("0a1b") })).collect();
    if spec.disks.iter().any(|d| d.id == remote) {
        fds.nodes.insert(remote.into(), json!({"driver": "rbd", "pool": "p", "image": "i", "key-secret": format!("s{remote}-key")}));
        fds.secrets = [(format!("s{remote}-key"), 330), ("s9f8e7d6c-0000-4000-8000-000000000002-luks".into(), 331)].into();
    }
    fds.taps = spec.nics.iter().zip(320..).map(|(n, fd)| (n.port.clone(), fd)).collect();
    let host = Host { accel, translation_cache_mib: 128, dir: &dir };
    let mut text = String::new();
    for arg in command_line(&spec, &host, &fds, incoming) {
        // objects in sorted order, whatever order the map type keeps
        let arg = match serde_json::from_str::<std::collections::BTreeMap<String, Value>>(&arg) {
            Ok(sorted) => serde_json::to_string(&sorted).unwrap(),
            Err(_) => arg,
        };
        text.push_str(if arg.starts_with('-') { "\n" } else { " " });
        text.push_str(&arg);
    }
    text.trim_start().to_owned() + "\n"
}

fn check(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/goldens").join(name);
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = text.lines().zip(golden.lines().chain(std::iter::repeat(""))).find(|(new, old)| new != old);
    assert!(text == golden, "{name} differs, first here: {differs:#?}; look at the change, then run with UPDATE_GOLDENS=1");
}

#[test]
fn a_plain_server() {
    check("plain-tcg.txt", &render(simple(), Accel::Tcg, false));
}

#[test]
fn every_kind_of_device() {
    check("wide-kvm.txt", &render(wide(), Accel::Kvm, false));
}

#[test]
fn a_restored_server_has_the_same_machine() {
    let (fresh, restored) = (render(simple(), Accel::Tcg, false), render(simple(), Accel::Tcg, true));
    assert_eq!(restored, format!("{}\n-incoming defer\n", fresh.trim_end()));
}
