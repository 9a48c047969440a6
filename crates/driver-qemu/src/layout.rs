//! Where a server's files are, and what may be done to them.
//!
//! `DIR/<id>/` belongs to the agent, not to the server's own user: QEMU may search it and use the files that were given to it, but can
//! neither create, rename nor replace anything there. So the agent never follows a name that a hostile QEMU chose.

use crate::error::{Error, Result};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// `sun_path` has 108 bytes with its end mark.
const MAX_SOCKET_PATH: usize = 107;

/// The unprivileged user and group of one server's QEMU.
pub type Owner = Option<u32>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerDir {
    path: PathBuf,
}

impl ServerDir {
    pub fn new(parent: &Path, id: Uuid) -> ServerDir {
        ServerDir { path: parent.join(id.to_string()) }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
    pub fn ledger(&self) -> PathBuf {
        self.path.join("ledger.json")
    }
    pub fn qmp_socket(&self) -> PathBuf {
        self.path.join("qmp.sock")
    }
    pub fn serial_socket(&self) -> PathBuf {
        self.path.join("serial.sock")
    }
    pub fn agent_socket(&self) -> PathBuf {
        self.path.join("agent.sock")
    }
    pub fn console_log(&self) -> PathBuf {
        self.path.join("console.log")
    }
    pub fn qemu_log(&self) -> PathBuf {
        self.path.join("qemu.log")
    }
    pub fn config_drive(&self) -> PathBuf {
        self.path.join("config.iso")
    }
    pub fn kernel(&self) -> PathBuf {
        self.path.join("kernel")
    }
    pub fn ramdisk(&self) -> PathBuf {
        self.path.join("ramdisk")
    }
    /// Memory and devices of a suspended guest.
    /// Where the disks of a server that is coming here are written through.
    pub fn nbd_socket(&self) -> PathBuf {
        self.path.join("nbd.sock")
    }
    /// Where QEMU connects to write the copy of a disk that another host gets.
    pub fn mirror_socket(&self, id: &str) -> PathBuf {
        self.path.join(format!("mirror-{}.sock", id.chars().take(16).collect::<String>()))
    }
    pub fn saved_state(&self) -> PathBuf {
        self.path.join("suspended")
    }
    pub fn disk(&self, id: &str) -> PathBuf {
        self.path.join(format!("disk-{id}"))
    }

    pub fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// Creates the directory: the owner's group may search it, nobody else anything.
    pub fn create(&self, owner: Owner) -> Result<()> {
        if self.serial_socket().as_os_str().len() > MAX_SOCKET_PATH {
            return Err(Error::Invalid(format!("`{}` is too long for a socket inside", self.path.display())));
        }
        std::fs::create_dir_all(&self.path).map_err(Error::io("create directory", &self.path))?;
        set_owner(&self.path, None, owner, 0o710)
    }

    pub fn remove(&self) -> Result<()> {
        match std::fs::remove_dir_all(&self.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove directory", &self.path)(e)),
            _ => Ok(()),
        }
    }
}

/// Gives a file that QEMU writes to its user.
pub fn give(path: &Path, owner: Owner) -> Result<()> {
    set_owner(path, owner, owner, 0o600)
}

/// Lets a file be read by the server's user, and written by the agent only.
pub fn lend(path: &Path, owner: Owner) -> Result<()> {
    set_owner(path, None, owner, 0o640)
}

fn set_owner(path: &Path, user: Owner, group: Owner, mode: u32) -> Result<()> {
    let failed = || Error::io("set owner and mode of", path);
    if group.is_some() {
        chown(path, user, group).map_err(failed())?;
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed())
}

/// Creates a file that must not be there yet.
pub fn create_new(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    options.open(path).map_err(Error::io("create file", path))
}

/// Creates an empty file or keeps the one that is there.
pub fn touch(path: &Path) -> Result<()> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    options.open(path).map(drop).map_err(Error::io("create file", path))
}

/// Writes a file so that a crash leaves the old one or the new one, durably.
pub fn write_durably(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write;
    let temporary = path.with_extension("new");
    let failed = || Error::io("write file", &temporary);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let mut file = options.open(&temporary).map_err(failed())?;
    file.write_all(bytes).map_err(failed())?;
    file.sync_all().map_err(failed())?;
    std::fs::rename(&temporary, path).map_err(Error::io("rename to", path))?;
    let parent = path.parent().unwrap_or(Path::new("/"));
    File::open(parent).and_then(|d| d.sync_all()).map_err(Error::io("sync directory", parent))
}
