//! Debian's user-space iSCSI target (`tgtd`), one for each pool, spoken to over its management socket: the protocol of `tgtadm`, without
//! its command lines, which would show the password.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

const TGTD: &str = "/usr/sbin/tgtd";
const PATIENCE: Duration = Duration::from_secs(10);
/// About no target in particular.
const NONE: u32 = u32::MAX;
/// What a target is bound to: any initiator that knows the password.
const ANYBODY: &str = "initiator-address=ALL";

#[derive(Clone, Copy)]
enum Mode {
    System = 0,
    Target = 1,
    Device = 2,
    Account = 7,
}

#[derive(Clone, Copy)]
enum Op {
    New = 0,
    Delete = 1,
    Show = 2,
    Bind = 3,
    Update = 5,
}

pub struct Tgt {
    portal: String,
    user: String,
    password: String,
    run: PathBuf,
}

/// One at a time starts a target's program, or numbers a target.
static TURN: Mutex<()> = Mutex::new(());

/// A target as it is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    number: u32,
    pub name: String,
    /// Somebody is logged in.
    pub used: bool,
}

impl Tgt {
    pub fn new(dir: &Path, portal: &str, user: &str, password: &str) -> Tgt {
        let name = hex::encode(&Sha256::digest(dir.as_os_str().as_encoded_bytes())[..8]);
        let run = Path::new("/run/unkai-tgtd").join(name);
        Tgt { portal: portal.into(), user: user.into(), password: password.into(), run }
    }

    fn socket(&self) -> PathBuf {
        self.run.join("ipc.0")
    }

    fn request(&self, mode: Mode, op: Op, number: u32, lun: u64, force: bool, words: &str) -> Result<String> {
        let failed = |e: std::io::Error| Error::Pool(format!("the iSCSI target at {} does not answer: {e}", self.portal));
        let mut peer = UnixStream::connect(self.socket()).map_err(failed)?;
        peer.set_read_timeout(Some(PATIENCE)).and_then(|()| peer.set_write_timeout(Some(PATIENCE))).map_err(failed)?;
        peer.write_all(&message(mode, op, number, lun, force, words)).map_err(failed)?;
        let mut head = [0; 8];
        peer.read_exact(&mut head).map_err(failed)?;
        let word = |at: usize| u32::from_ne_bytes(std::array::from_fn(|i| head[at + i]));
        let (code, length) = (word(0), word(4) as usize);
        let mut text = vec![0; length.saturating_sub(8).min(64 << 20)];
        peer.read_exact(&mut text).map_err(failed)?;
        // Words of accounts are not for logs.
        let about = if matches!(mode, Mode::Account) { "an account" } else { words };
        match code {
            0 => Ok(String::from_utf8_lossy(&text).trim_end_matches('\0').to_owned()),
            code => Err(Error::tool("tgtd", format!("error {code} at {about}"))),
        }
    }

