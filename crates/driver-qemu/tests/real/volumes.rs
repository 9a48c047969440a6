//! Servers on volumes: booted from, plugged, grown, copied while written, encrypted, fenced.

use super::harness::*;
use crate::need_mini;
use std::time::Duration;
use unkai_driver_qemu::*;
use unkai_driver_volume::{self as volume, Content, Files, Job, Luks, New, Pool, Spot, Tools};
use uuid::Uuid;

const DEADLINE: Duration = Duration::from_secs(60);
const GIB: u64 = 1 << 30;
const ROOT: &str = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";
const DATA: &str = "11112222-3333-4444-5555-666677778888";

/// The server's directory is not the pool's: QEMU may search neither, and needs to search none.
fn pool() -> (tempfile::TempDir, Pool) {
    let temp = tempfile::Builder::new().prefix("uv").tempdir_in("/var/tmp").unwrap();
    let pool = Pool::new(Files::new(temp.path().join("pool"), Tools::default()), Tools::default());
    pool.status(None).unwrap();
    (temp, pool.at(1))
}

fn blank(bytes: u64) -> New {
    New { bytes, shared: false, content: Content::Blank, luks: None }
}

fn from_mini(host: &TestHost, luks: Option<Luks>) -> New {
    New { content: Content::Image { path: host.image(), format: volume::Format::Qcow2 }, luks, ..blank(2 * GIB) }
}

fn key(passphrase: &str) -> Luks {
    Luks { cipher: "aes-256".into(), mode: "xts".into(), passphrase: passphrase.into() }
}

fn disk(id: &str, luks: bool, boot_index: Option<u32>) -> Disk {
    Disk {
        id: id.into(),
        source: Source::Given { format: Format::Qcow2, luks },
        bus: Bus::Virtio,
        read_only: false,
        shared: false,
        serial: Some(id.into()),
        boot_index,
        slot: None,
    }
}

/// What a pool says, as the driver wants it.
fn storage(image: volume::Image) -> Storage {
    match image.storage {
        volume::Storage::File(path) => Storage::File(path),
        other => panic!("{other:?}"),
    }
}

fn given(pool: &Pool, id: &str, generation: u64, luks: Option<&Luks>) -> Given {
    let storage = storage(pool.at(generation).open(id, false).unwrap());
    Given { disk: id.into(), storage, passphrase: luks.map(|luks| luks.passphrase.clone().into()) }
}

fn server(disks: Vec<Disk>) -> LaunchSpec {
    LaunchSpec { disks, ..bare() }
}

async fn launch(host: &TestHost, spec: LaunchSpec, given: Vec<Given>) -> Result<Vm> {
    let id = spec.id;
    host.qemu().define(spec, 1, None).await.unwrap();
    host.qemu().launch(id, vec![], given).await
}

async fn log_in(vm: &Vm) -> Serial {
    let mut serial = Serial::open(vm).await;
    serial.log_in().await;
    serial
}

