//! Starting, recognising, watching and killing a QEMU process. It outlives the agent: a session of its own, output to a file, no death
//! signal. A number alone never identifies it: the kernel reuses numbers, so start time and command line must match as well.

use crate::error::{Error, Result};
use crate::exit::Ended;
use crate::ledger::ProcessId;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use tokio::io::unix::AsyncFd;
use uuid::Uuid;

/// Everything a new process gets.
pub struct Start {
    pub binary: PathBuf,
    pub args: Vec<String>,
    pub log: File,
    /// User and group to become; none: stay who we are.
    pub owner: Option<u32>,
    /// Additional groups (for `/dev/kvm`); all others are left.
    pub groups: Vec<u32>,
    /// Descriptors kept open under their numbers.
    pub keep: Vec<OwnedFd>,
    /// Control group files to join by.
    pub join: Vec<OwnedFd>,
}

const OPEN_FILES: u64 = 8192;

impl Start {
    pub fn spawn(self) -> Result<Child> {
        let log = || self.log.try_clone().map(Stdio::from).map_err(Error::system("duplicate log file"));
        let mut command = Command::new(&self.binary);
        command.args(&self.args).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/");
        command.stdin(Stdio::null()).stdout(log()?).stderr(log()?);
        let keep: Vec<RawFd> = self.keep.iter().map(AsRawFd::as_raw_fd).collect();
        let join: Vec<RawFd> = self.join.iter().map(AsRawFd::as_raw_fd).collect();
        let (owner, groups) = (self.owner, self.groups.clone());
        // SAFETY: the closure only makes system calls on captured plain values; no allocation, no locks.
        unsafe { command.pre_exec(move || become_guest(&keep, &join, owner, &groups)) };
        command.spawn().map_err(Error::io("start", &self.binary))
    }
}

/// Between fork and exec.
fn become_guest(keep: &[RawFd], join: &[RawFd], owner: Option<u32>, groups: &[u32]) -> io::Result<()> {
    let check = |result: libc::c_int| if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) };
    // SAFETY: plain system calls with valid arguments, in a process that has one thread.
    unsafe {
        for fd in join {
            // best effort, as all of it
            libc::write(*fd, c"0".as_ptr().cast(), 1);
        }
        check(libc::setsid())?;
        // Whatever this program inherited or left open stays here; a kernel too old for the call has only what we marked ourselves.
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
        for (resource, value) in [(libc::RLIMIT_CORE, 0), (libc::RLIMIT_NOFILE, OPEN_FILES)] {
            let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            check(libc::getrlimit(resource, &mut limit))?;
            let value = value.min(limit.rlim_max);
            check(libc::setrlimit(resource, &libc::rlimit { rlim_cur: value, rlim_max: value }))?;
        }
        for fd in keep {
            check(libc::fcntl(*fd, libc::F_SETFD, 0))?;
        }
        if let Some(id) = owner {
            check(libc::setgroups(groups.len(), groups.as_ptr()))?;
            check(libc::setresgid(id, id, id))?;
            check(libc::setresuid(id, id, id))?;
        }
        libc::umask(0o077);
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    }
}

/// A high number of its own for a descriptor that a child will inherit: unique in this process, so nothing has to be moved in the child.
pub fn inheritable(fd: &impl AsRawFd) -> Result<OwnedFd> {
    const ABOVE: libc::c_int = 200;
    // SAFETY: duplicates a descriptor that the reference keeps open.
    let copy = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, ABOVE) };
    if copy < 0 {
        return Err(Error::system("duplicate a file descriptor for QEMU")(io::Error::last_os_error()));
    }
    // SAFETY: just made, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// A live process, ours or adopted.
pub struct Process {
    pub id: ProcessId,
    pidfd: AsyncFd<OwnedFd>,
    /// Present when it is our child: then its exit status is ours to take.
    child: Mutex<Option<Child>>,
}

impl Process {
    pub fn of_child(child: Child) -> Result<Process> {
        let pid = child.id() as i32;
        let id = ProcessId { pid, started: started(pid).unwrap_or(0) };
        Ok(Process { id, pidfd: pidfd(pid)?, child: Mutex::new(Some(child)) })
    }

    /// The process, if it still is the one meant.
    pub fn adopt(id: ProcessId, server: Uuid) -> Option<Process> {
        // First hold it, then look: what is held cannot be replaced.
        let pidfd = pidfd(id.pid).ok()?;
        is_server(id, server).then(|| Process { id, pidfd, child: Mutex::new(None) })
    }

    /// Returns when it has ended.
    pub async fn wait(&self) -> Ended {
        // A pidfd becomes readable at exit and stays so. An error here means the descriptor is unusable, which it cannot become.
        if let Err(error) = self.pidfd.readable().await {
            tracing::error!(%error, pid = self.id.pid, "watch process");
        }
        let mut child = self.child.lock().unwrap_or_else(|p| p.into_inner());
        match child.as_mut().map(Child::wait) {
            Some(Ok(status)) => match (status.code(), status.signal()) {
                (Some(code), _) => Ended::Code(code),
                (None, Some(signal)) => Ended::Signal(signal),
                (None, None) => Ended::Unknown,
            },
            _ => Ended::Unknown,
        }
    }

