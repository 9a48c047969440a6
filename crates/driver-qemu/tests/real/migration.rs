//! A running guest that goes from one QEMU to another, with its disks.

use super::harness::*;
use crate::need_mini;
use std::os::unix::net::UnixStream as StdStream;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::watch;
use unkai_driver_qemu::*;
use uuid::Uuid;

fn root_only() -> Vec<Copied> {
    vec![Copied { disk: "root".into(), whole: false }]
}

/// A machine at `to` that waits for this guest, and where its disks are written.
async fn await_at(to: &Qemu, vm: &Vm, copied: &[Copied]) -> (Vm, std::path::PathBuf) {
    let spec = vm.portrait().await.unwrap();
    assert!(spec.machine.as_ref().is_some_and(|machine| machine.starts_with("pc-i440fx-")), "{:?}", spec.machine);
    let id = spec.id;
    to.define(spec, 1, None).await.unwrap();
    let arriving = to.launch_incoming(id, vec![], vec![]).await.unwrap();
    let disks: Vec<String> = copied.iter().map(|copied| copied.disk.clone()).collect();
    let socket = arriving.export_disks(&disks).await.unwrap();
    (arriving, socket)
}

struct Moving {
    wish: watch::Sender<Wish>,
    told: watch::Receiver<Transfer>,
    task: tokio::task::JoinHandle<Result<Moved>>,
    carriers: Vec<tokio::task::JoinHandle<()>>,
}

/// What the agents of two hosts do: carries bytes.
async fn carry(vm: &Vm, arriving: &Vm, socket: &std::path::Path, copied: Vec<Copied>, stop_first: bool) -> Moving {
    let mut carriers = Vec::new();
    for copy in &copied {
        let listener = vm.mirror_listener(&copy.disk).unwrap();
        let socket = socket.to_owned();
        carriers.push(tokio::spawn(async move {
            let (mut near, _) = listener.accept().await.unwrap();
            let mut far = UnixStream::connect(socket).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        }));
    }
    let (leaving_end, ours) = StdStream::pair().unwrap();
    let (arriving_end, theirs) = StdStream::pair().unwrap();
    arriving.receive(arriving_end.into()).await.unwrap();
    for end in [&ours, &theirs] {
        end.set_nonblocking(true).unwrap();
    }
    let (mut ours, mut theirs) = (UnixStream::from_std(ours).unwrap(), UnixStream::from_std(theirs).unwrap());
    carriers.push(tokio::spawn(async move {
        let _ = tokio::io::copy_bidirectional(&mut ours, &mut theirs).await;
        let _ = theirs.shutdown().await;
    }));
    let (wish, wished) = watch::channel(Wish::Move);
    let (tell, told) = watch::channel(Transfer::default());
    let vm = vm.clone();
    let task = tokio::spawn(async move { vm.send(Outgoing { memory: leaving_end.into(), disks: copied, stop_first }, wished, tell).await });
    Moving { wish, told, task, carriers }
}

async fn counts(qemu: &Qemu, id: Uuid) -> Vec<u32> {
    let all = String::from_utf8_lossy(&qemu.console(id, None).await.unwrap()).into_owned();
    all.split("count ").filter_map(|text| text.split_once('.')?.0.parse().ok()).collect()
}

