//! The nouns of volumes in a pool.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::image::{Format, Secret};
use crate::repository::Repository;

/// One content of a volume: what it is now, or what it was.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Data,
    Snapshot(String),
}

/// A content of a certain volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    pub volume: String,
    pub part: Part,
}

impl Spot {
    pub fn data(volume: &str) -> Spot {
        Spot { volume: volume.to_owned(), part: Part::Data }
    }

    pub fn snapshot(volume: &str, snapshot: &str) -> Spot {
        Spot { volume: volume.to_owned(), part: Part::Snapshot(snapshot.to_owned()) }
    }

    /// Names that are safe in file names and options of programs.
    pub fn validate(&self) -> Result<()> {
        word(&self.volume)?;
        match &self.part {
            Part::Data => Ok(()),
            Part::Snapshot(snapshot) => word(snapshot),
        }
    }
}

impl std::fmt::Display for Spot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.part {
            Part::Data => write!(f, "volume {}", self.volume),
            Part::Snapshot(snapshot) => write!(f, "snapshot {snapshot} of volume {}", self.volume),
        }
    }
}

pub(crate) fn word(text: &str) -> Result<()> {
    let fits = !text.is_empty() && text.len() <= 64 && !text.starts_with(['.', '-']);
    if fits && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
        return Ok(());
    }
    Err(Error::Invalid(format!("{text:?} cannot be a name in a pool")))
}

/// A key of the cloud's key store, and the cipher it is for.
#[derive(Clone, PartialEq, Eq)]
pub struct Luks {
    /// For example `aes-256`.
    pub cipher: String,
    /// For example `xts`.
    pub mode: String,
    pub passphrase: String,
}

impl std::fmt::Debug for Luks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Luks({} {})", self.cipher, self.mode)
    }
}

impl Luks {
    pub(crate) fn secret(&self, id: &str) -> Secret {
        Secret { id: id.to_owned(), value: self.passphrase.clone().into_bytes() }
    }
}

/// A volume that is to be made.
#[derive(Debug, Clone)]
pub struct New {
    pub bytes: u64,
    /// Several servers may have it open for writing at once.
    pub shared: bool,
    pub content: Content,
    pub luks: Option<Luks>,
}

/// What a volume begins with.
#[derive(Debug, Clone)]
pub enum Content {
    Blank,
    /// A file that was found to be what it is said to be, without a backing file.
    Image {
        path: PathBuf,
        format: Format,
    },
    /// In the same pool.
    Copy {
        from: Spot,
        luks: Option<Luks>,
    },
    /// Container and all, where it is one.
    Backup {
        repository: Repository,
        backup: String,
    },
}

/// What a pool says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Tells this pool from all others, and from a place where none is.
    pub mark: String,
    pub total: u64,
    pub free: u64,
}

/// A volume as it is found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Bytes of its content, container and all; none while it is not whole.
    pub bytes: Option<u64>,
    /// Whole snapshots and their bytes.
    pub snapshots: BTreeMap<String, u64>,
    /// Snapshots that were begun, and will be begun anew or are to be removed.
    pub drafts: BTreeSet<String>,
    pub notes: Notes,
}

/// What a pool remembers of a volume beside its content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notes {
    /// The newest generation it was opened with.
    pub fence: u64,
    /// The number of the newest restore that was done.
    pub restored: u64,
}
