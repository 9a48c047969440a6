//! Following the store. A notification only wakes; the view is the truth.

use crate::view::{Changes, View};
use crate::{Revision, Store};

/// A reader's place in the order of revisions.
pub struct Watch {
    store: Store,
    seen: Revision,
}

impl Watch {
    pub(crate) fn new(store: Store) -> Self {
        let seen = store.view().revision();
        Watch { store, seen }
    }

    /// Everything from the beginning: the first [`Watch::next`] answers at once with what there is, or with "too old".
    pub fn from(mut self, revision: Revision) -> Self {
        self.seen = revision;
        self
    }

    /// Waits until something changed after what this watch has shown, then shows the newest view and what changed on the way.
    /// None when the store has stopped. Cancel safe.
    pub async fn next(&mut self) -> Option<(View, Changes)> {
        let (shared, seen) = (&self.store.shared, self.seen);
        // Not "greater": a shared engine that was restored from a backup goes back, and that is news too.
        let newer = || Some(View::new(shared.view.load_full())).filter(|view| view.revision() != seen);
        let view = shared.bell.until(newer).await?;
        self.seen = view.revision();
        let changes = view.changes_since(seen);
        Some((view, changes))
    }
}