#[tokio::test]
async fn a_guest_and_its_disk_move_there_and_back() {
    need_mini!();
    let host = TestHost::new();
    let neighbour = host.neighbour();
    let (vm, mut serial) = host.boot().await;
    let id = vm.id();
    serial.run("dd if=/dev/urandom of=/home/debian/data bs=1M count=8 2>/dev/null; sync; sha256sum data > sum").await;
    serial.send("i=0; while :; do i=$((i+1)); echo $i >>log; echo \"count $i.\"; sleep 0.1; done\n").await;
    serial.expect("count 20.", SHORT).await;
    drop(serial);

    let (arriving, socket) = await_at(&neighbour, &vm, &root_only()).await;
    assert_eq!(arriving.status().state, RunState::Paused);
    let moving = carry(&vm, &arriving, &socket, root_only(), false).await;
    let moved = moving.task.await.unwrap().unwrap();
    assert_eq!(vm.status().state, RunState::Paused);
    arriving.received().await.unwrap();
    assert_eq!(arriving.status().state, RunState::Paused, "nothing runs before it is told to");
    arriving.start_received(true).await.unwrap();
    eprintln!("stood still for {:?}; {:?}", moved.stopped.elapsed(), moved.transfer);
    assert!(moved.transfer.memory_sent > 0 && moved.transfer.disk_sent >= 8 << 20, "{:?}", moved.transfer);
    vm.kill().await.unwrap();
    let here = counts(host.qemu(), id).await;
    let mut serial = Serial::open(&arriving).await;
    serial.expect(&format!("count {}.", here.last().unwrap() + 10), SHORT).await;
    serial.send("\x03").await;
    serial.expect("$ ", SHORT).await;
    serial.run("echo 3 | sudo tee /proc/sys/vm/drop_caches >/dev/null").await;
    assert!(serial.run("sha256sum -c sum").await.contains("data: OK"));
    let there = counts(&neighbour, id).await;
    assert!(here.iter().chain(&there).zip(1..).all(|(count, wanted)| *count == wanted), "nothing lost, nothing twice: {here:?} {there:?}");
    assert!(!neighbour.ledger(id).unwrap().receiving);
    drop(serial);

    // And back, standing still from the beginning, onto what is new there again.
    host.qemu().remove(id).await.unwrap();
    let (back, socket) = await_at(host.qemu(), &arriving, &root_only()).await;
    let moving = carry(&arriving, &back, &socket, root_only(), true).await;
    moving.task.await.unwrap().unwrap();
    back.received().await.unwrap();
    arriving.kill().await.unwrap();
    back.start_received(true).await.unwrap();
    let mut serial = Serial::open(&back).await;
    serial.send("\n").await;
    serial.expect("$ ", SHORT).await;
    assert!(serial.run("echo 3 | sudo tee /proc/sys/vm/drop_caches >/dev/null; sha256sum -c sum").await.contains("data: OK"));
    let log = serial.run("tail -n 1 log").await;
    assert!(log.parse::<u32>().is_ok_and(|n| n >= 30), "{log}");
    back.kill().await.unwrap();
}

#[tokio::test]
async fn a_guest_that_does_not_leave_goes_on_as_before() {
    need_mini!();
    let host = TestHost::new();
    let neighbour = host.neighbour();
    let (vm, mut serial) = host.boot().await;
    let id = vm.id();
    serial.send("i=0; while :; do i=$((i+1)); echo $i >>log; echo \"count $i.\"; sleep 0.1; done\n").await;
    serial.expect("count 5.", SHORT).await;
    let nothing_left = async |vm: &Vm| {
        let jobs = vm.qmp().run("query-jobs").await.unwrap();
        let nodes = vm.qmp().execute("query-named-block-nodes", serde_json::json!({"flat": true})).await.unwrap();
        assert_eq!(jobs, serde_json::json!([]));
        assert!(!nodes.to_string().contains("\"m-d-"), "{nodes}");
        assert_eq!(vm.status().state, RunState::Running);
    };

    // It is wished.
    let (arriving, socket) = await_at(&neighbour, &vm, &root_only()).await;
    let mut moving = carry(&vm, &arriving, &socket, root_only(), false).await;
    moving.told.wait_for(|told| told.memory_sent > 0).await.unwrap();
    moving.wish.send_replace(Wish::Abort);
    let refused = moving.task.await.unwrap().unwrap_err();
    assert!(refused.to_string().contains("given up"), "{refused}");
    nothing_left(&vm).await;
    neighbour.remove(id).await.unwrap();

    // The wires are cut while the disk is copied, and while the memory is.
    for after_disks in [false, true] {
        let (arriving, socket) = await_at(&neighbour, &vm, &root_only()).await;
        let mut moving = carry(&vm, &arriving, &socket, root_only(), false).await;
        if after_disks {
            moving.told.wait_for(|told| told.memory_sent > 0).await.unwrap();
        }
        moving.carriers.iter().for_each(|carrier| carrier.abort());
        moving.task.await.unwrap().unwrap_err();
        nothing_left(&vm).await;
        neighbour.remove(id).await.unwrap();
    }

    // The other machine has all of it and is never started: it is taken back.
    let (arriving, socket) = await_at(&neighbour, &vm, &root_only()).await;
    let moving = carry(&vm, &arriving, &socket, root_only(), false).await;
    moving.task.await.unwrap().unwrap();
    arriving.received().await.unwrap();
    neighbour.remove(id).await.unwrap();
    vm.take_back(true).await.unwrap();
    nothing_left(&vm).await;
    let last = *counts(host.qemu(), id).await.last().unwrap();
    serial.expect(&format!("count {}.", last + 10), SHORT).await;
    let all = counts(host.qemu(), id).await;
    assert!(all.iter().zip(1..).all(|(count, wanted)| *count == wanted), "{all:?}");
    vm.kill().await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
}
