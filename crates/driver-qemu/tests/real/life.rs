//! Power, confinement, and how ends are seen.

use super::harness::*;
use crate::need_mini;
use std::time::Duration;
use tokio::net::UnixStream;
use unkai_driver_qemu::*;

fn field(pid: i32, file: &str, name: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let line = text.lines().find(|l| l.starts_with(name)).unwrap_or_default();
    line.trim_start_matches(name).trim().to_owned()
}

#[tokio::test]
async fn a_guest_boots_pauses_resets_and_shuts_down() {
    need_mini!();
    let host = TestHost::new();
    let mut events = host.qemu().events();
    let (vm, mut serial) = host.boot().await;
    assert_eq!(events.recv().await.unwrap().kind, EventKind::Started);

    // the disk has the flavor's size, and the file system grew into it
    serial.until("df -m / | tail -n 1", "overlay").await;
    serial.until("df -m / | awk 'END { print ($2 > 800) ? \"large\" : \"small\" }'", "large").await;

    vm.pause().await.unwrap();
    vm.pause().await.unwrap();
    assert_eq!(vm.status().state, RunState::Paused);
    vm.resume().await.unwrap();
    assert_eq!(vm.status().state, RunState::Running);
    assert_eq!(serial.run("echo again").await, "again");

    let numbers = vm.diagnostics().await.unwrap();
    assert_eq!((numbers.vcpus.len(), numbers.memory_bytes), (1, 128 << 20));
    assert!(numbers.disks[0].read_bytes > 1 << 20 && numbers.vcpus[0].time > Duration::from_millis(500), "{numbers:?}");
    assert!(numbers.uptime > Duration::from_secs(1) && numbers.resident_bytes > 32 << 20, "{numbers:?}");

    serial.run("echo kept > /home/debian/file; sync").await;
    vm.reset().await.unwrap();
    serial.log_in().await;
    assert_eq!(serial.run("cat /home/debian/file").await, "kept");

    // the screen answers, though nothing listens for it
    let mut screen = vm.open_vnc().await.unwrap();
    let mut hello = [0; 12];
    tokio::io::AsyncReadExt::read_exact(&mut screen, &mut hello).await.unwrap();
    assert!(hello.starts_with(b"RFB 003"));

    let log = String::from_utf8_lossy(&host.qemu().console(vm.id(), Some(200)).await.unwrap()).into_owned();
    assert!(log.contains("login:"), "{log}");

    serial.until("ls /run/acpid", "acpid").await;
    let stopping = tokio::spawn({
        let vm = vm.clone();
        async move { vm.stop(Duration::from_secs(60)).await }
    });
    serial.expect("Power down", SHORT).await;
    let exit = stopping.await.unwrap().unwrap();
    assert_eq!(exit.reason, ExitReason::GuestShutdown);
    assert_eq!(host.qemu().ledger(vm.id()).unwrap().last_exit, Some(exit));
    assert!(host.qemu().vm(vm.id()).await.is_none());

    host.qemu().remove(vm.id()).await.unwrap();
    host.qemu().remove(vm.id()).await.unwrap();
    assert!(matches!(host.qemu().ledger(vm.id()), Err(Error::NotDefined(_))));
}

#[tokio::test]
async fn qemu_is_confined() {
    need_mini!();
    let host = TestHost::new();
    let spec = bare();
    let id = spec.id;
    host.qemu().define(spec, 1, None).await.unwrap();
    let vm = host.qemu().launch(id, vec![], vec![]).await.unwrap();
    let pid = vm.pid();
    assert_eq!(field(pid, "status", "Seccomp:"), "2");
    assert_eq!(field(pid, "status", "NoNewPrivs:"), "1");
    let inherited: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .flatten()
        .filter(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to.to_string_lossy().starts_with("pipe:")))
        .map(|fd| fd.file_name().to_string_lossy().into_owned())
        .collect();
    assert!(inherited.is_empty(), "descriptors of ours: {inherited:?}");
    assert_eq!(field(pid, "limits", "Max core file size").split_whitespace().next(), Some("0"));
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let session = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(3).unwrap().to_owned();
    assert_eq!(session, pid.to_string(), "a session of its own");
    let Some(users) = host.config().users else {
        eprintln!("not root: users and control groups were not looked at");
        return;
    };
    let uids: Vec<u32> = field(pid, "status", "Uid:").split_whitespace().map(|f| f.parse().unwrap()).collect();
    assert!(uids.len() == 4 && uids.iter().all(|u| users.contains(u)), "{uids:?}");
    assert_eq!(field(pid, "status", "Groups:"), "");
    assert_eq!(field(pid, "status", "CapEff:").trim_start_matches('0'), "");
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(groups.contains(&id.to_string()), "{groups}");
    // two servers, two users
    let other = bare();
    let other_id = other.id;
    host.qemu().define(other, 1, None).await.unwrap();
    assert_ne!(host.qemu().ledger(other_id).unwrap().owner, host.qemu().ledger(id).unwrap().owner);
}

