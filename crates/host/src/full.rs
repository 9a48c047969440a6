//! Full disks: known before they are where that is possible, and told apart from other failures, because they pass.

use std::error::Error;
use std::io;
use std::path::Path;

/// Left free for the ledgers and for guests that write: what the agent fetches must not take it.
const RESERVE: u64 = 16 << 20;

/// An error of the kind that a full disk makes, unless `bytes` more fit where `dir` is.
pub fn require_room(dir: &Path, bytes: u64) -> io::Result<()> {
    let stat = nix::sys::statvfs::statvfs(dir)?;
    judge(dir, bytes, stat.blocks_available() as u64 * stat.fragment_size() as u64)
}

fn judge(dir: &Path, bytes: u64, free: u64) -> io::Result<()> {
    if bytes.saturating_add(RESERVE) <= free {
        return Ok(());
    }
    let text = format!("no room for {bytes} bytes in `{}`: {free} are free, {RESERVE} of which stay so", dir.display());
    Err(io::Error::new(io::ErrorKind::StorageFull, text))
}

/// Whether a full disk is the cause, somewhere in the chain; other programs only say so in words.
pub fn is_full(error: &(dyn Error + 'static)) -> bool {
    let by_kind = |e: &io::Error| matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let mut next = Some(error);
    while let Some(error) = next {
        let by_pool = matches!(error.downcast_ref(), Some(unkai_driver_volume::Error::Full(_)));
        if by_pool || error.downcast_ref::<io::Error>().is_some_and(by_kind) || error.to_string().contains("No space left on device") {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests;
