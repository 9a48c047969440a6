//! Suspend to disk and back.

use super::harness::*;
use crate::need_mini;
use std::time::Duration;
use unkai_driver_qemu::*;

#[tokio::test]
async fn a_suspended_guest_counts_on() {
    need_mini!();
    let mut host = TestHost::new();
    let (vm, mut serial) = host.boot().await;
    let id = vm.id();
    // a hot plugged device must be there again, in its place
    let scratch = Source::Blank { bytes: 8 << 20 };
    let disk = Disk {
        id: "scratch".into(),
        source: scratch,
        bus: Bus::Virtio,
        read_only: false,
        shared: false,
        serial: None,
        boot_index: None,
        slot: None,
    };
    vm.plug_disk(disk, None).await.unwrap();
    serial.until("ls /dev/vd*", "/dev/vdb").await;
    serial.send("i=0; while :; do i=$((i+1)); echo \"count $i.\"; sleep 0.2; done\n").await;
    serial.expect("count 10.", SHORT).await;
    vm.suspend().await.unwrap();
    assert_eq!(vm.status().exit.unwrap().reason, ExitReason::Stopped);
    drop((vm, serial));
    host.restart_agent();
    assert!(matches!(host.qemu().discover().await[0].state, FoundState::Suspended));
    let written = String::from_utf8_lossy(&host.qemu().console(id, None).await.unwrap()).into_owned();
    let last: u32 = written.rsplit("count ").find_map(|t| t.split_once('.')?.0.parse().ok()).unwrap();

    let vm = host.qemu().launch(id, vec![], vec![]).await.unwrap();
    assert_eq!(vm.status().state, RunState::Running);
    let mut serial = Serial::open(&vm).await;
    serial.expect(&format!("count {}.", last + 8), SHORT).await;
    let all = String::from_utf8_lossy(&host.qemu().console(id, None).await.unwrap()).into_owned();
    let counts: Vec<u32> = all.split("count ").filter_map(|t| t.split_once('.')?.0.parse().ok()).collect();
    assert!(counts.windows(2).all(|w| w[1] == w[0] + 1), "nothing lost, nothing twice: {counts:?}");
    let ledger = host.qemu().ledger(id).unwrap();
    assert!(!ledger.suspended && ledger.spec.machine.is_some_and(|m| m.starts_with("pc-i440fx-")));
    serial.send("\x03").await;
    serial.expect("$ ", SHORT).await;
    assert_eq!(
        serial
            .run("dd if=/dev/vdb bs=4k count=1 2>/dev/null | wc -c; sudo dd if=/dev/vdb bs=4k count=1 2>/dev/null | wc -c")
            .await
            .lines()
            .last(),
        Some("4096")
    );

    // a paused guest, and a saved state that is thrown away
    vm.pause().await.unwrap();
    vm.suspend().await.unwrap();
    host.qemu().discard_suspended(id).await.unwrap();
    let vm = host.qemu().launch(id, vec![], vec![]).await.unwrap();
    let mut serial = Serial::open(&vm).await;
    serial.expect("login: ", BOOT).await;
    vm.stop(Duration::from_secs(1)).await.unwrap();
}
