//! Servers on volumes that QEMU reaches by a client of its own, in its cage: a real Ceph, a real iSCSI target, a real NFS server.

use super::harness::*;
#[path = "../../../driver-volume/src/rbd/cluster.rs"]
mod cluster;
#[path = "../../../driver-volume/src/nfs/server.rs"]
#[expect(dead_code, reason = "what only the tests of the driver need")]
mod nfs_server;
use crate::need_mini;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use unkai_driver_qemu::*;
use unkai_driver_volume::{self as volume, Content, Iscsi, Job, New, Nfs, Pool, Rbd, Tools};

const GIB: u64 = 1 << 30;
const ROOT: &str = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";
const DATA: &str = "11112222-3333-4444-5555-666677778888";

fn disk(id: &str, boot_index: Option<u32>) -> Disk {
    Disk {
        id: id.into(),
        source: Source::Given { format: Format::Raw, luks: false },
        bus: Bus::Virtio,
        read_only: false,
        shared: false,
        serial: Some(id.into()),
        boot_index,
        slot: None,
    }
}

fn given(pool: &Pool, id: &str, generation: u64) -> Given {
    let volume::Storage::Node { node, secrets } = pool.at(generation).open(id, false).unwrap().storage else { panic!("not by network") };
    let secrets = secrets.into_iter().map(|secret| (secret.id, Passphrase(secret.value))).collect();
    Given { disk: id.into(), storage: Storage::Node { node, secrets }, passphrase: None }
}

async fn launch(host: &TestHost, disks: Vec<Disk>, given: Vec<Given>) -> Result<Vm> {
    let spec = LaunchSpec { disks, ..bare() };
    let id = spec.id;
    host.qemu().define(spec, 1, None).await.unwrap();
    host.qemu().launch(id, vec![], given).await
}

fn blank(bytes: u64) -> New {
    New { bytes, shared: false, content: Content::Blank, luks: None }
}

#[tokio::test]
async fn a_server_lives_on_ceph_until_a_newer_generation_takes_its_disk() {
    need_mini!();
    let Some(ceph) = cluster::cluster() else { return };
    let host = TestHost::new();
    let (name, user, key) = ceph.pool();
    let monitors = [ceph.get("CEPH_MONITOR").to_owned()];
    let pool = Pool::new(Rbd::new(&monitors, &name, &user, &key, Tools::default()).unwrap(), Tools::default());
    let image = Content::Image { path: host.image(), format: volume::Format::Qcow2 };
    pool.at(1).create(ROOT, &New { content: image, ..blank(2 * GIB) }, &Job::default()).unwrap();
    pool.at(1).create(DATA, &blank(GIB), &Job::default()).unwrap();

    let vm = launch(&host, vec![disk(ROOT, Some(0))], vec![given(&pool, ROOT, 1)]).await.unwrap();
    let mut serial = Serial::open(&vm).await;
    serial.log_in().await;
    vm.plug_disk(disk(DATA, None), Some(given(&pool, DATA, 1))).await.unwrap();
    serial.until("cat /sys/block/vdb/serial", &DATA[..20]).await;
    serial.run("sudo mkfs -t ext4 -q /dev/vdb; sudo mount /dev/vdb /mnt; echo first | sudo tee /mnt/mark; sync").await;

    // by the storage, while it is written
    pool.at(1).snapshot(DATA, "s", &Job::default()).unwrap();
    serial.run("echo second | sudo tee /mnt/mark; sync").await;
    vm.resize_disk(DATA, 2 * GIB).await.unwrap();
    serial.until("cat /sys/block/vdb/size", "4194304").await;
    assert_eq!(pool.look(DATA).unwrap().unwrap().bytes, Some(2 * GIB));

    // neither the process list nor the ledger shows the key
    let shown = std::fs::read(format!("/proc/{}/cmdline", vm.pid())).unwrap();
    let ledger = std::fs::read(host.path().join("servers").join(vm.id().to_string()).join("ledger.json")).unwrap();
    for text in [&shown, &ledger] {
        assert!(!String::from_utf8_lossy(text).contains(&key));
    }

    // another host has it now
    let there = launch(&host, vec![], vec![]).await.unwrap();
    there.plug_disk(disk(DATA, None), Some(given(&pool, DATA, 2))).await.unwrap();
    let said = serial.run("echo third | sudo dd of=/dev/vdb oflag=direct conv=sync bs=4096 2>&1").await;
    assert!(said.contains("rror"), "the guest is told: {said}");
    there.kill().await.unwrap();
    vm.kill().await.unwrap();

    // what was written before the other generation came, and nothing else
    let vm = launch(&host, vec![disk(ROOT, Some(0)), disk(DATA, None)], vec![given(&pool, ROOT, 1), given(&pool, DATA, 3)]).await.unwrap();
    let mut serial = Serial::open(&vm).await;
    serial.log_in().await;
    let read = serial.run("sudo mount /dev/vdb /mnt; cat /mnt/mark; sudo umount /mnt").await;
    assert!(read.contains("second"), "{read}");
    vm.unplug_disk(DATA, SHORT).await.unwrap();
    let objects = vm.qmp().execute("qom-list", serde_json::json!({"path": "/objects"})).await.unwrap().to_string();
    assert!(objects.contains(ROOT) && !objects.contains(DATA), "{objects}");
    pool.at(3).revert(DATA, "s", 1, &Job::default()).unwrap();
    vm.plug_disk(disk(DATA, None), Some(given(&pool, DATA, 3))).await.unwrap();
    let read = serial.run("sleep 1; sudo mount /dev/vdb /mnt; cat /mnt/mark; sudo umount /mnt").await;
    assert!(read.contains("first"), "{read}");
    vm.kill().await.unwrap();
}

