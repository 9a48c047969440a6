//! Disks that are somebody else's: how they are reached is said at every start, and kept nowhere.
//!
//! Files are opened here and passed, so QEMU needs no right to them and keeps them when the agent dies. Secrets go through memory without a
//! name at start and over QMP later; no command line and no ledger shows them.

use crate::command_line::{Below, ImageFd, Passed};
use crate::error::{Error, Result};
use crate::qcow2;
use crate::qmp::Qmp;
use crate::spec::{Disk, Format, Source};
use base64::Engine;
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, fchown};
use std::path::{Path, PathBuf};

/// One disk as it is given to QEMU.
#[derive(Debug, Clone, PartialEq)]
pub struct Given {
    /// The disk's id.
    pub disk: String,
    pub storage: Storage,
    /// Of the LUKS container in it.
    pub passphrase: Option<Passphrase>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Storage {
    File(PathBuf),
    /// Options of one of QEMU's protocol drivers, without a node name, and the values of the secret objects they name. Ids begin with
    /// [`Disk::secret`]'s.
    Node {
        node: Value,
        secrets: Vec<(String, Passphrase)>,
    },
}

/// Not for the eye, and not always text.
#[derive(Clone, PartialEq, Eq)]
pub struct Passphrase(pub Vec<u8>);

impl From<String> for Passphrase {
    fn from(text: String) -> Passphrase {
        Passphrase(text.into_bytes())
    }
}

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase")
    }
}

impl Disk {
    /// What the ids of its secret objects begin with.
    pub fn secret(&self) -> String {
        format!("s{}", self.id)
    }

    pub(crate) fn luks_secret(&self) -> String {
        format!("{}-luks", self.secret())
    }
}

/// A foreign file opened for QEMU.
pub(crate) struct OpenImage {
    pub fd: OwnedFd,
    pub block_device: bool,
}

/// The file is what it is said to be, and names no other.
pub(crate) fn open(path: &Path, format: Format, writable: bool) -> Result<OpenImage> {
    let file = OpenOptions::new().read(true).write(writable).open(path).map_err(Error::io("open image", path))?;
    if format == Format::Qcow2 {
        qcow2::inspect(path, format)?;
    }
    let kind = file.metadata().map_err(Error::io("open image", path))?.file_type();
    Ok(OpenImage { fd: file.into(), block_device: kind.is_block_device() })
}

/// The given that belongs to a disk; whoever starts a server has all of them.
pub(crate) fn of<'a>(disk: &Disk, given: &'a [Given]) -> Result<Option<&'a Given>> {
    let Source::Given { luks, .. } = &disk.source else { return Ok(None) };
    let found = given.iter().find(|given| given.disk == disk.id);
    let found = found.ok_or_else(|| Error::Invalid(format!("disk {} was not given", disk.id)))?;
    match (&found.passphrase, luks) {
        (None, true) => Err(Error::Invalid(format!("disk {} is encrypted, and no passphrase was given", disk.id))),
        (Some(_), false) => Err(Error::Invalid(format!("disk {} is not encrypted, and a passphrase was given", disk.id))),
        _ => Ok(Some(found)),
    }
}

impl Given {
    /// The secret objects that the nodes of this disk name.
    pub(crate) fn secrets(&self, disk: &Disk) -> Vec<(String, &Passphrase)> {
        let luks = self.passphrase.iter().map(|passphrase| (disk.luks_secret(), passphrase));
        match &self.storage {
            Storage::File(_) => luks.collect(),
            Storage::Node { secrets, .. } => secrets.iter().map(|(id, value)| (id.clone(), value)).chain(luks).collect(),
        }
    }
}

/// A secret in memory without a name, which QEMU's own user may read.
pub(crate) fn hidden(secret: &Passphrase, owner: Option<u32>) -> Result<OwnedFd> {
    let failed = || Error::system("keep a secret in memory");
    let fd = nix::sys::memfd::memfd_create(c"secret", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).map_err(|e| failed()(e.into()))?;
    let mut file = File::from(fd);
    file.write_all(&secret.0).map_err(failed())?;
    if owner.is_some() {
        fchown(&file, owner, owner).map_err(failed())?;
    }
    Ok(file.into())
}

/// Makes secret objects in a running QEMU, in place of any that an interrupted attempt left.
pub(crate) async fn tell(qmp: &Qmp, secrets: &[(String, &Passphrase)]) -> Result<()> {
    for (id, secret) in secrets {
        let _ = qmp.execute("object-del", json!({"id": id})).await;
        let data = base64::engine::general_purpose::STANDARD.encode(&secret.0);
        qmp.execute("object-add", json!({"qom-type": "secret", "id": id, "data": data, "format": "base64"})).await?;
    }
    Ok(())
}

/// Removes a disk's secret objects.
pub(crate) async fn untell(qmp: &Qmp, disk: &Disk) {
    let Ok(objects) = qmp.execute("qom-list", json!({"path": "/objects"})).await else { return };
    let names = objects.as_array().into_iter().flatten().filter_map(|object| object["name"].as_str());
    for id in names.filter(|name| name.starts_with(&disk.secret())) {
        if let Err(error) = qmp.execute("object-del", json!({"id": id})).await {
            tracing::warn!(%error, id, "a secret stays in QEMU");
        }
    }
}

/// What lies below a disk's nodes in a running QEMU: a file is passed under the label.
pub(crate) async fn hand_over(qmp: &Qmp, storage: &Storage, format: Format, writable: bool, label: &str) -> Result<Below> {
    match storage {
        Storage::Node { node, .. } => Ok(Below::Node(node.clone())),
        Storage::File(path) => {
            let path = path.clone();
            let image = crate::qemu::blocking(move || open(&path, format, writable)).await?;
            let set = crate::vm::pass(qmp, image.fd, label).await?;
            Ok(Below::Passed(Passed { set, block_device: image.block_device }))
        }
    }
}

impl From<ImageFd> for Below {
    fn from(image: ImageFd) -> Below {
        Below::Passed(Passed { set: image.fd.into(), block_device: image.block_device })
    }
}
