//! Running `qemu-img` and other programs: without privileges, without names of files, and not beyond the thread that waits for them.
//!
//! Files are opened here and handed over; what a program opens is `/proc/self/fd/N`, which needs a right to the file but none to the
//! directories above it. Secrets come the same way, in memory that has no name.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::image::{Image, Secret, Storage};
use crate::job::Job;

/// Programs used, and who they are run as.
#[derive(Debug, Clone)]
pub struct Tools {
    pub qemu_img: PathBuf,
    /// User and group of programs and of the files they write. None: as this process.
    pub user: Option<u32>,
}

impl Default for Tools {
    fn default() -> Self {
        Tools { qemu_img: "/usr/bin/qemu-img".into(), user: nix::unistd::geteuid().is_root().then_some(210_000) }
    }
}

impl Tools {
    /// Lets programs write a file.
    pub(crate) fn give(&self, file: &File, path: &Path) -> Result<()> {
        let Some(user) = self.user else { return Ok(()) };
        let metadata = file.metadata().map_err(Error::io("look at", path))?;
        if metadata.file_type().is_file() && metadata.uid() != user {
            fchown(file, Some(user), Some(user)).map_err(Error::io("give away", path))?;
        }
        Ok(())
    }

    /// Lets programs read a file that stays whose it is.
    fn lend(&self, file: &File, path: &Path) -> Result<()> {
        let Some(user) = self.user else { return Ok(()) };
        let metadata = file.metadata().map_err(Error::io("look at", path))?;
        let readable = metadata.uid() == user || metadata.mode() & 0o004 != 0 || (metadata.gid() == user && metadata.mode() & 0o040 != 0);
        if readable || !metadata.file_type().is_file() {
            return Ok(());
        }
        fchown(file, None, Some(user)).map_err(Error::io("lend", path))?;
        file.set_permissions(std::fs::Permissions::from_mode(metadata.mode() & 0o700 | 0o040)).map_err(Error::io("lend", path))
    }
}

/// Longer words of a program are cut.
const MOST_OUTPUT: usize = 1 << 20;
/// How often it is looked whether the work is still wanted.
const GLANCE_MS: u16 = 200;
const ADDRESS_SPACE: u64 = 8 << 30;

/// One run of a program.
pub(crate) struct Run<'a> {
    tools: &'a Tools,
    program: PathBuf,
    args: Vec<OsString>,
    keep: Vec<OwnedFd>,
    secrets: Vec<String>,
    network: bool,
}

impl<'a> Run<'a> {
    /// `qemu-img` with a subcommand.
    pub fn qemu_img(tools: &'a Tools, command: &str) -> Self {
        let mut run = Run::program(tools, &tools.qemu_img);
        run.network = false;
        run.arg(command);
        run
    }

    pub fn program(tools: &'a Tools, program: &Path) -> Self {
        Run { tools, program: program.to_owned(), args: Vec::new(), keep: Vec::new(), secrets: Vec::new(), network: true }
    }

    pub fn arg(&mut self, arg: impl Into<OsString>) -> &mut Self {
        self.args.push(arg.into());
        self
    }

    pub fn args<const N: usize>(&mut self, args: [&str; N]) -> &mut Self {
        self.args.extend(args.map(OsString::from));
        self
    }

    /// A descriptor the program inherits; its number.
    pub fn hand(&mut self, fd: impl AsFd) -> Result<RawFd> {
        let copy = inheritable(&fd.as_fd()).map_err(|e| setup("duplicating a descriptor", e))?;
        let number = copy.as_raw_fd();
        self.keep.push(copy);
        Ok(number)
    }

    pub fn secret(&mut self, secret: &Secret) -> Result<()> {
        if self.secrets.contains(&secret.id) {
            return Ok(());
        }
        self.secrets.push(secret.id.clone());
        let file = memory(c"secret").map_err(|e| setup("keeping a secret", e))?;
        (&file).write_all(&secret.value).map_err(|e| setup("keeping a secret", e))?;
        self.tools.give(&file, Path::new("a secret"))?;
        let path = format!("/proc/self/fd/{}", self.hand(&file)?);
        self.arg("--object").arg(json!({"qom-type": "secret", "id": secret.id, "file": path}).to_string());
        Ok(())
    }

