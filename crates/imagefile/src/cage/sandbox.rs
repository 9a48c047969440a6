//! What happens in the child between fork and exec: everything it could do harm with is given up.
//!
//! Only async-signal-safe calls are made here, and nothing allocates.

use std::io;
use std::os::fd::RawFd;

use libc::{c_int, c_ulong, rlimit};

/// What one child may do. Plain numbers, made before the fork.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sandbox {
    pub uid: u32,
    pub gid: u32,
    /// We are root: become somebody else and leave the network.
    pub privileged: bool,
    pub address_space: u64,
    pub cpu_seconds: u64,
    pub open_files: u64,
    pub file_size: u64,
    /// The descriptors that stay open besides the standard three.
    pub keep: [Option<RawFd>; 2],
}

fn done(result: c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

impl Sandbox {
    /// Runs in the child. An error makes the start fail, so the program never runs half caged.
    pub fn enter(&self) -> io::Result<()> {
        self.close_files()?;
        self.limit_all()?;
        if self.privileged {
            self.leave_root()?;
        }
        self.give_up_capabilities()
    }

    fn close_files(&self) -> io::Result<()> {
        // Marked, not closed: the descriptor over which a failing exec is reported is among them.
        // SAFETY: plain system calls on numbers.
        unsafe {
            done(libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC as c_int))?;
            for fd in self.keep.into_iter().flatten() {
                done(libc::fcntl(fd, libc::F_SETFD, 0))?;
            }
        }
        Ok(())
    }

    fn limit_all(&self) -> io::Result<()> {
        limit(libc::RLIMIT_AS, self.address_space, self.address_space)?;
        limit(libc::RLIMIT_CPU, self.cpu_seconds, self.cpu_seconds + 1)?;
        limit(libc::RLIMIT_NOFILE, self.open_files, self.open_files)?;
        limit(libc::RLIMIT_FSIZE, self.file_size, self.file_size)?;
        limit(libc::RLIMIT_CORE, 0, 0)
    }

    fn leave_root(&self) -> io::Result<()> {
        // SAFETY: plain system calls; the order matters, the user id goes last.
        unsafe {
            done(libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWIPC))?;
            done(libc::setgroups(0, std::ptr::null()))?;
            done(libc::setresgid(self.gid, self.gid, self.gid))?;
            done(libc::setresuid(self.uid, self.uid, self.uid))
        }
    }

    fn give_up_capabilities(&self) -> io::Result<()> {
        let zero: c_ulong = 0;
        let header = CapabilityHeader { version: CAPABILITIES_V3, pid: 0 };
        let none = [CapabilitySet::default(); 2];
        // SAFETY: the two structures are what capset expects for version 3, and outlive the call.
        unsafe {
            libc::umask(0o077);
            let clear = libc::PR_CAP_AMBIENT_CLEAR_ALL as c_ulong;
            done(libc::prctl(libc::PR_CAP_AMBIENT, clear, zero, zero, zero))?;
            if libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) != 0 {
                return Err(io::Error::last_os_error());
            }
            let one: c_ulong = 1;
            done(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, one, zero, zero, zero))
        }
    }
}

const CAPABILITIES_V3: u32 = 0x2008_0522;

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: c_int,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilitySet {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Lowers a limit; one that is already lower stays.
fn limit(what: libc::__rlimit_resource_t, soft: u64, hard: u64) -> io::Result<()> {
    let mut now = rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `now` and `wanted` are valid for the calls.
    unsafe {
        done(libc::getrlimit(what, &raw mut now))?;
        let hard = hard.min(now.rlim_max);
        let wanted = rlimit { rlim_cur: soft.min(hard), rlim_max: hard };
        done(libc::setrlimit(what, &raw const wanted))
    }
}
