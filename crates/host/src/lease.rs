//! The host's lease: until when servers that the cloud may start elsewhere may run here.
//!
//! The lease is a file, so that it holds whether or not an agent lives, and a process of its own, the guard, ends what runs without one:
//!
//! - The **agent** asks a controller, writes down how long it may go on (from the moment it asked, on a clock that also counts while the
//!   machine sleeps), and notes a server here before it starts it. It starts such a server only while the lease holds and all that is
//!   assigned to this host has been heard in the present session.
//! - The **guard** reads the file ten times a second. When the lease has run out it kills every QEMU process of the noted servers. It
//!   outlives the agent, is found by the lock it holds, and is started again when it is gone. An agent reports a server as leased only
//!   while a guard lives, and the cloud starts nothing elsewhere that was never reported so.
//! - A lease of before a reboot is none: nothing runs then either.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::process::Command;
use unkai_model::Error;
use uuid::Uuid;

const FILE: &str = "lease.json";
const LOCK: &str = "guard.lock";
/// How often the guard looks; the cloud waits longer than this beyond a lease.
const LOOK: Duration = Duration::from_millis(100);
/// How long a new guard may take to be there.
const START: Duration = Duration::from_secs(5);
/// A start that would only just be covered is not begun.
const LEFT: Duration = Duration::from_millis(500);

/// A moment on a clock that does not stop while the machine sleeps, nor jump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Moment(Duration);

impl Moment {
    pub fn now() -> Result<Self, Error> {
        clock_gettime(ClockId::CLOCK_BOOTTIME).map(|time| Moment(time.into())).map_err(|e| Error::caused("reading the clock", e))
    }

    fn plus(self, time: Duration) -> Self {
        Moment(self.0.saturating_add(time))
    }
}

/// What is on the disk.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Written {
    /// Of which boot of the machine `until` is.
    boot: String,
    until: Option<Moment>,
    servers: BTreeSet<Uuid>,
}

impl Written {
    fn read(dir: &Path) -> Result<Option<Self>, Error> {
        let path = dir.join(FILE);
        let context = |e: std::io::Error| Error::caused(format!("reading `{}`", path.display()), e);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| context(e.into())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(context(e)),
        }
    }

    /// Not flushed to the disk: it has to survive the agent, and a machine that stops loses the servers too.
    fn write(&self, dir: &Path) -> Result<(), Error> {
        let path = dir.join(FILE);
        let new = path.with_extension("new");
        let bytes = serde_json::to_vec(self).map_err(|e| Error::caused("encoding the lease", e))?;
        let written = std::fs::write(&new, bytes).and_then(|()| std::fs::rename(&new, &path));
        written.map_err(|e| Error::caused(format!("writing `{}`", path.display()), e))
    }

    fn holds(&self, now: Moment, boot: &str, left: Duration) -> bool {
        self.boot == boot && self.until.is_some_and(|until| now.plus(left) < until)
    }
}

fn boot() -> Result<String, Error> {
    let path = "/proc/sys/kernel/random/boot_id";
    std::fs::read_to_string(path).map(|text| text.trim().to_owned()).map_err(|e| Error::caused(format!("reading `{path}`"), e))
}

/// The agent's side. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Lease {
    dir: PathBuf,
    /// The program that is the guard when it is called with `agent-guard DIR`.
    program: PathBuf,
    boot: Arc<str>,
    written: Arc<Mutex<Written>>,
}

impl Lease {
    /// `leased`: the servers that this host knows to need a lease. They are named when the file does not tell, because it cannot be read:
    /// then none of them may run before there is a lease.
    pub fn open(dir: &Path, program: PathBuf, leased: impl FnOnce() -> BTreeSet<Uuid>) -> Result<Self, Error> {
        let written = match Written::read(dir) {
            Ok(written) => written.unwrap_or_default(),
            Err(error) => {
                tracing::error!(%error, cause = ?std::error::Error::source(&error), "the lease is written anew");
                let written = Written { servers: leased(), ..Written::default() };
                written.write(dir)?;
                written
            }
        };
        Ok(Lease { dir: dir.to_owned(), program, boot: boot()?.into(), written: Arc::new(Mutex::new(written)) })
    }