#[tokio::test]
async fn a_server_lives_on_volumes() {
    need_mini!();
    let mut host = TestHost::new();
    let (_temp, pool) = pool();
    pool.create(ROOT, &from_mini(&host, None), &Job::default()).unwrap();
    pool.create(DATA, &blank(GIB), &Job::default()).unwrap();
    let root = given(&pool, ROOT, 1, None);
    let vm = launch(&host, server(vec![disk(ROOT, false, Some(0))]), vec![root]).await.unwrap();
    let id = vm.id();
    let mut serial = log_in(&vm).await;
    vm.plug_disk(disk(DATA, false, None), Some(given(&pool, DATA, 1, None))).await.unwrap();
    // as Nova names a volume to the guest
    serial.until("cat /sys/block/vdb/serial", &DATA[..20]).await;
    serial.run("sudo mkfs -t ext4 -q /dev/vdb; sudo mount /dev/vdb /mnt; echo first | sudo tee /mnt/mark; sync").await;

    // larger, under the guest
    assert!(matches!(pool.grow(DATA, 2 * GIB, false), Err(volume::Error::Busy(_))), "not behind QEMU's back");
    vm.resize_disk(DATA, 2 * GIB).await.unwrap();
    serial.until("cat /sys/block/vdb/size", "4194304").await;
    pool.grow(DATA, 2 * GIB, false).unwrap();

    // a snapshot while it is written; the pool cannot take it behind QEMU's back
    assert!(matches!(pool.snapshot(DATA, "s1", &Job::default()), Err(volume::Error::Busy(_))));
    let (target, lock) = pool.begin_copy(DATA, "s1").unwrap();
    assert!(!vm.copy_disk(DATA, storage(target), Format::Qcow2, None).await.unwrap(), "no guest agent, nothing frozen");
    pool.finish_copy(DATA, "s1", lock).unwrap();
    serial.run("echo second | sudo tee /mnt/mark; sync").await;

    // a copy that an agent's death cut short is in nobody's way
    let (target, lock) = pool.begin_copy(DATA, "s2").unwrap();
    let node = serde_json::json!({"driver": "null-co", "node-name": "snap-111122223333444455", "size": 1u64 << 20});
    vm.qmp().execute("blockdev-add", node).await.unwrap();
    vm.copy_disk(DATA, storage(target), Format::Qcow2, None).await.unwrap();
    pool.finish_copy(DATA, "s2", lock).unwrap();

    // the agent dies; the next one knows the volumes
    drop((vm, serial));
    host.restart_agent();
    host.qemu().discover().await;
    let vm = host.qemu().vm(id).await.expect("adopted");
    assert_eq!(vm.spec().disks.iter().map(|d| d.id.as_str()).collect::<Vec<_>>(), [ROOT, DATA]);
    let mut serial = Serial::open(&vm).await;
    serial.send("\n").await;
    serial.expect("$ ", SHORT).await;

    // a volume that is written is not removed, copied or put back
    assert!(matches!(pool.remove(DATA), Err(volume::Error::Busy(_))));
    assert!(matches!(pool.revert(DATA, "s1", 1, &Job::default()), Err(volume::Error::Busy(_))));
    let copy = New { content: Content::Copy { from: Spot::data(DATA), luks: None }, ..blank(GIB) };
    assert!(matches!(pool.create("copy", &copy, &Job::default()), Err(volume::Error::Busy(_))));

    serial.run("sudo umount /mnt").await;
    vm.unplug_disk(DATA, DEADLINE).await.unwrap();
    serial.run("ls /dev/vd*").await;
    // free again: snapshots hold what they should
    for (snapshot, mark) in [("s1", "first"), ("s2", "second")] {
        let clone = New { content: Content::Copy { from: Spot::snapshot(DATA, snapshot), luks: None }, ..blank(3 * GIB) };
        let name = format!("{snapshot}-clone-0000");
        pool.create(&name, &clone, &Job::default()).unwrap();
        vm.plug_disk(disk(&name, false, None), Some(given(&pool, &name, 1, None))).await.unwrap();
        serial.until("cat /sys/block/vdb/size", "6291456").await;
        let read = serial.run("sudo mount /dev/vdb /mnt; cat /mnt/mark; sudo umount /mnt").await;
        assert!(read.contains(mark), "{snapshot}: {read}");
        vm.unplug_disk(&name, DEADLINE).await.unwrap();
        pool.remove(&name).unwrap();
    }
    pool.revert(DATA, "s1", 1, &Job::default()).unwrap();
    vm.plug_disk(Disk { read_only: true, ..disk(DATA, false, None) }, Some(given(&pool, DATA, 1, None))).await.unwrap();
    serial.until("cat /sys/block/vdb/ro", "1").await;
    let read = serial.run("sudo mount -o ro,noload /dev/vdb /mnt; cat /mnt/mark; sudo umount /mnt").await;
    assert!(read.contains("first"), "{read}");
    vm.kill().await.unwrap();
}

