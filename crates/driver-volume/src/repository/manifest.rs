//! The manifest of a backup: a line of JSON, a line for each piece that is not all zeros, and a line that says that all above is whole.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Kept;
use crate::error::{Error, Result};

pub const PIECE: u64 = 1 << 20;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub version: u32,
    pub backup: String,
    pub chain: String,
    pub parent: Option<String>,
    /// Of the content.
    pub bytes: u64,
    /// Bytes of a piece.
    pub piece: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    pub header: Header,
    /// By number; digests in hexadecimal.
    pub pieces: BTreeMap<u64, String>,
    pub stored: u64,
}

impl Manifest {
    pub fn kept(&self) -> Kept {
        Kept { stored: self.stored, objects: self.pieces.len() as u64 }
    }

    pub fn render(&self) -> Result<String> {
        let mut text = serde_json::to_string(&self.header).map_err(|e| Error::Invalid(e.to_string()))?;
        text.push('\n');
        for (number, digest) in &self.pieces {
            let _ = writeln!(text, "{number} {digest}");
        }
        let _ = writeln!(text, "stored {}", self.stored);
        let whole = hex::encode(Sha256::digest(text.as_bytes()));
        let _ = writeln!(text, "whole {whole}");
        Ok(text)
    }

    pub fn read(path: &Path) -> Result<Manifest> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        parse(&text).ok_or_else(|| Error::Damaged(format!("backup manifest `{}`", path.display()), "it is not what was written".into()))
    }
}

fn parse(text: &str) -> Option<Manifest> {
    let (rest, whole) = text.strip_suffix('\n')?.rsplit_once("\nwhole ")?;
    let rest = format!("{rest}\n");
    if hex::encode(Sha256::digest(rest.as_bytes())) != whole {
        return None;
    }
    let (rest, stored) = rest.strip_suffix('\n')?.rsplit_once("\nstored ")?;
    let mut lines = rest.lines();
    let header: Header = serde_json::from_str(lines.next()?).ok()?;
    if header.version != 1 || header.piece != PIECE {
        return None;
    }
    let piece = |line: &str| {
        let (number, digest) = line.split_once(' ')?;
        let number = number.parse().ok().filter(|number| *number < header.bytes.div_ceil(PIECE))?;
        let plain = digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        plain.then(|| (number, digest.to_owned()))
    };
    let pieces = lines.map(piece).collect::<Option<_>>()?;
    Some(Manifest { header, pieces, stored: stored.parse().ok()? })
}
