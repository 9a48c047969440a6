//! `qemu-img info` of an accepted image: a second opinion, held against the inspection.

use std::fs::File;

use serde_json::Value;

use super::Cage;
use super::error::CageError;
use super::run::Run;
use crate::Accepted;

/// What `qemu-img` says about an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Info {
    pub virtual_size: u64,
    pub cluster_size: Option<u64>,
    pub encrypted: bool,
    /// All it printed.
    pub raw: Value,
}

impl Cage {
    /// Asks `qemu-img` about an image. Its answer must agree with the inspection.
    pub async fn info(&self, image: &Accepted, source: File) -> Result<Info, CageError> {
        let run = Run { cage: self, image, source, output: None, file_size: 0 };
        let limit = self.info_output;
        let mut printed = Vec::new();
        let mut listener = |bytes: &[u8]| {
            if printed.len() + bytes.len() > limit {
                return Err(CageError::OutputTooLarge { limit });
            }
            printed.extend_from_slice(bytes);
            Ok(())
        };
        run.go(|image: String| ["info", "--output=json", &image].map(Into::into).into(), &mut listener).await?;
        read(image, &printed)
    }
}

fn read(image: &Accepted, printed: &[u8]) -> Result<Info, CageError> {
    let unreadable = |detail: String| CageError::Unreadable { detail };
    let raw: Value = serde_json::from_slice(printed).map_err(|error| unreadable(error.to_string()))?;
    let virtual_size = raw["virtual-size"].as_u64().ok_or_else(|| unreadable("no virtual-size".into()))?;
    let format = raw["format"].as_str().unwrap_or_default();
    let driver = super::driver(image.format());
    agree("the format", driver == format, driver, format)?;
    let inspected = image.virtual_size();
    let near = virtual_size <= crate::bytes::whole_sectors(inspected);
    agree("the virtual size", near, &inspected.to_string(), &virtual_size.to_string())?;
    let backing = raw["backing-filename"].as_str();
    agree("the backing file", backing.is_none(), "none", backing.unwrap_or_default())?;
    Ok(Info { virtual_size, cluster_size: raw["cluster-size"].as_u64(), encrypted: raw["encrypted"].as_bool().unwrap_or(false), raw })
}

fn agree(what: &'static str, same: bool, inspected: &str, found: &str) -> Result<(), CageError> {
    if same {
        return Ok(());
    }
    let found = crate::bytes::printable(found.as_bytes(), 256);
    Err(CageError::Disagreement { what, inspected: inspected.to_owned(), found })
}
