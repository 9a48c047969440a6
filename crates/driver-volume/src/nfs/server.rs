//! A real NFS server for tests: nfs-ganesha and rpcbind of Debian, in network and mount namespaces of the calling thread, which sees them
//! and whose children and new threads do; nothing of it is seen outside.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

pub const ADDRESS: &str = "127.0.0.1";
const PROGRAMS: [&str; 2] = ["/usr/bin/ganesha.nfsd", "/usr/sbin/rpcbind"];

pub struct Server {
    dir: tempfile::TempDir,
    rpcbind: Child,
    ganesha: Option<Child>,
}

impl Server {
    /// None: this machine has none. `room`: megabytes of a file system of its own for the export.
    pub fn start(room: Option<u32>) -> Option<Server> {
        // SAFETY: asks only who this is.
        if PROGRAMS.iter().any(|program| !Path::new(program).exists()) || unsafe { libc::geteuid() } != 0 {
            eprintln!("skipped: no nfs-ganesha, or not root");
            return None;
        }
        unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        mount(Some("none"), "/run", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        fs::create_dir_all("/run/ganesha").unwrap();
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
        assert!(up.success());
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let export = dir.path().join("export");
        fs::create_dir(&export).unwrap();
        if let Some(room) = room {
            // A file system with handles, which tmpfs of old kernels has not.
            let image = dir.path().join("room");
            fs::File::create(&image).unwrap().set_len(u64::from(room) << 20).unwrap();
            let made = Command::new("mkfs.ext4").arg("-q").arg(&image).status().unwrap();
            let mounted = Command::new("mount").args(["-o", "loop"]).args([&image, &export]).status().unwrap();
            assert!(made.success() && mounted.success());
        }
        let rpcbind = Command::new(PROGRAMS[1]).args(["-f", "-w"]).stderr(Stdio::null()).spawn().unwrap();
        until(|| Path::new("/run/rpcbind.sock").exists());
        let mut server = Server { dir, rpcbind, ganesha: None };
        server.begin();
        Some(server)
    }

    pub fn export(&self) -> PathBuf {
        self.dir.path().join("export")
    }

    /// A file of random bytes beside the export.
    pub fn dir_file(&self, name: &str, bytes: u64) -> PathBuf {
        let path = self.dir.path().join(name);
        let mut random = fs::File::open("/dev/urandom").unwrap();
        std::io::copy(&mut std::io::Read::take(&mut random, bytes), &mut fs::File::create(&path).unwrap()).unwrap();
        path
    }

    /// Serves (again), and answers when it does.
    pub fn begin(&mut self) {
        let (config, export) = (self.dir.path().join("config"), self.export());
        let text = format!(
            "NFS_CORE_PARAM {{ Protocols = 3; NFS_Port = 2049; MNT_Port = 20048; Enable_NLM = false; Enable_RQUOTA = false; Enable_UDP = false; }}\n\
             NFSV4 {{ Graceless = true; RecoveryBackend = fs; }}\n\
             EXPORT {{ Export_Id = 1; Path = {0}; Pseudo = {0}; Access_Type = RW; Squash = No_root_squash; SecType = sys; Protocols = 3; \
             Transports = TCP; FSAL {{ Name = VFS; }} }}\n",
            export.display()
        );
        fs::write(&config, text).unwrap();
        let log = self.dir.path().join("log");
        let written = fs::File::create(&log).unwrap();
        let mut command = Command::new(PROGRAMS[0]);
        command.arg("-F").args(["-L", "STDERR", "-p", "/run/ganesha.pid", "-f"]).arg(&config);
        self.ganesha = Some(command.stdout(written.try_clone().unwrap()).stderr(written).spawn().unwrap());
        until(|| fs::read_to_string(&log).unwrap().contains("NFS SERVER INITIALIZED"));
    }

    /// Is gone, as after a power failure.
    pub fn end(&mut self) {
        if let Some(mut ganesha) = self.ganesha.take() {
            let _ = ganesha.kill();
            let _ = ganesha.wait();
        }
    }
}

fn until(so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !so() {
        assert!(Instant::now() < deadline, "the NFS server does not start");
        std::thread::sleep(Duration::from_millis(50));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
        let _ = self.rpcbind.kill();
        let _ = self.rpcbind.wait();
        let _ = nix::mount::umount2(&self.export(), nix::mount::MntFlags::MNT_DETACH);
    }
}
