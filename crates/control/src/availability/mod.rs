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
//!
//! Room for all this is kept beforehand ([`reserve`]) and lent meanwhile ([`preempt`]).

pub mod failover;
pub mod fence;
pub mod preempt;
pub mod reserve;
pub mod survive;

use unkai_model::Error;
use unkai_model::settings::{AvailabilitySettings, Domain, Settings};
use unkai_store::{Tx, View};

use crate::settings;

/// The cloud's settings, or the defaults.
pub fn settings(view: &View) -> AvailabilitySettings {
    view.get(&Settings::the_id()).map(|settings| settings.availability.clone()).unwrap_or_default()
}

/// What is to be changed.
#[derive(Debug, Clone, Default)]
pub struct Change {
    pub silence_ms: Option<u64>,
    pub lease_ms: Option<u64>,
    /// Inner none: no room is kept.
    pub reserve: Option<Option<Domain>>,
    pub strict: Option<bool>,
}

/// Changes what is given; answers all. Agents learn of a new lease with the next one they are granted.
pub fn set(tx: &mut Tx, change: &Change) -> Result<AvailabilitySettings, Error> {
    let now = tx.now();
    let changed = settings::change(tx, |settings| {
        let availability = &mut settings.availability;
        availability.set(change.silence_ms, change.lease_ms, now).map_err(Error::invalid)?;
        availability.reserve = change.reserve.unwrap_or(availability.reserve);
        availability.strict = change.strict.unwrap_or(availability.strict);
        Ok(())
    })?;
    Ok(changed.availability)
}