    /// The storage layer and the format's layer of an image, whose files are opened and secrets given.
    pub fn open(&mut self, image: &Image, writable: bool) -> Result<Value> {
        let storage = match &image.storage {
            Storage::File(path) => {
                let file = OpenOptions::new().read(true).write(writable).open(path).map_err(Error::io("open", path))?;
                if writable {
                    self.tools.give(&file, path)?
                } else {
                    self.tools.lend(&file, path)?
                }
                self.file(&file)?
            }
            Storage::Node { node, secrets } => {
                self.network = true;
                secrets.iter().try_for_each(|secret| self.secret(secret))?;
                node.clone()
            }
        };
        Ok(image.over(storage))
    }

    /// An open file as a storage layer.
    pub fn file(&mut self, file: &File) -> Result<Value> {
        let kind = file.metadata().map_err(|e| setup("looking at a file", e))?.file_type();
        let driver = if std::os::unix::fs::FileTypeExt::is_block_device(&kind) { "host_device" } else { "file" };
        Ok(json!({"driver": driver, "filename": format!("/proc/self/fd/{}", self.hand(file)?)}))
    }

    /// Runs to the end; what it printed.
    pub fn go(self, job: &Job) -> Result<Vec<u8>> {
        let name = self.name();
        let ended = self.end(job)?;
        if ended.status.success() {
            return Ok(ended.output);
        }
        Err(Error::tool(&name, if ended.words.is_empty() { ended.status.to_string() } else { ended.words }))
    }

    /// Runs to the end, whatever that is.
    pub fn end(self, job: &Job) -> Result<Ended> {
        job.go_on()?;
        let name = self.name();
        let mut child = self.spawn().map_err(|e| Error::tool(&name, e.to_string()))?;
        let said = listen(&mut child, job);
        if said.is_err() {
            let _ = child.kill();
        }
        let status = child.wait().map_err(|e| Error::tool(&name, e.to_string()))?;
        let (output, errors) = said?;
        Ok(Ended { status, output, words: last_words(&String::from_utf8_lossy(&errors)) })
    }

    fn name(&self) -> String {
        self.program.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn spawn(&self) -> io::Result<Child> {
        let mut command = Command::new(&self.program);
        command.args(&self.args).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C").current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let keep: Vec<RawFd> = self.keep.iter().map(AsRawFd::as_raw_fd).collect();
        let (user, network) = (self.tools.user, self.network);
        // SAFETY: the closure only makes system calls on captured plain values; no allocation, no locks.
        unsafe { command.pre_exec(move || confine(&keep, user, network)) };
        command.spawn()
    }
}

/// How a program ended.
pub(crate) struct Ended {
    pub status: ExitStatus,
    pub output: Vec<u8>,
    /// The last of what it complained about.
    pub words: String,
}

fn setup(what: &str, error: io::Error) -> Error {
    Error::tool("qemu-img", format!("{what}: {error}"))
}

/// A file without a name.
pub(crate) fn memory(name: &std::ffi::CStr) -> io::Result<File> {
    Ok(memfd_create(name, MFdFlags::MFD_CLOEXEC)?.into())
}

/// A high number of its own, unique in this process, so that nothing has to be moved in the child.
fn inheritable(fd: &impl AsRawFd) -> io::Result<OwnedFd> {
    // SAFETY: duplicates a descriptor that the reference keeps open.
    let copy = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 200) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Between fork and exec.
fn confine(keep: &[RawFd], user: Option<u32>, network: bool) -> io::Result<()> {
    let check = |result: libc::c_int| if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) };
    // SAFETY: plain system calls with valid arguments, in a process that has one thread.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
        for fd in keep {
            check(libc::fcntl(*fd, libc::F_SETFD, 0))?;
        }
        for (resource, value) in [(libc::RLIMIT_CORE, 0), (libc::RLIMIT_AS, ADDRESS_SPACE)] {
            check(libc::setrlimit(resource, &libc::rlimit { rlim_cur: value, rlim_max: value }))?;
        }
        if let Some(user) = user {
            if !network {
                // best effort: without namespaces it only has a network it does not use
                libc::unshare(libc::CLONE_NEWNET);
            }
            check(libc::setgroups(0, std::ptr::null()))?;
            check(libc::setresgid(user, user, user))?;
            check(libc::setresuid(user, user, user))?;
        }
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        // After the change of user, which forgets it.
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))
    }
}