/// Whatever becomes of the test, its target ends.
struct Leave(Pool);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.leave().unwrap();
    }
}

#[tokio::test]
async fn a_server_lives_on_luns_until_a_newer_generation_takes_its_disk() {
    need_mini!();
    if !Path::new("/usr/sbin/tgtd").exists() || !nix::unistd::geteuid().is_root() {
        let _ = writeln!(std::io::stderr(), "SKIPPED: a server on iSCSI: needs root, tgt and qemu-block-extra");
        return;
    }
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
    let host = TestHost::new();
    let temp = tempfile::tempdir_in("/var/tmp").unwrap();
    let (portal, iqn, dir) = ("127.0.0.1".to_owned(), "iqn.2026-01.test:luns".to_owned(), temp.path().join("pool"));
    let iscsi = Iscsi { portal, iqn, dir, user: "unkai".into(), password: "not-for-command-lines".into() };
    let pool = iscsi.pool(Tools::default()).unwrap();
    let _leave = Leave(pool.clone());
    pool.status(None).unwrap();
    let image = Content::Image { path: host.image(), format: volume::Format::Qcow2 };
    pool.at(1).create(ROOT, &New { content: image, ..blank(2 * GIB) }, &Job::default()).unwrap();
    pool.at(1).create(DATA, &blank(GIB), &Job::default()).unwrap();

    let vm = launch(&host, vec![disk(ROOT, Some(0))], vec![given(&pool, ROOT, 1)]).await.unwrap();
    let mut serial = Serial::open(&vm).await;
    serial.log_in().await;
    vm.plug_disk(disk(DATA, None), Some(given(&pool, DATA, 1))).await.unwrap();
    serial.until("cat /sys/block/vdb/serial", &DATA[..20]).await;
    serial.run("sudo mkfs -t ext4 -q /dev/vdb; sudo mount /dev/vdb /mnt; echo first | sudo tee /mnt/mark; sync; sudo umount /mnt").await;
    let shown = std::fs::read(format!("/proc/{}/cmdline", vm.pid())).unwrap();
    assert!(!String::from_utf8_lossy(&shown).contains("not-for-command-lines"));

    // another host has it now
    let there = launch(&host, vec![], vec![]).await.unwrap();
    there.plug_disk(disk(DATA, None), Some(given(&pool, DATA, 2))).await.unwrap();
    serial.run("(sudo dd if=/dev/urandom of=/dev/vdb oflag=direct bs=4096 count=64 2>/dev/null; echo written > /tmp/written) & true").await;
    let said = serial.run("sleep 5; cat /tmp/written 2>/dev/null; echo the root disk lives").await;
    assert!(!said.contains("written\r") && said.contains("the root disk lives"), "{said}");
    there.kill().await.unwrap();
    vm.kill().await.unwrap();

    let vm = launch(&host, vec![disk(ROOT, Some(0)), disk(DATA, None)], vec![given(&pool, ROOT, 1), given(&pool, DATA, 3)]).await.unwrap();
    let mut serial = Serial::open(&vm).await;
    serial.log_in().await;
    let read = serial.run("sudo mount /dev/vdb /mnt; cat /mnt/mark; sudo umount /mnt").await;
    assert!(read.contains("first"), "{read}");
    vm.kill().await.unwrap();
}