    fn lock(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn change(&self, change: impl FnOnce(&mut Written)) -> Result<(), Error> {
        let mut written = self.lock();
        let mut new = written.clone();
        change(&mut new);
        if new != *written {
            new.write(&self.dir)?;
            *written = new;
        }
        Ok(())
    }

    /// May a server that needs a lease be started now?
    pub fn holds(&self) -> bool {
        Moment::now().is_ok_and(|now| self.lock().holds(now, &self.boot, LEFT))
    }

    /// A controller has answered what was asked at `asked`.
    pub fn renew(&self, asked: Moment, time: Duration) -> Result<(), Error> {
        self.change(|written| {
            let until = asked.plus(time);
            // Answers may come in any order; only a refusal shortens.
            let later = written.boot != *self.boot || time.is_zero() || written.until.is_none_or(|known| known < until);
            if later {
                (written.boot, written.until) = (self.boot.to_string(), Some(until));
            }
        })
    }

    /// From now on this server runs under the lease, whatever becomes of the agent.
    pub async fn protect(&self, server: Uuid) -> Result<(), Error> {
        self.change(|written| _ = written.servers.insert(server))?;
        self.keep_guard().await
    }

    /// From now on this server runs on, lease or not.
    pub fn release(&self, server: Uuid) -> Result<(), Error> {
        self.change(|written| _ = written.servers.remove(&server))
    }

    /// Is it noted here?
    pub fn names(&self, server: Uuid) -> bool {
        self.lock().servers.contains(&server)
    }

    /// Is it noted here, and would it be ended?
    pub fn covers(&self, server: Uuid) -> bool {
        self.names(server) && guard_lives(&self.dir)
    }

    /// Sees to it that a guard lives when there is something to guard.
    pub async fn keep_guard(&self) -> Result<(), Error> {
        if self.lock().servers.is_empty() || guard_lives(&self.dir) {
            return Ok(());
        }
        tracing::info!("starting the guard of the lease");
        start_guard(&self.program, &self.dir)?;
        let deadline = tokio::time::Instant::now() + START;
        while !guard_lives(&self.dir) {
            if tokio::time::Instant::now() > deadline {
                return Err(Error::unavailable("the guard of the lease does not start"));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }
}

/// Ends the guard of a directory, which is about to have no servers: without the file it has nothing to do.
pub fn end_guard(dir: &Path) -> Result<(), Error> {
    match std::fs::remove_file(dir.join(FILE)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::caused("removing the lease", e)),
        _ => Ok(()),
    }
}

/// The lock that a guard holds as long as it lives, on the file as this process opened it.
fn whole_file() -> nix::libc::flock {
    let (kind, from) = (nix::libc::F_WRLCK as i16, nix::libc::SEEK_SET as i16);
    nix::libc::flock { l_type: kind, l_whence: from, l_start: 0, l_len: 0, l_pid: 0 }
}

fn try_lock(dir: &Path) -> Option<File> {
    let file = OpenOptions::new().create(true).append(true).open(dir.join(LOCK)).ok()?;
    fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file())).ok()?;
    Some(file)
}

/// Asks without taking the lock, so that nobody who wants it is disturbed. In doubt there is no guard.
fn guard_lives(dir: &Path) -> bool {
    let held = || {
        let file = OpenOptions::new().append(true).open(dir.join(LOCK)).ok()?;
        let mut found = whole_file();
        fcntl(&file, FcntlArg::F_OFD_GETLK(&mut found)).ok()?;
        Some(found.l_type != nix::libc::F_UNLCK as i16)
    };
    held().unwrap_or(false)
}

/// It outlives this process. As long as this one lives its end is noticed by the runtime.
fn start_guard(program: &Path, dir: &Path) -> Result<(), Error> {
    // A file, because whoever reads the agent's words must not wait for the guard's.
    let path = dir.join("guard.log");
    let log =
        OpenOptions::new().create(true).append(true).open(&path).map_err(|e| Error::caused(format!("opening `{}`", path.display()), e))?;
    let mut command = Command::new(program);
    command.arg("agent-guard").arg(dir).current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().map(drop).map_err(|e| Error::caused(format!("starting `{} agent-guard`", program.display()), e))
}

