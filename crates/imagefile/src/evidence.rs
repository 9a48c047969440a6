//! The bounded part of a file that judging needs: its head, its tail, and for VHDX one region in the middle.
//!
//! The same evidence comes from a stream in chunks of any size and from a file that is read at places, so both give
//! the same report.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::formats::vhdx;

/// Enough for the VHDX region tables (which end at 320 KiB) and for everything else that is kept near the start.
pub(crate) const HEAD: usize = 384 << 10;
/// Enough for the VMDK footer marker, footer and end-of-stream marker.
pub(crate) const TAIL: usize = 2048;
/// The VHDX metadata table and the items that are usually right behind it.
pub(crate) const REGION: usize = 128 << 10;

#[derive(Debug, Default)]
pub(crate) struct Evidence {
    pub head: Vec<u8>,
    tail: Vec<u8>,
    /// Where the VHDX metadata region starts, once the head has said so.
    region_at: Option<u64>,
    pub region: Vec<u8>,
    pub seen: u64,
}

impl Evidence {
    pub fn push(&mut self, chunk: &[u8]) {
        let start = self.seen;
        self.seen += chunk.len() as u64;
        self.push_head(chunk);
        self.push_tail(chunk);
        self.push_region(start, chunk);
    }

    fn push_head(&mut self, chunk: &[u8]) {
        let wanted = (HEAD - self.head.len()).min(chunk.len());
        if wanted == 0 {
            return;
        }
        self.head.extend_from_slice(&chunk[..wanted]);
        if self.head.len() == HEAD {
            self.region_at = vhdx::metadata_region(&self.head);
        }
    }

    fn push_tail(&mut self, chunk: &[u8]) {
        let chunk = &chunk[chunk.len().saturating_sub(TAIL)..];
        let surplus = (self.tail.len() + chunk.len()).saturating_sub(TAIL);
        self.tail.drain(..surplus);
        self.tail.extend_from_slice(chunk);
    }

    fn push_region(&mut self, start: u64, chunk: &[u8]) {
        let Some(from) = self.region_at else { return };
        let next = from + self.region.len() as u64;
        let Some(skip) = next.checked_sub(start).and_then(|skip| usize::try_from(skip).ok()) else {
            return;
        };
        let Some(rest) = chunk.get(skip..) else {
            return;
        };
        let wanted = (REGION - self.region.len()).min(rest.len());
        self.region.extend_from_slice(&rest[..wanted]);
    }

    /// `len` bytes that begin `back` bytes before the end.
    pub fn before_end(&self, back: usize, len: usize) -> Option<&[u8]> {
        let at = self.tail.len().checked_sub(back)?;
        crate::bytes::slice(&self.tail, at, len)
    }

    /// Reads the evidence from an open file at its places, without reading the rest.
    pub fn read(file: &File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        let mut evidence = Self { seen: len, ..Self::default() };
        evidence.head = read_at(file, 0, HEAD)?;
        evidence.tail = read_at(file, len.saturating_sub(TAIL as u64), TAIL)?;
        if evidence.head.len() == HEAD {
            evidence.region_at = vhdx::metadata_region(&evidence.head);
        }
        if let Some(from) = evidence.region_at {
            evidence.region = read_at(file, from, REGION)?;
        }
        Ok(evidence)
    }
}

fn read_at(file: &File, at: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let mut filled = 0;
    while filled < len {
        match file.read_at(&mut bytes[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_head_and_the_tail_whatever_the_chunks() {
        let bytes: Vec<u8> = (0..HEAD + 5000).map(|index| (index % 251) as u8).collect();
        for size in [1, 7, 511, 2048, 4096, bytes.len()] {
            let mut evidence = Evidence::default();
            bytes.chunks(size).for_each(|chunk| evidence.push(chunk));
            assert_eq!(evidence.head, bytes[..HEAD]);
            assert_eq!(evidence.tail, &bytes[bytes.len() - TAIL..]);
            assert_eq!(evidence.seen, bytes.len() as u64);
        }
    }

    #[test]
    fn the_end_of_a_short_file_is_missing_not_wrong() {
        let mut evidence = Evidence::default();
        evidence.push(&[1; 100]);
        assert_eq!(evidence.before_end(512, 512), None);
        assert_eq!(evidence.before_end(10, 4), Some(&[1u8; 4][..]));
    }
}
