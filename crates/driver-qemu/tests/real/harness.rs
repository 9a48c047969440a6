//! A host directory of its own per test, the mini image, and a person at the serial console.

use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use unkai_driver_qemu::*;
use uuid::Uuid;

pub const BOOT: Duration = Duration::from_secs(180);
pub const SHORT: Duration = Duration::from_secs(30);

/// Where the image is, or nothing when it cannot be had; says why.
pub fn mini() -> Option<&'static Path> {
    static MINI: OnceLock<Option<PathBuf>> = OnceLock::new();
    MINI.get_or_init(|| match find_or_build() {
        Ok(dir) => Some(dir),
        Err(why) => {
            eprintln!("skipped: {why}");
            None
        }
    })
    .as_deref()
}

fn find_or_build() -> std::result::Result<PathBuf, String> {
    if !Path::new("/usr/bin/qemu-system-x86_64").exists() {
        return Err("no qemu-system-x86_64 on this machine".into());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let given = std::env::var_os("UNKAI_MINI_DIR").map(PathBuf::from);
    if let Some(dir) = given.clone().filter(|dir| dir.join("mini.qcow2").exists()) {
        return Ok(dir);
    }
    let dir = given.unwrap_or_else(|| root.join("target/images/mini"));
    let out = Command::new("sh").arg(root.join("images/mini/build.sh")).arg(&dir).output().map_err(|e| e.to_string())?;
    if out.status.success() { Ok(dir) } else { Err(String::from_utf8_lossy(&out.stderr).into_owned()) }
}

/// Emulated guests are heavy: no more at a time than the machine has processors.
pub struct Turn;

static RUNNING: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

impl Turn {
    fn take() -> Turn {
        let limit = std::thread::available_parallelism().map_or(1, usize::from);
        let mut running = RUNNING.0.lock().unwrap_or_else(|p| p.into_inner());
        while *running >= limit {
            running = RUNNING.1.wait(running).unwrap_or_else(|p| p.into_inner());
        }
        *running += 1;
        Turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *RUNNING.0.lock().unwrap_or_else(|p| p.into_inner()) -= 1;
        RUNNING.1.notify_one();
    }
}

pub struct TestHost {
    pub qemu: Option<Qemu>,
    temp: tempfile::TempDir,
    _turn: Turn,
}

impl TestHost {
    pub fn new() -> TestHost {
        let turn = Turn::take();
        let _ = tracing_subscriber::fmt().with_env_filter("unkai_driver_qemu=debug").with_test_writer().try_init();
        let temp = tempfile::Builder::new().prefix("uq").tempdir_in("/tmp").unwrap();
        std::fs::set_permissions(temp.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        let mut host = TestHost { qemu: None, temp, _turn: turn };
        host.qemu = Some(Qemu::new(host.config()).unwrap());
        host
    }

    pub fn config(&self) -> Config {
        // SAFETY: no arguments, cannot fail.
        let root = unsafe { libc::geteuid() } == 0;
        let mut config = Config::new(self.temp.path().join("servers"));
        if let Some(binary) = std::env::var_os("UNKAI_TEST_QEMU") {
            config.binary = binary.into();
        }
        config.users = root.then_some(871_000..872_000);
        config.cgroup_parent = root.then(|| format!("unkai-test-{}", self.temp.path().file_name().unwrap().to_string_lossy()));
        config
    }

    /// Another host beside this one, as far as this driver is concerned.
    pub fn neighbour(&self) -> Qemu {
        let mut config = self.config();
        config.dir = self.temp.path().join("neighbour");
        config.users = config.users.map(|_| 872_000..873_000);
        config.cgroup_parent = config.cgroup_parent.map(|parent| parent + "-n");
        Qemu::new(config).unwrap()
    }

    pub fn path(&self) -> &Path {
        self.temp.path()
    }

    pub fn qemu(&self) -> &Qemu {
        self.qemu.as_ref().expect("the agent is alive")
    }

    /// As if the agent had been killed and started again: nothing is told to QEMU.
    pub fn restart_agent(&mut self) {
        self.qemu = None;
        self.qemu = Some(Qemu::new(self.config()).unwrap());
    }

    pub fn image(&self) -> PathBuf {
        mini().unwrap().join("mini.qcow2")
    }

    pub fn spec(&self) -> LaunchSpec {
        let root = Disk {
            id: "root".into(),
            source: Source::Overlay { base: self.image(), base_format: Format::Qcow2, bytes: 1 << 30 },
            bus: Bus::Virtio,
            read_only: false,
            shared: false,
            serial: None,
            boot_index: Some(1),
            slot: None,
        };
        LaunchSpec { disks: vec![root], ..bare() }
    }

    pub async fn boot(&self) -> (Vm, Serial) {
        self.boot_spec(self.spec()).await
    }

    pub async fn boot_spec(&self, spec: LaunchSpec) -> (Vm, Serial) {
        let id = spec.id;
        self.qemu().define(spec, 1, None).await.unwrap();
        let started = Instant::now();
        let vm = self.qemu().launch(id, vec![], vec![]).await.unwrap();
        eprintln!("launch to QMP ready: {:?}", started.elapsed());
        let mut serial = Serial::open(&vm).await;
        serial.log_in().await;
        eprintln!("launch to shell: {:?}", started.elapsed());
        (vm, serial)
    }
}

impl Drop for TestHost {
    /// Also after a failed test nothing of ours runs on.
    fn drop(&mut self) {
        let dir = self.temp.path();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
            let Ok(args) = std::fs::read(entry.path().join("cmdline")) else { continue };
            if String::from_utf8_lossy(&args).contains(&format!("logfile={}/", dir.display())) {
                // SAFETY: a process whose command line names this test's own directory.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
        }
        let Some(parent) = self.config().cgroup_parent else { return };
        clear_groups(&parent);
        clear_groups(&format!("{parent}-n"));
    }
}

fn clear_groups(parent: &str) {
    // the killed processes are gone a moment later
    for _ in 0..100 {
        let mut left = false;
        for controller in ["cpu", "memory", "pids", "unified"] {
            let root = Path::new("/sys/fs/cgroup").join(controller).join(parent);
            for group in std::fs::read_dir(&root).into_iter().flatten().flatten().filter(|e| e.path().is_dir()) {
                let _ = std::fs::remove_dir(group.path());
            }
            left |= std::fs::remove_dir(&root).is_err() && root.exists();
        }
        if !left {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A machine without anything to boot.
pub fn bare() -> LaunchSpec {
    LaunchSpec {
        id: Uuid::new_v4(),
        name: "test".into(),
        vcpus: 1,
        memory_mib: 128,
        machine: None,
        cpu_model: None,
        disks: vec![],
        nics: vec![],
        boot: Boot::Disk,
        config_drive: None,
        firmware: Firmware::default(),
    }
}

pub struct Serial {
    stream: UnixStream,
    text: String,
    commands: u32,
}

impl Serial {
    pub async fn open(vm: &Vm) -> Serial {
        Serial { stream: UnixStream::connect(vm.serial_socket()).await.unwrap(), text: String::new(), commands: 0 }
    }

    /// Waits until the text appears, and returns what came before it. Later calls look only at what follows.
    pub async fn expect(&mut self, wanted: &str, within: Duration) -> String {
        let deadline = Instant::now() + within;
        loop {
            if let Some(at) = self.text.find(wanted) {
                let before = self.text[..at].to_owned();
                self.text.drain(..at + wanted.len());
                return before;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let mut chunk = [0; 4096];
            match tokio::time::timeout(left, self.stream.read(&mut chunk)).await {
                Ok(Ok(n)) if n > 0 => self.text.push_str(&String::from_utf8_lossy(&chunk[..n])),
                other => panic!("{wanted:?} did not come within {within:?} ({other:?}); the console shows: {}", self.text),
            }
        }
    }

    pub async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    pub async fn log_in(&mut self) {
        self.expect("login: ", BOOT).await;
        self.send("debian\n").await;
        self.expect("Password: ", BOOT).await;
        self.send("gocubsgo\n").await;
        self.expect("$ ", BOOT).await;
    }

    /// Runs a command in the logged in shell and returns what it printed.
    pub async fn run(&mut self, command: &str) -> String {
        self.commands += 1;
        let n = self.commands;
        // the typed line shows the format, only its output shows the mark
        self.send(&format!("printf 'B%sB\\n' {n}; {command}; printf 'E%sE\\n' {n}\n")).await;
        self.expect(&format!("B{n}B\r\n"), SHORT).await;
        let out = self.expect(&format!("E{n}E\r\n"), SHORT).await;
        out.replace('\r', "").trim().to_owned()
    }

    /// Runs a command until it prints the text.
    pub async fn until(&mut self, command: &str, wanted: &str) -> String {
        let deadline = Instant::now() + SHORT;
        loop {
            let out = self.run(command).await;
            if out.contains(wanted) {
                return out;
            }
            assert!(Instant::now() < deadline, "{command} never prints {wanted:?}: {out}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// A tap in a network namespace that only it keeps alive.
pub fn tap() -> Option<OwnedFd> {
    std::thread::spawn(|| {
        // SAFETY: plain system calls on this thread; the request is a zeroed plain structure with a terminated name.
        unsafe {
            if libc::unshare(libc::CLONE_NEWNET) != 0 {
                eprintln!("no network namespaces: {}", std::io::Error::last_os_error());
                return None;
            }
            let fd = libc::open(c"/dev/net/tun".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
            if fd < 0 {
                eprintln!("no /dev/net/tun: {}", std::io::Error::last_os_error());
                return None;
            }
            let fd = OwnedFd::from_raw_fd(fd);
            let mut request: libc::ifreq = std::mem::zeroed();
            for (to, from) in request.ifr_name.iter_mut().zip(b"tap0") {
                *to = *from as libc::c_char;
            }
            request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
            const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
            let result = libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(&fd), TUNSETIFF as _, &request);
            (result == 0).then_some(fd)
        }
    })
    .join()
    .unwrap()
}

#[macro_export]
macro_rules! need_mini {
    () => {
        if $crate::real::harness::mini().is_none() {
            return;
        }
    };
}
