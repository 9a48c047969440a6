//! One run of `qemu-img`: start it caged, serve it the image, watch what it prints, and be sure that it is gone.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use super::Cage;
use super::error::{CageError, STDERR_KEPT, sanitized};
use super::sandbox::Sandbox;
use super::serve;
use crate::Accepted;

/// The image and what `qemu-img` may write.
pub(super) struct Run<'a> {
    pub cage: &'a Cage,
    pub image: &'a Accepted,
    pub source: File,
    /// The output file, if any, and how long it may become.
    pub output: Option<RawFd>,
    pub file_size: u64,
}

/// Takes what is printed to stdout; an error ends the run.
pub(super) type Listener<'a> = dyn FnMut(&[u8]) -> Result<(), CageError> + Send + 'a;

impl Run<'_> {
    /// Runs `qemu-img` with the arguments that `arguments` makes of the image's name.
    pub async fn go(self, arguments: impl FnOnce(String) -> Vec<OsString>, listener: &mut Listener<'_>) -> Result<(), CageError> {
        let (cage, file_size) = (self.cage, self.file_size);
        let mut caged = self.start(arguments)?;
        let ended = tokio::time::timeout(cage.wall, caged.watch(listener)).await;
        let (status, stderr) = match ended {
            Ok(Ok(ended)) => ended,
            failed => {
                caged.kill();
                // Killed for sure, so this is short; it keeps the process table clean.
                let _ = caged.child.wait().await;
                failed.unwrap_or(Err(CageError::TimedOut { limit: cage.wall }))?
            }
        };
        verdict(cage, file_size, status, &stderr)
    }

    fn start(self, arguments: impl FnOnce(String) -> Vec<OsString>) -> Result<Caged, CageError> {
        let (uid, gid) = (self.cage.uid, self.cage.gid);
        if uid == 0 || gid == 0 {
            return Err(CageError::Root { uid, gid });
        }
        let length = self.length()?;
        let (ours, theirs) = socket_pair()?;
        let theirs = OwnedFd::from(theirs);
        let sandbox = self.sandbox(theirs.as_raw_fd());
        let spec = super::source_spec(self.image.format(), theirs.as_raw_fd());
        let mut command = Command::new(&self.cage.qemu_img);
        command.args(arguments(spec)).env_clear().env("LC_ALL", "C").env("PATH", "/usr/bin:/bin");
        command.current_dir("/").process_group(0).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // SAFETY: `enter` only makes async-signal-safe calls and does not allocate.
        unsafe { command.pre_exec(move || sandbox.enter()) };
        let program = self.cage.qemu_img.clone();
        let child = command.spawn().map_err(|source| CageError::Start { program, source })?;
        drop(theirs);
        let source = self.source;
        let body = move || {
            if let Err(error) = serve::serve(&source, length, ours) {
                tracing::debug!(%error, "the caged process left in the middle of a request");
            }
        };
        let group = child.id().and_then(|pid| libc::pid_t::try_from(pid).ok());
        let caged = Caged { child, group };
        let what = "starting the thread that serves the image";
        let thread = std::thread::Builder::new().name("image-serve".into()).spawn(body);
        thread.map_err(|source| CageError::Setup { what, source })?;
        Ok(caged)
    }

    /// The file must still be the one that was inspected, as far as its length tells.
    fn length(&self) -> Result<u64, CageError> {
        let what = "looking at the image";
        let found = self.source.metadata().map_err(|source| CageError::Setup { what, source })?.len();
        let inspected = self.image.length();
        if found == inspected { Ok(found) } else { Err(CageError::Changed { inspected, found }) }
    }

    fn sandbox(&self, socket: RawFd) -> Sandbox {
        Sandbox {
            uid: self.cage.uid,
            gid: self.cage.gid,
            privileged: is_root(),
            address_space: self.cage.address_space,
            cpu_seconds: self.cage.cpu.as_secs().max(1),
            open_files: self.cage.open_files,
            file_size: self.file_size,
            keep: [Some(socket), self.output],
        }
    }
}

pub(super) fn is_root() -> bool {
    // SAFETY: geteuid cannot fail and touches no memory.
    unsafe { libc::geteuid() == 0 }
}

fn socket_pair() -> Result<(UnixStream, UnixStream), CageError> {
    UnixStream::pair().map_err(|source| CageError::Setup { what: "making a socket pair", source })
}

/// A running process and its group. Dropping it kills the group.
struct Caged {
    child: Child,
    group: Option<libc::pid_t>,
}

impl Caged {
    async fn watch(&mut self, listener: &mut Listener<'_>) -> Result<(ExitStatus, Vec<u8>), CageError> {
        let stdout = self.child.stdout.take();
        let stderr = self.child.stderr.take();
        let ((), stderr) = tokio::try_join!(listen(stdout, listener), keep_tail(stderr))?;
        let status = self.child.wait().await.map_err(|source| CageError::Wait { source })?;
        self.group = None;
        Ok((status, stderr))
    }

    fn kill(&mut self) {
        if let Some(group) = self.group.take() {
            // SAFETY: a plain system call. The leader is not reaped yet, so the number is still its own.
            unsafe { libc::killpg(group, libc::SIGKILL) };
        }
    }
}

impl Drop for Caged {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn listen(from: Option<impl AsyncRead + Unpin>, listener: &mut Listener<'_>) -> Result<(), CageError> {
    let Some(mut from) = from else { return Ok(()) };
    let mut buffer = [0; 4096];
    loop {
        match from.read(&mut buffer).await.map_err(|source| CageError::Wait { source })? {
            0 => return Ok(()),
            count => listener(&buffer[..count])?,
        }
    }
}

async fn keep_tail(from: Option<impl AsyncRead + Unpin>) -> Result<Vec<u8>, CageError> {
    let mut tail: Vec<u8> = Vec::new();
    let mut keep = |bytes: &[u8]| {
        tail.extend_from_slice(bytes);
        let surplus = tail.len().saturating_sub(STDERR_KEPT);
        tail.drain(..surplus);
        Ok(())
    };
    listen(from, &mut keep).await?;
    Ok(tail)
}

/// What an ended run means.
fn verdict(cage: &Cage, file_size: u64, status: ExitStatus, stderr: &[u8]) -> Result<(), CageError> {
    if status.success() {
        return Ok(());
    }
    let stderr = sanitized(stderr);
    match status.signal() {
        Some(libc::SIGXCPU) => Err(CageError::Processor { limit: cage.cpu }),
        Some(libc::SIGXFSZ) => Err(CageError::FileTooLarge { limit: file_size }),
        _ if stderr.contains("File too large") => Err(CageError::FileTooLarge { limit: file_size }),
        _ => Err(CageError::Failed { status, stderr }),
    }
}
