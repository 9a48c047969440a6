//! Where QEMU and its tools find the bytes of a volume.

use std::path::PathBuf;

use serde_json::{Value, json};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Raw,
    Qcow2,
}

impl Format {
    pub fn name(self) -> &'static str {
        match self {
            Format::Raw => "raw",
            Format::Qcow2 => "qcow2",
        }
    }
}

/// A content as a block device of QEMU, from the wire up.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    pub storage: Storage,
    pub format: Format,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Storage {
    /// A file or block device, which whoever starts QEMU opens and hands over.
    File(PathBuf),
    /// Options of one of QEMU's protocol drivers (`nbd`, `nfs`, `rbd`, `iscsi`), without a node name, and the secrets they refer to.
    Node { node: Value, secrets: Vec<Secret> },
}

/// A value that no command line shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    pub id: String,
    pub value: Vec<u8>,
}

impl Secret {
    /// Ids begin with the volume's, so that they are unique in a server and found again.
    pub fn new(volume: &str, name: &str, value: &[u8]) -> Secret {
        Secret { id: format!("s{volume}-{name}"), value: value.to_owned() }
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret({})", self.id)
    }
}

impl Image {
    pub fn file(path: impl Into<PathBuf>, format: Format) -> Image {
        Image { storage: Storage::File(path.into()), format }
    }

    /// The format's layer over a storage layer. A backing file is never followed.
    pub(crate) fn over(&self, storage: Value) -> Value {
        let mut node = json!({"driver": self.format.name(), "file": storage});
        if self.format == Format::Qcow2 {
            node["backing"] = Value::Null;
        }
        node
    }
}
