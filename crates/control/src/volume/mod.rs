//! Block storage: which pool a volume goes to, which host works on it, what hosts are told of volumes and what their words mean.
//!
//! ```text
//! pools        a volume without a pool gets one, or a fault that says why not
//! carriers     all work on a volume is done by one host at a time
//! items        volumes, backups and uses as hosts are told of them
//! reports      what carriers say about volumes, and hosts about pools
//! attachments  what a server's placement, settling and end mean for its volumes
//! operate      what operators do with pools
//! ```
//! A pool outlives every host's view of it, so nothing here waits for an answer: a carrier that is lost is replaced, and what it had begun
//! is begun again by the next one, which the fencing generation lets write and the old one not.

pub mod attachments;
pub mod carriers;
pub(crate) mod items;
pub mod operate;
pub mod pools;
pub mod reports;
mod sources;

use unkai_model::Error;
use unkai_store::{Tx, View};

/// Work that waits in a view; all of it is looked at again by [`act`].
pub fn is_due(view: &View) -> bool {
    !pools::waiting(view).is_empty() || carriers::is_due(view) || sources::is_due(view) || !attachments::due(view).is_empty()
}

pub fn act(tx: &mut Tx) -> Result<(), Error> {
    let volumes = pools::waiting(&tx.view());
    pools::place(tx, &volumes)?;
    attachments::act(tx)?;
    carriers::act(tx)?;
    sources::give_up(tx)
}
