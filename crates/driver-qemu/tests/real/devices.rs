//! Devices that come and go, and copies of disks.

use super::harness::*;
use crate::need_mini;
use std::time::{Duration, Instant};
use unkai_driver_qemu::*;

const DEADLINE: Duration = Duration::from_secs(60);

fn disk(id: &str, source: Source) -> Disk {
    Disk {
        id: id.into(),
        source,
        bus: Bus::Virtio,
        read_only: false,
        shared: false,
        serial: Some("volume-0001".into()),
        boot_index: None,
        slot: None,
    }
}

#[tokio::test]
async fn a_network_card_is_plugged_and_unplugged() {
    need_mini!();
    let host = TestHost::new();
    let (vm, mut serial) = host.boot().await;
    let Some(fd) = tap() else { return };
    let nic =
        Nic { port: "3f2b6c1e-0000-4000-8000-000000000001".into(), mac: "fa:16:3e:0a:0b:0c".into(), model: NicModel::Virtio, slot: None };
    vm.plug_nic(nic.clone(), fd).await.unwrap();
    vm.plug_nic(nic.clone(), tap().unwrap()).await.unwrap();
    serial.until("ip link", "fa:16:3e:0a:0b:0c").await;
    serial.until("ps", "udhcpc").await;
    assert_eq!(vm.spec().nics.len(), 1);
    let ledger = host.qemu().ledger(vm.id()).unwrap();
    assert_eq!(ledger.spec.nics[0].slot, vm.spec().nics[0].slot);
    vm.unplug_nic(&nic.port, DEADLINE).await.unwrap();
    vm.unplug_nic(&nic.port, DEADLINE).await.unwrap();
    assert_eq!(serial.run("ip link | grep -c 0a:0b:0c").await, "0");
    assert!(vm.spec().nics.is_empty());
    // the same port again: nothing of the first time is in the way
    vm.plug_nic(nic.clone(), tap().unwrap()).await.unwrap();
    serial.until("ip link", "fa:16:3e:0a:0b:0c").await;
}

#[tokio::test]
async fn disks_are_plugged_grown_and_unplugged() {
    need_mini!();
    let host = TestHost::new();
    let (vm, mut serial) = host.boot().await;
    let file = host.path().join("volume");
    std::fs::File::create(&file).unwrap().set_len(32 << 20).unwrap();
    let volume = disk("0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9", Source::Given { format: Format::Raw, luks: false });
    let given = Given { disk: volume.id.clone(), storage: Storage::File(file.clone()), passphrase: None };
    let not_given = vm.plug_disk(volume.clone(), None).await.unwrap_err();
    assert!(not_given.to_string().contains("was not given"), "{not_given}");
    vm.plug_disk(volume.clone(), Some(given.clone())).await.unwrap();
    vm.plug_disk(volume.clone(), Some(given.clone())).await.unwrap();
    serial.until("ls /dev/vd*; cat /sys/block/vdb/serial", "volume-0001").await;
    serial.run("sudo mkfs -t ext4 /dev/vdb; sudo mount /dev/vdb /mnt; date | sudo tee /mnt/timestamp; sync").await;
    vm.resize_disk(&volume.id, 48 << 20).await.unwrap();
    serial.until("cat /sys/block/vdb/size", "98304").await;
    serial.run("sudo umount /mnt").await;
    vm.unplug_disk(&volume.id, DEADLINE).await.unwrap();
    vm.unplug_disk(&volume.id, DEADLINE).await.unwrap();
    assert_eq!(serial.run("ls /dev/vdb | wc -l").await.lines().last(), Some("0"));
    let sets = vm.qmp().run("query-fdsets").await.unwrap();
    assert_eq!(sets.as_array().unwrap().len(), 1, "only the base image is still open: {sets}");
    // what the guest wrote is in the file
    let bytes = std::fs::read(&file).unwrap();
    assert!(bytes.windows(9).any(|w| w == b"timestamp"));
    // one of the server's own, and again under the same name
    vm.plug_disk(disk("scratch", Source::Blank { bytes: 8 << 20 }), None).await.unwrap();
    serial.until("cat /sys/block/vdb/size", "16384").await;
    vm.unplug_disk("scratch", DEADLINE).await.unwrap();
    vm.plug_disk(volume, Some(given)).await.unwrap();
    serial.until("sudo blkid /dev/vdb", "ext4").await;
}

#[tokio::test]
async fn a_copy_of_a_running_disk_boots() {
    need_mini!();
    let host = TestHost::new();
    let (vm, mut serial) = host.boot().await;
    serial.run("echo before > early; sync").await;
    // writes go on while the copy is made, and must not be in it twice or torn
    serial.send("n=0; while :; do n=$((n+1)); echo $n > late; sync; done\n").await;
    let target = host.path().join("snapshot.qcow2");
    let (tell, progress) = tokio::sync::watch::channel(Progress::default());
    let started = Instant::now();
    let snapshot = vm.snapshot_disk("root", &target, Format::Qcow2, Some(tell)).await.unwrap();
    eprintln!("live copy took {:?}", started.elapsed());
    assert_eq!((snapshot.virtual_bytes, snapshot.frozen), (1 << 30, false));
    let progress = *progress.borrow();
    assert!(progress.done > 0 && progress.done == progress.total, "{progress:?}");
    assert!(vm.snapshot_disk("root", &target, Format::Qcow2, None).await.is_err(), "an existing file is not overwritten");
    assert!(vm.snapshot_disk("nothing", &host.path().join("x"), Format::Raw, None).await.is_err());
    vm.kill().await.unwrap();
    let sets = std::fs::read_dir(host.path()).unwrap().flatten().filter(|e| e.file_name().to_string_lossy().ends_with(".part")).count();
    assert_eq!(sets, 0);

    let mut copy = host.spec();
    copy.disks[0].source = Source::Overlay { base: target, base_format: Format::Qcow2, bytes: 1 << 30 };
    let (copied, mut serial) = host.boot_spec(copy).await;
    assert_eq!(serial.run("cat early").await, "before");
    copied.kill().await.unwrap();

    // the same for a server that is off
    let cold = host.path().join("cold.raw");
    host.qemu().snapshot_disk(copied.id(), "root", &cold, Format::Raw, None).await.unwrap();
    assert_eq!(cold.metadata().unwrap().len(), 1 << 30);
}

#[tokio::test]
async fn swap_and_ephemeral_disks_are_there() {
    need_mini!();
    let host = TestHost::new();
    let mut spec = host.spec();
    spec.disks.push(disk("ephemeral0", Source::Ephemeral { bytes: 64 << 20, label: "ephemeral0".into() }));
    spec.disks.push(disk("swap", Source::Swap { bytes: 16 << 20 }));
    let (_vm, mut serial) = host.boot_spec(spec).await;
    let listing = serial.run("sudo blkid /dev/vdb /dev/vdc").await;
    assert!(listing.contains("LABEL=\"ephemeral0\"") && listing.contains("TYPE=\"swap\""), "{listing}");
    assert_eq!(serial.run("sudo swapon /dev/vdc && grep -c vdc /proc/swaps").await, "1");
}
