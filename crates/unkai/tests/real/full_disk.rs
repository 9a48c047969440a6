//! A host whose disk is full: said clearly, nothing lost, deletions work, and it goes on when there is room again.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{FallocateFlags, fallocate};
use nix::mount::{MntFlags, umount2};
use serde_json::Value;

use crate::cloud::Cloud;
use crate::crash::Scene;

/// As much as placement wants to see; little of it is ever written.
const SIZE: u64 = 6 << 30;

/// A file system of its own for the agent's directory, in a sparse file.
struct Small(PathBuf);

impl Drop for Small {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

impl Small {
    /// None, with the reason said, where nothing may be mounted.
    fn on(dir: PathBuf) -> Option<Self> {
        let image = dir.with_extension("ext4");
        std::fs::create_dir_all(&dir).expect("the agent's directory");
        std::fs::File::create(&image).and_then(|file| file.set_len(SIZE)).expect("a sparse file");
        let made = Command::new("/sbin/mke2fs").args(["-q", "-t", "ext4", "-m", "0"]).arg(&image).status();
        assert!(made.expect("mke2fs starts").success());
        let mounted = Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&dir).output().expect("mount starts");
        if !mounted.status.success() {
            eprintln!("skipped: cannot mount a small file system: {}", String::from_utf8_lossy(&mounted.stderr));
            return None;
        }
        Some(Small(dir))
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    /// Takes every free block, in ever smaller pieces.
    fn fill(&self) {
        let filler = self.filler();
        std::fs::create_dir(&filler).expect("a directory for the filler");
        let mut size = SIZE;
        for number in 0.. {
            let taken = take(&filler.join(number.to_string()), size);
            if !taken && size <= 4096 {
                return;
            }
            size = if taken { size } else { size / 2 };
        }
    }

    fn make_room(&self) {
        std::fs::remove_dir_all(self.filler()).expect("the filler");
    }
}

fn take(path: &Path, size: u64) -> bool {
    let file = std::fs::File::create(path).expect("a file of the filler");
    fallocate(&file, FallocateFlags::empty(), 0, size as i64).is_ok()
}

async fn fault(cloud: &Cloud, id: &str) -> String {
    let server: Value = cloud.get(&format!("/compute/v2.1/servers/{id}")).await;
    server["server"]["fault"]["message"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_and_servers_come_when_there_is_room() {
    let mut small = None;
    let cloud = Cloud::prepared(&[], |state| small = Small::on(state.join("agent"))).await;
    let Some(small) = &small else { return };
    let scene = Scene::of(cloud).await;
    let cloud = &scene.cloud;
    let first = scene.create().await;

    small.fill();
    let second = scene.ask().await;
    cloud.until("the server is in ERROR", || async { scene.status(&second).await.as_deref() == Some("ERROR") }).await;
    let told = fault(cloud, &second).await;
    assert!(told.contains("No space left on device") || told.contains("no room for"), "{told}");
    assert_eq!(scene.status(&first).await.as_deref(), Some("ACTIVE"), "what runs goes on");

    scene.delete(&first).await;
    let gone = || async { scene.status(&first).await.is_none() };
    cloud.until("a server is deleted on a full disk", gone).await;

    small.make_room();
    scene.active(&second).await;
    assert_eq!(fault(cloud, &second).await, "");

    // Agent and controller are killed, and start on a full disk.
    small.fill();
    cloud.arm(1);
    let third = scene.cloud.call("POST", "/compute/v2.1/servers", Some(scene.request("s"))).await;
    assert!(third.is_err(), "the process should have died: {third:?}");
    assert!(cloud.disarm().is_some());
    cloud.wait_for_death().await;
    cloud.up();
    assert_eq!(scene.status(&second).await.as_deref(), Some("ACTIVE"), "an acknowledged server is lost");
    let fourth = scene.ask().await;
    cloud.until("the server is in ERROR", || async { scene.status(&fourth).await.as_deref() == Some("ERROR") }).await;
    small.make_room();
    scene.active(&fourth).await;
    for server in scene.servers().await {
        scene.delete(server["id"].as_str().expect("an id")).await;
    }
    scene.clean("with room again").await;
}
