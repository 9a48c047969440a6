//! Following the store. A notification only wakes; the view is the truth.

use tokio::sync::watch::Receiver;

use crate::view::{Changes, View};
use crate::{Revision, Store};

/// A reader's place in the order of revisions.
pub struct Watch {
    store: Store,
    seen: Revision,
    wake: Receiver<Revision>,
}

impl Watch {
    pub(crate) fn new(store: Store, wake: Receiver<Revision>) -> Self {
        let seen = store.view().revision();
        Watch { store, seen, wake }
    }

    /// Everything from the beginning: the first [`Watch::next`] answers at once with what there is, or with "too old".
    pub fn from(mut self, revision: Revision) -> Self {
        self.seen = revision;
        self
    }

    /// Waits until something changed after what this watch has shown, then shows the newest view and what changed on the way.
    /// None when the store has stopped. Cancel safe.
    pub async fn next(&mut self) -> Option<(View, Changes)> {
        loop {
            self.wake.borrow_and_update();
            let view = self.store.view();
            // Not "greater": a shared engine that was restored from a backup goes back, and that is news too.
            if view.revision() != self.seen {
                let changes = view.changes_since(self.seen);
                self.seen = view.revision();
                return Some((view, changes));
            }
            self.wake.changed().await.ok()?;
        }
    }
}
