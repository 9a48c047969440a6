//! An agent that dies and comes back.

use super::harness::*;
use crate::need_mini;
use std::time::Duration;
use unkai_driver_qemu::*;

fn running(found: Vec<Found>) -> Vec<Vm> {
    found.into_iter().filter_map(|f| if let FoundState::Running(vm) = f.state { Some(vm) } else { None }).collect()
}

#[tokio::test]
async fn a_running_guest_is_adopted_and_obeys() {
    need_mini!();
    let mut host = TestHost::new();
    let (vm, mut serial) = host.boot().await;
    serial.send("while :; do echo tick; sleep 1; done\n").await;
    // QEMU drops what its client sent and the guest has not read when that client goes.
    serial.expect("\ntick", SHORT).await;
    let (id, pid) = (vm.id(), vm.pid());
    drop((vm, serial));
    host.restart_agent();
    // the console is written while nobody is there
    let before = host.qemu().console(id, None).await.unwrap().len();
    let grown = async {
        while host.qemu().console(id, None).await.unwrap().len() <= before {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), grown).await.expect("the console log grows without an agent");
    let vms = running(host.qemu().discover().await);
    assert_eq!(vms.len(), 1);
    let vm = &vms[0];
    assert_eq!((vm.id(), vm.pid(), vm.status().state, vm.generation()), (id, pid, RunState::Running, 1));
    assert_eq!(host.qemu().launch(id, vec![], vec![]).await.unwrap().pid(), pid, "launching again is no new process");
    assert!(matches!(host.qemu().define(LaunchSpec { id, ..host.spec() }, 2, None).await, Err(Error::AlreadyRunning(_))));
    vm.pause().await.unwrap();
    // paused, too, survives
    drop(vms);
    host.restart_agent();
    let vms = running(host.qemu().discover().await);
    assert_eq!(vms[0].status().state, RunState::Paused);
    vms[0].resume().await.unwrap();
    // SAFETY: the process this test started.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    let exit = vms[0].exited_within(Duration::from_secs(10)).await.expect("the end of the process is seen");
    assert_eq!(exit.reason, ExitReason::HostKill { signal: None }, "not our child, so the signal is not known");
}

#[tokio::test]
async fn an_end_while_nobody_looked_is_still_known() {
    need_mini!();
    let mut host = TestHost::new();
    let (vm, mut serial) = host.boot().await;
    let id = vm.id();
    host.qemu = None;
    drop(vm);
    serial.send("sudo poweroff\n").await;
    serial.expect("Power down", SHORT).await;
    drop(serial);
    // The kernel's last words come a moment before the machine's end; an agent that looks in between sees it running, and goes again.
    let mut looks = 0;
    let (mut events, found) = loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        host.restart_agent();
        let events = host.qemu().events();
        let found = host.qemu().discover().await;
        looks += 1;
        if looks == 30 || !matches!(found[0].state, FoundState::Running(_)) {
            break (events, found);
        }
        drop(found);
        host.qemu = None;
    };
    assert!(matches!(found[0].state, FoundState::Stopped), "{found:?}");
    let ledger = found[0].ledger.clone().unwrap();
    assert!(ledger.process.is_none() && ledger.desired == Desired::Running);
    let exit = loop {
        let event = tokio::time::timeout(SHORT, events.recv()).await.unwrap().unwrap();
        if let EventKind::Exited(exit) = event.kind {
            break exit;
        }
    };
    assert_eq!(exit.reason, ExitReason::GuestShutdown);
    assert_eq!(ledger.last_exit, Some(exit));
    assert_eq!(host.qemu().ledger(id).unwrap(), ledger);
}

#[tokio::test]
async fn a_process_the_ledger_does_not_know_is_found() {
    need_mini!();
    let mut host = TestHost::new();
    let spec = bare();
    let id = spec.id;
    host.qemu().define(spec, 1, None).await.unwrap();
    let vm = host.qemu().launch(id, vec![], vec![]).await.unwrap();
    let pid = vm.pid();
    drop(vm);
    host.qemu = None;
    // as if the agent had died between starting the process and noting it
    let ledger = host.config().dir.join(id.to_string()).join("ledger.json");
    let mut value: serde_json::Value = serde_json::from_slice(&std::fs::read(&ledger).unwrap()).unwrap();
    value["process"] = serde_json::Value::Null;
    std::fs::write(&ledger, value.to_string()).unwrap();
    host.restart_agent();
    assert_eq!(running(host.qemu().discover().await)[0].pid(), pid);
    // a foreign process under the noted number is not taken for ours
    host.qemu = None;
    value["process"] = serde_json::json!({"pid": std::process::id(), "started": 1});
    std::fs::write(&ledger, value.to_string()).unwrap();
    host.restart_agent();
    assert_eq!(running(host.qemu().discover().await)[0].pid(), pid);
    // without its ledger the server is broken, and its process is ended with it
    host.qemu = None;
    std::fs::write(&ledger, "{").unwrap();
    host.restart_agent();
    let found = host.qemu().discover().await;
    assert!(matches!(&found[0].state, FoundState::Broken { problem } if problem.contains("ledger")), "{found:?}");
    host.qemu().remove(id).await.unwrap();
    // SAFETY: asks only whether it is there; as our own child it may be waiting to be reaped.
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_else(|_| ") Z".into());
    assert!(state.contains(") Z"), "{state}");
    assert!(host.qemu().discover().await.is_empty());
}

#[tokio::test]
async fn an_orphan_is_reported_and_removed() {
    need_mini!();
    let mut host = TestHost::new();
    let spec = bare();
    let id = spec.id;
    host.qemu().define(spec, 1, None).await.unwrap();
    let vm = host.qemu().launch(id, vec![], vec![]).await.unwrap();
    let pid = vm.pid();
    drop(vm);
    host.qemu = None;
    std::fs::remove_dir_all(host.config().dir.join(id.to_string())).unwrap();
    host.restart_agent();
    let found = host.qemu().discover().await;
    assert!(matches!(found[0].state, FoundState::Orphan(process) if process.pid == pid), "{found:?}");
    host.qemu().remove(id).await.unwrap();
    assert!(host.qemu().discover().await.is_empty());
}
