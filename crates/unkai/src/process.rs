//! One process per state directory: who runs, and how it goes to the background.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A running process: its number and when it started, so that a reused number is not mistaken for it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Running {
    pub pid: i32,
    started: u64,
}

impl Running {
    pub fn me() -> Result<Self> {
        let pid = std::process::id() as i32;
        Ok(Running { pid, started: start_time(pid).context("reading this process's start time")? })
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        fs::write(path, format!("{} {}\n", self.pid, self.started)).with_context(|| format!("writing `{}`", path.display()))
    }

    /// The process that wrote the file, if it still runs.
    pub fn read(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let mut words = text.split_whitespace();
        let running = Running { pid: words.next()?.parse().ok()?, started: words.next()?.parse().ok()? };
        running.is_alive().then_some(running)
    }

    pub fn is_alive(&self) -> bool {
        start_time(self.pid) == Some(self.started)
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.pid), signal).with_context(|| format!("sending {signal} to process {}", self.pid))
    }
}

/// Field 22 of `/proc/PID/stat`, counted after the name, which may hold anything; none for a zombie too.
fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if state == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Starts this program again in the background, in a session of its own, and waits for its `ready` line.
pub fn detach(log: &Path) -> Result<()> {
    let log_file = fs::OpenOptions::new().create(true).append(true).open(log).with_context(|| format!("opening `{}`", log.display()))?;
    let arguments = std::env::args_os().skip(1).filter(|argument| argument != "--detach");
    let mut command = Command::new(std::env::current_exe().context("finding this program")?);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log_file);
    // SAFETY: setsid is async-signal-safe and touches no memory of ours.
    unsafe {
        command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(std::io::Error::from));
    }
    let mut child = command.spawn().context("starting the background process")?;
    let stdout = child.stdout.take().context("reading from the background process")?;
    for line in BufReader::new(stdout).lines() {
        let line = line.context("reading from the background process")?;
        println!("{line}");
        if line.starts_with("ready ") {
            return Ok(());
        }
    }
    let status = child.wait().context("waiting for the background process")?;
    bail!("the background process ended ({status}); see `{}`", log.display())
}