/// The guard: returns when the directory has no lease any more, or another guard. Its caller has a session of its own, so that nothing
/// that ends the agent ends it.
pub fn guard(dir: &Path) -> Result<(), Error> {
    let Some(_lock) = try_lock(dir) else { return Ok(()) };
    // The last to go when memory is short. Not permitted to everybody; then it is one among others.
    let _ = std::fs::write("/proc/self/oom_score_adj", "-1000");
    let (boot, servers) = (boot()?, dir.join("servers"));
    let (mut known, mut readable) = (Written::default(), true);
    loop {
        match Written::read(dir) {
            Ok(None) => return Ok(()),
            Ok(Some(written)) => (known, readable) = (written, true),
            // What was known last holds until the agent writes again: the servers of then, until the end of then.
            Err(error) => {
                if std::mem::replace(&mut readable, false) {
                    tracing::error!(%error, "the lease cannot be read");
                }
            }
        }
        if !known.holds(Moment::now()?, &boot, Duration::ZERO) {
            let ended = unkai_driver_qemu::kill_all(&servers, |server| known.servers.contains(&server));
            if ended > 0 {
                tracing::warn!(ended, "servers were ended because the lease has run out");
            }
        }
        std::thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease() -> (tempfile::TempDir, Lease) {
        let dir = tempfile::tempdir().unwrap();
        let lease = Lease::open(dir.path(), "/bin/false".into(), BTreeSet::new).unwrap();
        (dir, lease)
    }

    #[test]
    fn a_lease_counts_from_when_it_was_asked_for_and_only_a_refusal_shortens_it() {
        let (dir, lease) = lease();
        assert!(!lease.holds());
        let now = Moment::now().unwrap();
        lease.renew(now, Duration::from_secs(60)).unwrap();
        assert!(lease.holds());
        let asked_long_ago = Moment(now.0.saturating_sub(Duration::from_secs(70)));
        lease.renew(asked_long_ago, Duration::from_secs(60)).unwrap();
        assert!(lease.holds(), "an older answer comes later");
        assert!(Lease::open(dir.path(), "/bin/false".into(), BTreeSet::new).unwrap().holds(), "it outlives the agent");
        lease.renew(now, Duration::ZERO).unwrap();
        assert!(!lease.holds());
    }

    #[test]
    fn a_lease_of_another_boot_is_none() {
        let (_dir, lease) = lease();
        let written = Written { boot: "another".into(), until: Some(Moment(Duration::MAX)), servers: BTreeSet::new() };
        *lease.lock() = written;
        assert!(!lease.holds());
        lease.renew(Moment::now().unwrap(), Duration::from_secs(60)).unwrap();
        assert!(lease.holds());
    }

    #[test]
    fn a_guard_is_one_and_goes_with_the_lease() {
        let (dir, lease) = lease();
        assert!(!guard_lives(dir.path()));
        lease.renew(Moment::now().unwrap(), Duration::from_secs(60)).unwrap();
        let path = dir.path().to_owned();
        let first = std::thread::spawn(move || guard(&path));
        while !guard_lives(dir.path()) {
            std::thread::yield_now();
        }
        guard(dir.path()).unwrap();
        assert!(!first.is_finished(), "the second went, the first stays");
        end_guard(dir.path()).unwrap();
        first.join().unwrap().unwrap();
        assert!(!guard_lives(dir.path()));
    }

    #[test]
    fn a_lease_that_cannot_be_read_names_what_is_known_to_need_one() {
        let (dir, lease) = lease();
        lease.renew(Moment::now().unwrap(), Duration::from_secs(60)).unwrap();
        for broken in ["", "{", "[]"] {
            std::fs::write(dir.path().join(FILE), broken).unwrap();
            let server = Uuid::from_u128(9);
            let opened = Lease::open(dir.path(), "/bin/false".into(), || [server].into()).unwrap();
            assert_eq!((opened.names(server), opened.holds()), (true, false), "{broken:?}");
            assert!(Written::read(dir.path()).unwrap().unwrap().servers.contains(&server), "the guard has to know");
        }
    }

    /// Looks like a QEMU process to whoever reads command lines.
    fn machine(dir: &Path, server: Uuid) -> std::process::Child {
        let log = format!("logfile={}/servers/{server}/console.log", dir.display());
        let args = ["-c", "read word; exit", "-uuid", &server.to_string(), &log];
        std::process::Command::new("sh").args(args).stdin(Stdio::piped()).spawn().unwrap()
    }

    #[test]
    fn what_is_named_ends_with_the_lease_and_nothing_else_does() {
        let (dir, lease) = lease();
        let (named, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let (mut named_machine, mut other_machine) = (machine(dir.path(), named), machine(dir.path(), other));
        lease.change(|written| _ = written.servers.insert(named)).unwrap();
        let asked = Moment::now().unwrap();
        lease.renew(asked, Duration::from_secs(600)).unwrap();
        let path = dir.path().to_owned();
        let guarding = std::thread::spawn(move || guard(&path));
        while !guard_lives(dir.path()) {
            std::thread::yield_now();
        }
        assert!(named_machine.try_wait().unwrap().is_none(), "the lease holds");
        // What cannot be read ends nothing before its time, and spares nothing after it.
        std::fs::write(dir.path().join(FILE), "{").unwrap();
        std::thread::sleep(3 * LOOK);
        assert!(named_machine.try_wait().unwrap().is_none(), "the lease that was read holds");
        // The agent is gone and nobody renews.
        lease.renew(asked, Duration::ZERO).unwrap();
        assert!(!named_machine.wait().unwrap().success());
        assert!(other_machine.try_wait().unwrap().is_none(), "it needs no lease");
        end_guard(dir.path()).unwrap();
        guarding.join().unwrap().unwrap();
        other_machine.kill().unwrap();
        other_machine.wait().unwrap();
    }

    #[tokio::test]
    async fn without_a_guard_nothing_is_covered() {
        let (dir, lease) = lease();
        let server = Uuid::from_u128(7);
        assert!(lease.protect(server).await.is_err());
        assert!(!lease.covers(server));
        let _guard = try_lock(dir.path()).unwrap();
        lease.protect(server).await.unwrap();
        assert!(lease.covers(server));
        lease.release(server).unwrap();
        assert!(!lease.covers(server));
    }
}