#[tokio::test]
async fn an_old_qemu_keeps_the_new_one_out_and_an_old_generation_gets_nothing() {
    need_mini!();
    let host = TestHost::new();
    let (_temp, pool) = pool();
    pool.create(DATA, &blank(GIB), &Job::default()).unwrap();
    let old = launch(&host, server(vec![disk(DATA, false, None)]), vec![given(&pool, DATA, 3, None)]).await.unwrap();
    // the cloud has given the server up and starts it elsewhere, while it still lives
    let next = server(vec![disk(DATA, false, None)]);
    let id = next.id;
    let error = launch(&host, next, vec![given(&pool, DATA, 4, None)]).await.unwrap_err();
    assert!(error.is_held(), "{error}");
    assert!(matches!(pool.at(3).open(DATA, false), Err(volume::Error::Fenced { .. })), "the old host cannot start it again");
    old.kill().await.unwrap();
    host.qemu().launch(id, vec![], vec![given(&pool, DATA, 4, None)]).await.unwrap().kill().await.unwrap();

    // plugged, the same
    let first = launch(&host, server(vec![disk(DATA, false, None)]), vec![given(&pool, DATA, 4, None)]).await.unwrap();
    let second = launch(&host, bare(), vec![]).await.unwrap();
    let error = second.plug_disk(disk(DATA, false, None), Some(given(&pool, DATA, 4, None))).await.unwrap_err();
    assert!(error.is_held(), "{error}");
    first.kill().await.unwrap();
    second.plug_disk(disk(DATA, false, None), Some(given(&pool, DATA, 4, None))).await.unwrap();
    second.kill().await.unwrap();
}

#[tokio::test]
async fn what_is_shared_is_written_by_both() {
    need_mini!();
    let host = TestHost::new();
    let (_temp, pool) = pool();
    pool.create(DATA, &New { shared: true, ..blank(GIB) }, &Job::default()).unwrap();
    let shared = || Disk { shared: true, source: Source::Given { format: Format::Raw, luks: false }, ..disk(DATA, false, None) };
    let one = launch(&host, server(vec![shared()]), vec![given(&pool, DATA, 1, None)]).await.unwrap();
    let two = launch(&host, server(vec![shared()]), vec![given(&pool, DATA, 1, None)]).await.unwrap();
    let alone = server(vec![Disk { shared: false, ..shared() }]);
    let error = launch(&host, alone, vec![given(&pool, DATA, 1, None)]).await.unwrap_err();
    assert!(error.is_held(), "{error}");
    assert!(matches!(pool.remove(DATA), Err(volume::Error::Busy(_))));
    one.kill().await.unwrap();
    two.kill().await.unwrap();
    pool.remove(DATA).unwrap();
    let error = host.qemu().define(server(vec![Disk { shared: true, ..disk(DATA, false, None) }]), 1, None).await.unwrap_err();
    assert!(error.to_string().contains("only one server can write"), "{error}");
}