    pub fn kill(&self) {
        signal(self.pidfd.get_ref());
    }
}

fn signal(pidfd: &OwnedFd) {
    // SAFETY: a valid pidfd; no pointers.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), libc::SIGKILL, 0, 0) };
    if result != 0 {
        tracing::debug!(error = %io::Error::last_os_error(), "kill");
    }
}

fn open(pid: i32) -> Result<OwnedFd> {
    // SAFETY: no pointers; the result is checked.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(Error::system("open a process by its number")(io::Error::last_os_error()));
    }
    // SAFETY: just made, and nobody else's. The kernel sets close-on-exec on it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

fn pidfd(pid: i32) -> Result<AsyncFd<OwnedFd>> {
    let fd = open(pid)?;
    // SAFETY: an OwnedFd stays the same open descriptor for as long as it is owned, here by the AsyncFd.
    let registered = unsafe { AsyncFd::register_with_interest(fd, tokio::io::Interest::READABLE) };
    registered.map_err(|e| Error::system("watch a process")(e.into_parts().1))
}

/// Start time in ticks, none for a process that is gone or only waits to be reaped.
fn started(pid: i32) -> Option<u64> {
    parse_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name in parentheses may contain anything, parentheses too.
fn parse_stat(stat: &str) -> Option<u64> {
    let (_, after) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = after.split_whitespace().collect();
    if matches!(*fields.first()?, "Z" | "X") {
        return None;
    }
    fields.get(19)?.parse().ok()
}

fn is_server(id: ProcessId, server: Uuid) -> bool {
    started(id.pid) == Some(id.started) && command_line(id.pid).is_some_and(|args| uuid_argument(&args) == Some(server))
}

fn command_line(pid: i32) -> Option<Vec<String>> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    Some(bytes.split(|b| *b == 0).map(|arg| String::from_utf8_lossy(arg).into_owned()).collect())
}

fn uuid_argument(args: &[String]) -> Option<Uuid> {
    let at = args.iter().position(|a| a == "-uuid")?;
    args.get(at + 1)?.parse().ok()
}

/// All QEMU processes whose console log lies under `dir`, whoever started them.
pub fn scan(dir: &Path) -> Vec<(Uuid, ProcessId)> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let mark = format!("logfile={}/", dir.display());
    entries
        .flatten()
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let args = command_line(pid)?;
            let server = uuid_argument(&args)?;
            args.iter().any(|a| a.contains(&mark)).then_some(())?;
            Some((server, ProcessId { pid, started: started(pid)? }))
        })
        .collect()
}

/// Kills the QEMU processes under `dir` of the servers that `which` names, without anything else of this crate: for one who must be able
/// to when all else fails. How many there were.
pub fn kill_all(dir: &Path, which: impl Fn(Uuid) -> bool) -> usize {
    let meant = scan(dir).into_iter().filter(|(server, _)| which(*server));
    meant.filter(|(server, id)| kill(*id, *server).is_some()).count()
}

fn kill(id: ProcessId, server: Uuid) -> Option<()> {
    let pidfd = open(id.pid).ok()?;
    is_server(id, server).then(|| signal(&pidfd))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_with_a_hostile_name() {
        let rest = "S 1 1 1 0 -1 4194304 1 1 0 0 0 0 0 0 20 0 1 0 4242 1 1";
        assert_eq!(parse_stat(&format!("7 (a) Z 1 (b) {rest}")), Some(4242));
        assert_eq!(parse_stat(&format!("7 (x) {}", rest.replacen('S', "Z", 1))), None);
        for bad in ["", "7 (x)", "7 (x) S 1", "7 x S"] {
            assert_eq!(parse_stat(bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn a_number_alone_is_not_enough() {
        let own = std::process::id() as i32;
        let started = started(own).unwrap();
        assert!(Process::adopt(ProcessId { pid: own, started }, Uuid::from_u128(1)).is_none(), "wrong command line");
        let server = Uuid::from_u128(0xfeed);
        let mut sleeper = Command::new("sh").args(["-c", "sleep 60; exit", "-uuid", &server.to_string()]).spawn().unwrap();
        let pid = sleeper.id() as i32;
        let started = loop {
            // until exec has replaced the copy of this test
            if let Some(started) = super::started(pid).filter(|_| command_line(pid).is_some_and(|a| uuid_argument(&a).is_some())) {
                break started;
            }
            tokio::task::yield_now().await;
        };
        assert!(Process::adopt(ProcessId { pid, started: started + 1 }, server).is_none(), "wrong start time");
        let process = Process::adopt(ProcessId { pid, started }, server).expect("the right one");
        process.kill();
        assert_eq!(process.wait().await, Ended::Unknown, "not known to be our child");
        assert!(Process::adopt(process.id, server).is_none(), "dead, though not reaped");
        sleeper.wait().unwrap();
    }
}
