//! A real cluster for tests, started once for all of them; it ends with their process. UNKAI_TEST_CEPH names the directory of one that is
//! there already.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

pub struct Cluster {
    dir: PathBuf,
    env: HashMap<String, String>,
    /// Pools are made one at a time.
    pools: Mutex<u32>,
}

/// None, said loudly, where Ceph is not installed. This thread, and what it starts, is in the cluster's network from here on.
pub fn cluster() -> Option<&'static Cluster> {
    static CLUSTER: OnceLock<Option<Cluster>> = OnceLock::new();
    let cluster = CLUSTER.get_or_init(start).as_ref()?;
    let netns = File::open(Path::new("/run/netns").join(&cluster.env["CEPH_NETNS"])).unwrap();
    // SAFETY: an open descriptor; only this thread changes its namespace.
    assert_eq!(unsafe { libc::setns(netns.as_raw_fd(), libc::CLONE_NEWNET) }, 0, "{}", std::io::Error::last_os_error());
    Some(cluster)
}

fn start() -> Option<Cluster> {
    let programs = ["/usr/bin/ceph", "/usr/bin/ceph-mon", "/usr/bin/ceph-mgr", "/usr/bin/ceph-osd", "/usr/bin/rbd"];
    let missing: Vec<_> = programs.into_iter().filter(|program| !Path::new(program).exists()).collect();
    // SAFETY: no arguments.
    if !missing.is_empty() || unsafe { libc::geteuid() } != 0 {
        // Not through `eprintln`, which a test that passes swallows.
        let _ = writeln!(std::io::stderr(), "SKIPPED: everything about Ceph RBD: needs root and {}", missing.join(" "));
        return None;
    }
    let given = std::env::var_os("UNKAI_TEST_CEPH").map(PathBuf::from);
    let dir = given.clone().unwrap_or_else(|| format!("/var/tmp/unkai-ceph-{}", std::process::id()).into());
    if given.is_none() {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/ceph.sh");
        let pid = std::process::id();
        let name = format!("ceph-{pid}");
        let started = Command::new(script).arg("start").arg(&dir).args(["--for", &pid.to_string(), "--netns", &name]).output().unwrap();
        assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
    }
    let env = fs::read_to_string(dir.join("env")).unwrap();
    let env = env.lines().filter_map(|line| line.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Some(Cluster { dir, env, pools: Mutex::default() })
}

impl Cluster {
    pub fn get(&self, name: &str) -> &str {
        &self.env[name]
    }

    /// As the administrator.
    pub fn admin(&self, program: &str, args: &[&str]) -> String {
        let out = Command::new(program).arg("-c").arg(self.dir.join("ceph.conf")).args(args).output().unwrap();
        assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// A pool of its own for a test, and the key of a user of that pool alone: pool, user, key.
    pub fn pool(&self) -> (String, String, String) {
        let mut count = self.pools.lock().unwrap();
        *count += 1;
        let pool = format!("test-{}-{count}", std::process::id());
        self.admin("ceph", &["osd", "pool", "create", &pool, "1", "1"]);
        self.admin("ceph", &["osd", "pool", "application", "enable", &pool, "rbd"]);
        let osd = format!("profile rbd pool={pool}");
        let user = format!("client.{pool}");
        let key = self.admin("ceph", &["auth", "get-or-create-key", &user, "mon", "profile rbd", "osd", &osd, "mgr", &osd]);
        (pool.clone(), pool, key.trim().to_owned())
    }
}