#[tokio::test]
async fn an_encrypted_volume_is_read_with_its_key_only() {
    need_mini!();
    let host = TestHost::new();
    let (temp, pool) = pool();
    let (luks, other) = (key("correct horse"), key("battery staple"));
    pool.create(ROOT, &from_mini(&host, Some(luks.clone())), &Job::default()).unwrap();
    pool.create(DATA, &New { luks: Some(luks.clone()), ..blank(GIB) }, &Job::default()).unwrap();
    let error =
        launch(&host, server(vec![disk(ROOT, true, Some(0))]), vec![given(&pool, ROOT, 1, Some(&other))]).await.unwrap_err().to_string();
    assert!(error.contains("Invalid password"), "{error}");

    let vm = launch(&host, server(vec![disk(ROOT, true, Some(0))]), vec![given(&pool, ROOT, 1, Some(&luks))]).await.unwrap();
    let mut serial = log_in(&vm).await;
    let wrong = vm.plug_disk(disk(DATA, true, None), Some(given(&pool, DATA, 1, Some(&other)))).await.unwrap_err().to_string();
    assert!(wrong.contains("Invalid password"), "{wrong}");
    vm.plug_disk(disk(DATA, true, None), Some(given(&pool, DATA, 1, Some(&luks)))).await.unwrap();
    serial.until("cat /sys/block/vdb/size", "2097152").await;
    serial.run("echo plain-words-on-disk | sudo dd of=/dev/vdb oflag=direct conv=sync bs=4096 2>&1").await;
    vm.resize_disk(DATA, 2 * GIB).await.unwrap();
    serial.until("cat /sys/block/vdb/size", "4194304").await;
    let (target, lock) = pool.begin_copy(DATA, "s").unwrap();
    vm.copy_disk(DATA, storage(target), Format::Qcow2, None).await.unwrap();
    pool.finish_copy(DATA, "s", lock).unwrap();

    // neither the process list nor the ledger shows the key
    let shown = std::fs::read(format!("/proc/{}/cmdline", vm.pid())).unwrap();
    let ledger = std::fs::read(host.path().join("servers").join(vm.id().to_string()).join("ledger.json")).unwrap();
    for text in [&shown, &ledger] {
        assert!(!String::from_utf8_lossy(text).contains("correct horse"));
    }
    vm.unplug_disk(DATA, DEADLINE).await.unwrap();
    let objects = vm.qmp().execute("qom-list", serde_json::json!({"path": "/objects"})).await.unwrap().to_string();
    assert!(objects.contains(ROOT) && !objects.contains(DATA), "{objects}");
    vm.kill().await.unwrap();

    for file in ["data.qcow2", "snap-s.qcow2"] {
        let bytes = std::fs::read(temp.path().join("pool/volumes").join(DATA).join(file)).unwrap();
        assert!(!bytes.windows(19).any(|w| w == b"plain-words-on-disk"), "{file}");
    }
    // a copy with the same key, and one with another
    let again = New { content: Content::Copy { from: Spot::snapshot(DATA, "s"), luks: Some(luks.clone()) }, ..blank(3 * GIB) };
    for (name, luks) in [("same", Some(luks.clone())), ("other", Some(other)), ("none", None)] {
        pool.create(name, &New { luks: luks.clone(), ..again.clone() }, &Job::default()).unwrap();
        let out = temp.path().join("out.raw");
        let file = std::fs::File::options().read(true).write(true).create(true).truncate(true).open(&out).unwrap();
        pool.export(&Spot::data(name), luks.as_ref(), &file, "raw", &Job::default()).unwrap();
        use std::os::unix::fs::FileExt;
        let mut head = [0; 19];
        file.read_exact_at(&mut head, 0).unwrap();
        assert_eq!((&head, file.metadata().unwrap().len()), (b"plain-words-on-disk", 3 * GIB), "{name}");
    }
}

#[tokio::test]
async fn a_volume_that_is_not_what_it_should_be_is_refused() {
    need_mini!();
    let host = TestHost::new();
    let (temp, pool) = pool();
    pool.create(DATA, &blank(GIB), &Job::default()).unwrap();
    let given = given(&pool, DATA, 1, None);
    std::fs::write(temp.path().join("pool/volumes").join(DATA).join("data.qcow2"), "no image at all, but longer than a header".repeat(9))
        .unwrap();
    let spec = server(vec![disk(DATA, false, None)]);
    let error = launch(&host, spec, vec![given]).await.unwrap_err();
    assert!(error.to_string().contains("said to be qcow2"), "{error}");
    let unknown = Uuid::new_v4();
    assert!(matches!(host.qemu().launch(unknown, vec![], vec![]).await, Err(Error::NotDefined(_))));
}