/// Reads what a program prints, and its progress from that, until it prints no more.
fn listen(child: &mut Child, job: &Job) -> Result<(Vec<u8>, Vec<u8>)> {
    let (Some(mut out), Some(mut err)) = (child.stdout.take(), child.stderr.take()) else { return Ok(Default::default()) };
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let (mut out_open, mut err_open) = (true, true);
    while out_open || err_open {
        job.go_on()?;
        let events = |open: bool| if open { PollFlags::POLLIN } else { PollFlags::empty() };
        let mut fds = [PollFd::new(out.as_fd(), events(out_open)), PollFd::new(err.as_fd(), events(err_open))];
        match poll(&mut fds, PollTimeout::from(GLANCE_MS)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(setup("waiting for output", error.into())),
        }
        let ready = fds.map(|fd| fd.revents().is_some_and(|events| !events.is_empty()));
        if ready[0] && out_open {
            out_open = take(&mut out, &mut output)?;
            if let Some(percent) = percent(&output) {
                job.reached(percent.into(), 100);
            }
        }
        if ready[1] && err_open {
            err_open = take(&mut err, &mut errors)?;
        }
    }
    Ok((output, errors))
}

fn take(from: &mut impl Read, to: &mut Vec<u8>) -> Result<bool> {
    let mut chunk = [0; 16 << 10];
    let n = from.read(&mut chunk).map_err(|e| setup("reading output", e))?;
    if to.len() + n > MOST_OUTPUT {
        to.drain(..to.len() / 2);
    }
    to.extend_from_slice(&chunk[..n]);
    Ok(n > 0)
}

/// The last of `    (12.50/100%)` in what was printed.
fn percent(output: &[u8]) -> Option<u8> {
    let tail = &output[output.len().saturating_sub(64)..];
    let text = std::str::from_utf8(tail).ok()?;
    let (before, _) = text.rsplit_once("/100%)")?;
    before.rsplit_once('(')?.1.trim().parse::<f32>().ok().map(|percent| percent as u8)
}

fn last_words(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines[lines.len().saturating_sub(3)..].join("; ");
    last.chars().filter(|c| !c.is_control()).take(1000).collect()
}

/// Options of a block device in the dotted form, for where no JSON is taken.
pub(crate) fn dotted(node: &Value) -> String {
    let mut all = Vec::new();
    flatten("", node, &mut all);
    all.join(",")
}

fn flatten(prefix: &str, value: &Value, all: &mut Vec<String>) {
    let name = |key: &str| if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
    match value {
        Value::Object(object) => object.iter().for_each(|(key, value)| flatten(&name(key), value, all)),
        Value::Array(array) => array.iter().enumerate().for_each(|(i, value)| flatten(&name(&i.to_string()), value, all)),
        // There is no way to say "none"; drafts, which this is for, have no backing file.
        Value::Null => {}
        Value::Bool(on) => all.push(format!("{prefix}={}", if *on { "on" } else { "off" })),
        Value::String(text) => all.push(format!("{prefix}={}", text.replace(',', ",,"))),
        Value::Number(number) => all.push(format!("{prefix}={number}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read_from_what_is_printed() {
        assert_eq!(percent(b"    (0.00/100%)\r    (37.51/100%)\r"), Some(37));
        assert_eq!(percent(b"    (100.00/100%)\r\n"), Some(100));
        assert_eq!(percent(b"    (x/100%)\r"), None);
        assert_eq!(percent(b""), None);
    }

    #[test]
    fn nodes_become_dotted_options() {
        let node =
            json!({"driver": "qcow2", "backing": null, "file": {"driver": "nfs", "server": {"host": "a,b"}, "debug": 1, "list": [true]}});
        let text = dotted(&node);
        assert_eq!(text, "driver=qcow2,file.debug=1,file.driver=nfs,file.list.0=on,file.server.host=a,,b");
    }

    #[test]
    fn a_program_that_is_not_wanted_any_more_ends() {
        let tools = Tools::default();
        let mut run = Run::program(&tools, Path::new("/bin/sleep"));
        run.arg("600");
        let job = Job::default();
        let stopper = job.clone();
        std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(100));
            stopper.stop();
        });
        assert!(matches!(run.go(&job), Err(Error::Stopped)));
    }

    #[test]
    fn failures_say_why() {
        let tools = Tools::default();
        let mut run = Run::qemu_img(&tools, "info");
        run.arg("/nonexistent/image");
        let error = run.go(&Job::default()).unwrap_err();
        assert!(error.to_string().contains("nonexistent") && !error.passes(), "{error}");
    }
}
