//! Things that cannot work say so in words an operator understands.

use super::harness::*;
use crate::need_mini;
use unkai_driver_qemu::*;

#[tokio::test]
async fn a_missing_or_wrong_base_image() {
    need_mini!();
    let host = TestHost::new();
    let mut spec = host.spec();
    let base = host.path().join("base");
    spec.disks[0].source = Source::Overlay { base: base.clone(), base_format: Format::Qcow2, bytes: 1 << 30 };
    let error = host.qemu().define(spec.clone(), 1, None).await.unwrap_err().to_string();
    assert!(error.contains("open image") && error.contains("base"), "{error}");
    std::fs::write(&base, "not an image").unwrap();
    let error = host.qemu().define(spec.clone(), 1, None).await.unwrap_err().to_string();
    assert!(error.contains("said to be qcow2"), "{error}");
    // mended, the same call works
    std::fs::copy(host.image(), &base).unwrap();
    host.qemu().define(spec.clone(), 1, None).await.unwrap();
    // gone again before the launch
    std::fs::remove_file(&base).unwrap();
    let error = host.qemu().launch(spec.id, vec![], vec![]).await.unwrap_err().to_string();
    assert!(error.contains("open image"), "{error}");
    assert!(matches!(host.qemu().discover().await[0].state, FoundState::Stopped));
}

#[tokio::test]
async fn qemu_that_does_not_start_says_why() {
    need_mini!();
    let host = TestHost::new();
    let spec = LaunchSpec { cpu_model: Some("imaginary".into()), ..bare() };
    let id = spec.id;
    host.qemu().define(spec, 1, None).await.unwrap();
    let error = host.qemu().launch(id, vec![], vec![]).await.unwrap_err();
    assert!(matches!(&error, Error::LaunchFailed(text) if text.contains("imaginary")), "{error}");
    assert!(host.qemu().ledger(id).unwrap().process.is_none());
    let mut config = host.config();
    config.binary = "/nonexistent/qemu".into();
    let broken = Qemu::new(config).unwrap();
    let error = broken.launch(id, vec![], vec![]).await.unwrap_err().to_string();
    assert!(error.contains("start `/nonexistent/qemu`"), "{error}");
    // a different definition, and it works
    let spec = LaunchSpec { id, ..bare() };
    host.qemu().define(spec, 2, None).await.unwrap();
    host.qemu().launch(id, vec![], vec![]).await.unwrap().kill().await.unwrap();
}

#[tokio::test]
async fn taps_must_fit_the_ports() {
    need_mini!();
    let host = TestHost::new();
    let mut spec = bare();
    spec.nics = vec![Nic { port: "p1".into(), mac: "fa:16:3e:00:00:01".into(), model: NicModel::Virtio, slot: None }];
    let id = spec.id;
    host.qemu().define(spec, 1, None).await.unwrap();
    let error = host.qemu().launch(id, vec![], vec![]).await.unwrap_err().to_string();
    assert!(error.contains("no tap was given for port p1"), "{error}");
    let Some(fd) = tap() else { return };
    let vm = host.qemu().launch(id, vec![Tap { port: "p1".into(), fd }], vec![]).await.unwrap();
    assert_eq!(vm.diagnostics().await.unwrap().nics[0].mac, "fa:16:3e:00:00:01");
}

#[tokio::test]
async fn a_full_disk_pauses_the_guest_and_is_told() {
    need_mini!();
    let host = TestHost::new();
    let small = host.path().join("servers");
    let target = std::ffi::CString::new(small.as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: terminated strings; the mount is this test's own directory.
    let mounted =
        unsafe { libc::mount(c"unkai-test".as_ptr(), target.as_ptr(), c"tmpfs".as_ptr(), 0, c"size=24m,mode=711".as_ptr().cast()) };
    if mounted != 0 {
        eprintln!("skipped: cannot mount a small file system: {}", std::io::Error::last_os_error());
        return;
    }
    struct Unmount(std::ffi::CString);
    impl Drop for Unmount {
        fn drop(&mut self) {
            // SAFETY: as above.
            unsafe { libc::umount2(self.0.as_ptr(), libc::MNT_DETACH) };
        }
    }
    let _unmount = Unmount(target);
    let (vm, mut serial) = host.boot().await;
    let mut events = host.qemu().events();
    serial.send("sudo dd if=/dev/urandom of=/big bs=1M count=64; sync\n").await;
    let error = loop {
        let event = tokio::time::timeout(BOOT, events.recv()).await.unwrap().unwrap();
        if let EventKind::DiskError { disk, no_space, paused } = event.kind {
            break (disk, no_space, paused);
        }
    };
    assert_eq!(error, ("d-root".to_owned(), true, true));
    vm.watch().wait_for(|s| s.state == RunState::Paused).await.unwrap();
    vm.kill().await.unwrap();
}
