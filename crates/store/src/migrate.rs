//! Copies a store from one engine to another, revisions and all, so that everything goes on as if nothing had happened.
//!
//! Offline: no controller may run on either. When it dies half way, the target holds documents but is still at revision 0; it
//! refuses to be opened as a store, and has to be removed before another attempt.

use unkai_model::Error;

use crate::Revision;
use crate::engine::{Batch, CommitError, Engine, News, StoredRow};

/// Documents per commit of the target.
const PORTION: usize = 1000;

/// What was copied.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Migrated {
    pub documents: usize,
    pub revision: Revision,
}

/// Copies everything in `from` to `to`, which must be empty.
pub fn migrate(from: &mut dyn Engine, to: &mut dyn Engine) -> Result<Migrated, Error> {
    let mut there = 0;
    let revision = to.load(&mut |_| {
        there += 1;
        Ok(())
    })?;
    if there > 0 || revision > 0 {
        return Err(Error::conflict(format!("the target is not empty: it holds {there} documents and is at revision {revision}")));
    }
    let (mut portion, mut documents) = (Vec::new(), 0);
    let revision = from.load(&mut |row| {
        portion.push(row);
        documents += 1;
        if portion.len() == PORTION { write(to, 0, std::mem::take(&mut portion)) } else { Ok(()) }
    })?;
    if revision == 0 && documents > 0 {
        return Err(Error::conflict("the source is an unfinished copy itself: it holds documents but is at revision 0"));
    }
    // The revision goes last, with the last documents: only then is the target a store.
    if revision > 0 {
        write(to, revision, portion)?;
    }
    Ok(Migrated { documents, revision })
}

fn write(to: &mut dyn Engine, revision: Revision, rows: Vec<StoredRow>) -> Result<(), Error> {
    match to.begin(0, true)? {
        News::Nothing => {}
        News::Since(_) | News::Reload => {
            to.abandon();
            return Err(Error::conflict("somebody else writes to the target"));
        }
    }
    match to.commit(&Batch { revision, rows }) {
        Ok(()) => Ok(()),
        Err(CommitError::Failed(e)) => Err(e),
        Err(CommitError::Unknown(e)) => Err(Error::caused("the outcome of the last step is unknown", e)),
    }
}
