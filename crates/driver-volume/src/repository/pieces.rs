//! A content in pieces, written and read as a disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use unkai_crashpoint::point;

use super::manifest::{Manifest, PIECE};
use crate::error::{Error, Result};
use crate::files::make_dir;
use crate::nbd::Disk;

fn path_of(dir: &Path, digest: &str) -> PathBuf {
    dir.join(&digest[..2]).join(digest)
}

fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Parts of the pieces that a range covers: number of the piece, range in it, range in what was asked for.
fn parts(at: u64, length: u64) -> impl Iterator<Item = (u64, std::ops::Range<usize>, std::ops::Range<usize>)> {
    let end = at + length;
    (at / PIECE..end.div_ceil(PIECE)).map(move |number| {
        let (from, to) = (at.max(number * PIECE), end.min((number + 1) * PIECE));
        let here = (from - number * PIECE) as usize..(to - number * PIECE) as usize;
        (number, here, (from - at) as usize..(to - at) as usize)
    })
}

/// A backup being read. Every piece is checked.
pub struct Reader {
    dir: PathBuf,
    backup: String,
    manifest: Manifest,
    /// The piece read last.
    present: Option<(u64, Vec<u8>)>,
}

impl Reader {
    pub fn new(dir: PathBuf, backup: String, manifest: Manifest) -> Self {
        Reader { dir, backup, manifest, present: None }
    }

    pub fn bytes(&self) -> u64 {
        self.manifest.header.bytes
    }

    fn piece(&mut self, number: u64) -> Result<Option<&[u8]>> {
        let Some(expected) = self.manifest.pieces.get(&number) else { return Ok(None) };
        if self.present.as_ref().is_none_or(|(present, _)| *present != number) {
            let bytes = load(&self.dir, expected).map_err(|why| Error::Damaged(format!("backup {}", self.backup), why))?;
            self.present = Some((number, bytes));
        }
        Ok(self.present.as_ref().map(|(_, bytes)| bytes.as_slice()))
    }
}

/// A piece that is what its name says.
fn load(dir: &Path, expected: &str) -> std::result::Result<Vec<u8>, String> {
    let path = path_of(dir, expected);
    let bytes = fs::read(&path).map_err(|e| format!("piece `{}`: {e}", path.display()))?;
    if bytes.len() as u64 != PIECE || digest(&bytes) != expected {
        return Err(format!("piece `{}` is not what was written", path.display()));
    }
    Ok(bytes)
}

impl Disk for Reader {
    fn read(&mut self, at: u64, buffer: &mut [u8]) -> Result<()> {
        for (number, here, there) in parts(at, buffer.len() as u64) {
            match self.piece(number)? {
                Some(piece) => buffer[there].copy_from_slice(&piece[here]),
                None => buffer[there].fill(0),
            }
        }
        Ok(())
    }

    fn write(&mut self, _: u64, _: &[u8]) -> Result<()> {
        Err(Error::Invalid("a backup is not written again".into()))
    }

    fn zero(&mut self, _: u64, _: u64) -> Result<()> {
        Err(Error::Invalid("a backup is not written again".into()))
    }
}

/// What a writer has written.
pub struct Written {
    pub pieces: BTreeMap<u64, String>,
    pub stored: u64,
}

/// A backup being written, in whatever order; most come one after the other. The last piece is filled up with zeros.
pub struct Writer<'a> {
    dir: PathBuf,
    bytes: u64,
    /// Pieces that other backups of the chain are made of.
    known: &'a BTreeSet<String>,
    done: Written,
    present: Option<(u64, Vec<u8>)>,
}

impl<'a> Writer<'a> {
    pub fn new(dir: PathBuf, bytes: u64, known: &'a BTreeSet<String>) -> Self {
        Writer { dir, bytes, known, done: Written { pieces: BTreeMap::new(), stored: 0 }, present: None }
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn finish(mut self) -> Result<Written> {
        self.put_down()?;
        Ok(self.done)
    }

    fn take_up(&mut self, number: u64) -> Result<&mut Vec<u8>> {
        if self.present.as_ref().is_none_or(|(present, _)| *present != number) {
            self.put_down()?;
            let bytes = match self.done.pieces.get(&number) {
                Some(digest) => load(&self.dir, digest).map_err(|why| Error::Damaged("a backup being made".into(), why))?,
                None => vec![0; PIECE as usize],
            };
            self.present = Some((number, bytes));
        }
        Ok(&mut self.present.as_mut().expect("just put there").1)
    }

    fn put_down(&mut self) -> Result<()> {
        let Some((number, bytes)) = self.present.take() else { return Ok(()) };
        if bytes.iter().all(|byte| *byte == 0) {
            self.done.pieces.remove(&number);
            return Ok(());
        }
        let digest = digest(&bytes);
        let ours = self.done.pieces.values().any(|known| *known == digest);
        if !self.known.contains(&digest) && !ours {
            self.store(&digest, &bytes)?;
        }
        self.done.pieces.insert(number, digest);
        Ok(())
    }

    fn store(&mut self, digest: &str, bytes: &[u8]) -> Result<()> {
        let path = path_of(&self.dir, digest);
        make_dir(path.parent().unwrap_or(&self.dir))?;
        let new = path.with_extension("new");
        let written = fs::write(&new, bytes).and_then(|()| fs::rename(&new, &path));
        if written.is_err() {
            let _ = fs::remove_file(&new);
        }
        written.map_err(Error::io("write", &path))?;
        point("volume: a piece of a backup is written");
        self.done.stored += bytes.len() as u64;
        Ok(())
    }
}

impl Disk for Writer<'_> {
    fn read(&mut self, at: u64, buffer: &mut [u8]) -> Result<()> {
        for (number, here, there) in parts(at, buffer.len() as u64) {
            let piece = self.take_up(number)?;
            buffer[there].copy_from_slice(&piece[here]);
        }
        Ok(())
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        for (number, here, there) in parts(at, bytes.len() as u64) {
            self.take_up(number)?[here].copy_from_slice(&bytes[there]);
        }
        Ok(())
    }

    fn zero(&mut self, at: u64, length: u64) -> Result<()> {
        for (number, here, _) in parts(at, length) {
            // What nobody wrote is zero.
            if self.done.pieces.contains_key(&number) || self.present.as_ref().is_some_and(|(present, _)| *present == number) {
                self.take_up(number)?[here].fill(0);
            }
        }
        Ok(())
    }
}