#[tokio::test]
async fn a_server_lives_on_an_export_until_a_newer_generation_takes_its_disk() {
    need_mini!();
    let Some(mut export) = nfs_server::Server::start(None) else { return };
    let host = TestHost::new();
    let nfs = Nfs::new(nfs_server::ADDRESS, export.export().to_str().unwrap(), 300_000, 300_000).unwrap();
    let pool = Pool::new(nfs, Tools::default());
    pool.status(None).unwrap();
    let image = Content::Image { path: host.image(), format: volume::Format::Qcow2 };
    pool.at(1).create(ROOT, &New { content: image, ..blank(2 * GIB) }, &Job::default()).unwrap();
    pool.at(1).create(DATA, &blank(GIB), &Job::default()).unwrap();

    let vm = launch(&host, vec![disk(ROOT, Some(0))], vec![given(&pool, ROOT, 1)]).await.unwrap();
    let mut serial = Serial::open(&vm).await;
    serial.log_in().await;
    vm.plug_disk(disk(DATA, None), Some(given(&pool, DATA, 1))).await.unwrap();
    serial.until("cat /sys/block/vdb/serial", &DATA[..20]).await;
    vm.resize_disk(DATA, 2 * GIB).await.unwrap();
    serial.until("cat /sys/block/vdb/size", "4194304").await;
    assert_eq!(pool.look(DATA).unwrap().unwrap().bytes, Some(2 * GIB));
    serial.run("sudo mkfs -t ext4 -q /dev/vdb; sudo mount /dev/vdb /mnt; echo first | sudo tee /mnt/mark; sync").await;

    // the server dies and comes back, while the guest writes
    export.end();
    serial.send("echo second | sudo tee /mnt/mark; sync; sudo umount /mnt; echo writ''ten\n").await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    export.begin();
    serial.expect("written\r\n", SHORT).await;

    // another host has it now
    let there = launch(&host, vec![], vec![]).await.unwrap();
    there.plug_disk(disk(DATA, None), Some(given(&pool, DATA, 2))).await.unwrap();
    let said = serial.run("echo third | sudo dd of=/dev/vdb oflag=direct conv=sync bs=4096 2>&1").await;
    assert!(said.contains("rror"), "the guest is told: {said}");
    there.kill().await.unwrap();
    vm.kill().await.unwrap();

    let vm = launch(&host, vec![disk(ROOT, Some(0)), disk(DATA, None)], vec![given(&pool, ROOT, 1), given(&pool, DATA, 3)]).await.unwrap();
    let mut serial = Serial::open(&vm).await;
    serial.log_in().await;
    let read = serial.run("sudo mount /dev/vdb /mnt; cat /mnt/mark; sudo umount /mnt").await;
    assert!(read.contains("second"), "{read}");
    vm.kill().await.unwrap();
}
