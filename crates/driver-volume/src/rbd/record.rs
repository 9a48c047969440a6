//! What is written down of a volume: an object beside its images, replaced as a whole.

use serde::{Deserialize, Serialize};

use super::cli::Cluster;
use crate::error::{Error, Result};
use crate::spec::Notes;

/// Names of images are never used twice, so nobody who was told an old one finds something else under it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    #[serde(flatten)]
    pub notes: Notes,
    /// Of the next image.
    next: u64,
    /// The image that the volume is; none while it is not whole.
    pub data: Option<String>,
    /// The image that is being made.
    pub draft: Option<String>,
    /// What the volume was before it was put back: images whose snapshots are still wanted.
    pub former: Vec<String>,
    /// A newer generation has come: `data` gets this name, and who has it open is shut out.
    pub renaming: Option<String>,
    /// Who writes a draft is shut out too.
    pub cutting: bool,
    /// A snapshot of another volume that only exists while this one is made: `IMAGE@SNAPSHOT`.
    pub borrowed: Option<String>,
}

impl Record {
    /// A name for one more image of the volume.
    pub fn name(&mut self, volume: &str) -> String {
        self.next += 1;
        format!("{volume}.{}", self.next)
    }

    pub fn images(&self) -> impl Iterator<Item = &String> {
        self.data.iter().chain(&self.renaming).chain(&self.draft).chain(&self.former)
    }
}

pub fn object(volume: &str) -> String {
    format!("unkai.{volume}")
}

/// None: there is no trace of the volume. An empty object is only a place for a lock.
pub fn read(cluster: &Cluster, volume: &str) -> Result<Option<Record>> {
    let Some(bytes) = cluster.get(&object(volume))?.filter(|bytes| !bytes.is_empty()) else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|e| Error::Damaged(format!("the record of volume {volume}"), e.to_string()))
}

pub fn write(cluster: &Cluster, volume: &str, record: &Record) -> Result<()> {
    let bytes = serde_json::to_vec(record).map_err(|e| Error::Invalid(e.to_string()))?;
    cluster.put(&object(volume), &bytes)
}
