//! What happens when a host dies: highly available servers are started elsewhere, at most once at a time.
//!
//! An agent runs servers that need a lease ([`unkai_model::compute::Server::is_leased`]) only while it holds one. It asks with a number; the lease
//! lasts from the moment it asked, on its own clock. A controller grants ([`fence::grant`]) only after reading, from the shared store, that
//! the host is not fenced. So from the transaction that fences a host every lease it holds runs out within the longest that was ever
//! given, and whoever waits that long by his own clock, counted from when he saw the fence, may start its servers elsewhere. No two
//! clocks are compared, and a controller that slept through all of this finds the fence when it wakes.
//!
//! ```text
//!   heard ──silent──> fenced ──longest lease──> fenced, done ──> its servers are placed again, by priority
//!     ^                 │                          │
//!     └──asks for a lease: the fence goes──────────┘  (what was placed elsewhere is not its own any more)
//! ```
//!
//! A host that comes back starts nothing that needs a lease before it has heard, in that session, all that is assigned to it.

pub mod failover;
pub mod fence;
pub mod survive;

use unkai_model::Error;
use unkai_model::settings::{AvailabilitySettings, Settings};
use unkai_store::{Tx, View};

use crate::settings;

/// The cloud's settings, or the defaults.
pub fn settings(view: &View) -> AvailabilitySettings {
    view.get(&Settings::the_id()).map(|settings| settings.availability.clone()).unwrap_or_default()
}

/// Changes the times that are given; answers all of them. Agents learn of a new lease with the next one they are granted.
pub fn set(tx: &mut Tx, silence_ms: Option<u64>, lease_ms: Option<u64>) -> Result<AvailabilitySettings, Error> {
    let now = tx.now();
    let changed = settings::change(tx, |settings| settings.availability.set(silence_ms, lease_ms, now).map_err(Error::invalid))?;
    Ok(changed.availability)
}