    /// It runs, and knows the account. Nothing it serves ends with this process.
    pub fn ensure(&self) -> Result<()> {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        if self.request(Mode::System, Op::Show, NONE, 0, false, "").is_ok() {
            return Ok(());
        }
        if !Path::new(TGTD).exists() {
            return Err(Error::Pool(format!("`{TGTD}` is not installed")));
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.run).map_err(Error::io("create", &self.run))?;
        let log = self.run.join("log");
        let out = fs::File::create(&log).map_err(Error::io("create", &log))?;
        let err = out.try_clone().map_err(Error::io("open", &log))?;
        let mut tgtd = Command::new(TGTD);
        tgtd.args(["-f", "-C", "0", "--iscsi", &format!("portal={}", self.portal)]).env_clear().env("TGT_IPC_SOCKET", self.run.join("ipc"));
        tgtd.stdin(Stdio::null()).stdout(out).stderr(err).current_dir("/");
        // SAFETY: one system call; a session of its own keeps signals for this process away from it.
        unsafe {
            tgtd.pre_exec(|| {
                libc::setsid();
                Ok(())
            });
        }
        let mut child = tgtd.spawn().map_err(Error::io("start", TGTD))?;
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = self.request(Mode::System, Op::Show, NONE, 0, false, "") {
            if let Ok(Some(status)) = child.try_wait() {
                let said = fs::read_to_string(&log).unwrap_or_default();
                let last = said.lines().last().unwrap_or_default();
                return Err(Error::Pool(format!("the iSCSI target cannot serve at {}: {status}, {last}", self.portal)));
            }
            if Instant::now() > deadline {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // Reaped when it ends before this process does.
        std::thread::spawn(move || child.wait());
        let (user, password) = (&self.user, &self.password);
        self.request(Mode::Account, Op::New, NONE, 0, false, &format!("user={user},password={password}")).map(drop)
    }

    /// Ends it, when it runs.
    pub fn stop(&self) -> Result<()> {
        if self.request(Mode::System, Op::Show, NONE, 0, false, "").is_ok() {
            self.withdraw(|_| true)?;
            self.request(Mode::System, Op::Delete, NONE, 0, false, "")?;
        }
        crate::files::remove_dir(&self.run)
    }

    pub fn targets(&self) -> Result<Vec<Target>> {
        self.request(Mode::Target, Op::Show, NONE, 0, false, "").map(|text| read(&text))
    }

    /// Serves a file under a name. Nothing happens when that is served.
    pub fn serve(&self, name: &str, file: &Path) -> Result<()> {
        self.ensure()?;
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let targets = self.targets()?;
        if targets.iter().any(|target| target.name == name) {
            return Ok(());
        }
        let number = targets.iter().map(|target| target.number).max().unwrap_or(0) + 1;
        self.request(Mode::Target, Op::New, number, 0, false, &format!("targetname={name}"))?;
        let made = self.furnish(number, file);
        if made.is_err() {
            let _ = self.request(Mode::Target, Op::Delete, number, 0, true, "");
        }
        made
    }

    /// Nobody gets in before all is as it should be: who may is said last.
    fn furnish(&self, number: u32, file: &Path) -> Result<()> {
        self.request(Mode::Device, Op::New, number, 1, false, &format!("path={}", file.display()))?;
        self.request(Mode::Device, Op::Update, number, 1, false, "thin_provisioning=1")?;
        self.request(Mode::Account, Op::Bind, number, 0, false, &format!("user={}", self.user))?;
        self.request(Mode::Target, Op::Bind, number, 0, false, ANYBODY).map(drop)
    }

    /// Serves these no more: who is logged in is cut off, and does not get in again.
    pub fn withdraw(&self, which: impl Fn(&str) -> bool) -> Result<()> {
        self.ensure()?;
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        for target in self.targets()?.into_iter().filter(|target| which(&target.name)) {
            self.request(Mode::Target, Op::Delete, target.number, 0, true, "")?;
        }
        Ok(())
    }
}

fn message(mode: Mode, op: Op, number: u32, lun: u64, force: bool, words: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(128 + words.len());
    out.extend((mode as u32).to_ne_bytes());
    out.extend((op as u32).to_ne_bytes());
    let mut driver = [0; 64];
    driver[..5].copy_from_slice(b"iscsi");
    out.extend(driver);
    let body = if words.is_empty() { 0 } else { words.len() + 1 };
    const HEAD: usize = 4 + 4 + 64 + 4 + 4 + 8 + 8 + 6 * 4;
    out.extend(((HEAD + body) as u32).to_ne_bytes());
    out.extend(number.to_ne_bytes());
    out.extend(0u64.to_ne_bytes());
    out.extend(lun.to_ne_bytes());
    // connection, host number, kind of device, direction of an account, (unused), force
    for value in [0u32, 0, 0, 0, 0, force.into()] {
        out.extend(value.to_ne_bytes());
    }
    if body > 0 {
        out.extend(words.as_bytes());
        out.push(0);
    }
    out
}

/// Of the list that is made for people: `Target N: NAME`, and below it a line for each who is logged in.
fn read(text: &str) -> Vec<Target> {
    let mut targets: Vec<Target> = Vec::new();
    for line in text.lines() {
        let named = line.strip_prefix("Target ").and_then(|rest| rest.split_once(": "));
        if let Some((number, name)) = named.and_then(|(number, name)| Some((number.parse().ok()?, name))) {
            targets.push(Target { number, name: name.trim().to_owned(), used: false });
        } else if line.trim_start().starts_with("I_T nexus: ")
            && let Some(last) = targets.last_mut()
        {
            last.used = true;
        }
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read() {
        let text = "Target 1: iqn.x:a\n    I_T nexus information:\n        I_T nexus: 1\n            Initiator: i alias: none\n\
                    Target 12: iqn.x:b\n    I_T nexus information:\n    LUN information:\n";
        let target = |number, name: &str, used| Target { number, name: name.into(), used };
        assert_eq!(read(text), [target(1, "iqn.x:a", true), target(12, "iqn.x:b", false)]);
        assert!(read("").is_empty());
    }
}
