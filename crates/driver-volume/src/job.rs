//! A piece of work that takes long: how far it is, and whether it is still wanted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};

use crate::error::{Error, Result};

/// Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Job {
    stopped: Arc<AtomicBool>,
    percent: Arc<AtomicU8>,
}

impl Job {
    /// Whoever works on it leaves it as it is.
    pub fn stop(&self) {
        self.stopped.store(true, Relaxed);
    }

    pub fn percent(&self) -> u8 {
        self.percent.load(Relaxed)
    }

    pub(crate) fn reached(&self, done: u64, of: u64) {
        let percent = if of == 0 { 100 } else { u128::from(done) * 100 / u128::from(of) };
        self.percent.store(percent.min(100) as u8, Relaxed);
    }

    pub(crate) fn go_on(&self) -> Result<()> {
        if self.stopped.load(Relaxed) { Err(Error::Stopped) } else { Ok(()) }
    }
}