#[tokio::test]
async fn a_killed_qemu_is_seen_at_once() {
    need_mini!();
    let host = TestHost::new();
    let mut events = host.qemu().events();
    for (signal, name) in [(libc::SIGKILL, "kill"), (libc::SIGTERM, "term")] {
        let spec = LaunchSpec { name: name.into(), ..bare() };
        let id = spec.id;
        host.qemu().define(spec, 7, None).await.unwrap();
        let vm = host.qemu().launch(id, vec![], vec![]).await.unwrap();
        // SAFETY: the process was started above and is still ours.
        unsafe { libc::kill(vm.pid(), signal) };
        let exit = loop {
            let event = events.recv().await.unwrap();
            match event.kind {
                EventKind::Exited(exit) if event.server == id => {
                    assert_eq!(event.generation, 7);
                    break exit;
                }
                _ => {}
            }
        };
        assert_eq!(exit.reason, ExitReason::HostKill { signal: Some(signal) });
        assert!(matches!(vm.pause().await, Err(Error::NotRunning(_))));
        // and it can be started again
        let vm = host.qemu().launch(id, vec![], vec![]).await.unwrap();
        assert_eq!(vm.kill().await.unwrap().reason, ExitReason::Stopped);
    }
}

#[tokio::test]
async fn a_panic_is_told_from_a_shutdown() {
    need_mini!();
    let host = TestHost::new();
    let (vm, mut serial) = host.boot().await;
    serial.until("ls /sys/bus/platform/drivers/pvpanic-mmio/", "QEMU0001").await;
    serial.send("sudo sh -c 'echo c > /proc/sysrq-trigger'\n").await;
    serial.expect("Kernel panic", BOOT).await;
    let exit = vm.exited_within(BOOT).await.expect("the guest crashed");
    assert_eq!(exit.reason, ExitReason::GuestPanic);
}

#[tokio::test]
async fn reboots_by_guest_and_by_host() {
    need_mini!();
    let host = TestHost::new();
    let (vm, mut serial) = host.boot().await;
    let pid = vm.pid();
    async fn next_reset(events: &mut tokio::sync::broadcast::Receiver<Event>) -> bool {
        loop {
            if let EventKind::Reset { by_guest } = tokio::time::timeout(BOOT, events.recv()).await.unwrap().unwrap().kind {
                return by_guest;
            }
        }
    }
    let mut events = host.qemu().events();
    serial.send("sudo reboot\n").await;
    assert!(next_reset(&mut events).await, "the guest asked for it");
    serial.log_in().await;
    serial.until("ls /run/acpid", "acpid").await;
    events = events.resubscribe();
    vm.soft_reboot(Duration::from_secs(60)).await.unwrap();
    assert!(!next_reset(&mut events).await, "the driver did it");
    serial.log_in().await;
    assert_eq!(vm.status().state, RunState::Running);
    events = events.resubscribe();
    vm.ctrl_alt_del().await.unwrap();
    assert!(next_reset(&mut events).await);
    assert_eq!((vm.pid(), vm.status().state), (pid, RunState::Running));
}

#[tokio::test]
async fn a_configuration_drive_configures() {
    need_mini!();
    let host = TestHost::new();
    for bus in [Bus::Virtio, Bus::IdeCdrom] {
        let mut spec = host.spec();
        spec.config_drive = Some(bus);
        let id = spec.id;
        let meta = format!(r#"{{"uuid": "{id}", "hostname": "drive.example", "public_keys": {{"k": "ssh-ed25519 AAAA x\n"}}}}"#);
        let files = vec![
            DiscFile { path: "openstack/latest/meta_data.json".into(), content: meta.into_bytes() },
            DiscFile { path: "openstack/latest/user_data".into(), content: b"#!/bin/sh\necho user data says $((6 * 7))\n".to_vec() },
        ];
        host.qemu().define(spec, 1, Some(files)).await.unwrap();
        let vm = host.qemu().launch(id, vec![], vec![]).await.unwrap();
        let mut serial = Serial::open(&vm).await;
        serial.expect("metadata source=drive hostname=drive", BOOT).await;
        serial.expect("user data says 42", BOOT).await;
        vm.kill().await.unwrap();
    }
}

#[tokio::test]
async fn direct_kernel_boot_and_one_serial_client_after_another() {
    need_mini!();
    let host = TestHost::new();
    let image = mini().unwrap();
    let mut spec = bare();
    let command_line = std::fs::read_to_string(image.join("cmdline")).unwrap().trim().to_owned();
    spec.boot = Boot::Kernel { kernel: image.join("vmlinuz"), ramdisk: Some(image.join("initrd")), command_line };
    let (vm, mut serial) = host.boot_spec(spec).await;
    assert_eq!(serial.run("cat /proc/uptime | wc -l").await, "1");
    drop(serial);
    let mut serial = Serial::open(&vm).await;
    serial.send("\n").await;
    serial.expect("$ ", SHORT).await;
    assert_eq!(serial.run("echo second client").await, "second client");
    drop(UnixStream::connect(vm.serial_socket()).await.unwrap());
}
