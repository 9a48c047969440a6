//! The receipt of a failover: one server that was started elsewhere because its host was lost, and when what happened.
//!
//! Written by control: opened when it decides (or cannot), closed by the report that the server runs again. It goes with the server; one
//! that is still open when the server is deleted goes at once.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Host, Server};
use crate::{Derived, Id, Kind, Meta};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failover {
    /// The id is [`Failover::id`]; the name is the server's.
    pub meta: Meta<Failover>,
    pub server: Id<Server>,
    pub from: Id<Host>,
    /// None while no host can take it.
    #[serde(default)]
    pub to: Option<Id<Host>>,
    /// The host was silent for too long.
    pub detected: Timestamp,
    /// Nothing of it could run there any more.
    pub fenced: Timestamp,
    #[serde(default)]
    pub decided: Option<Timestamp>,
    /// Its new host reported it running.
    #[serde(default)]
    pub booted: Option<Timestamp>,
    /// Why no host can take it.
    #[serde(default)]
    pub reason: Option<String>,
}

impl Failover {
    /// One for each server and fence of a host.
    pub fn id(server: &Id<Server>, from: &Id<Host>, fence: u64) -> Id<Failover> {
        Id::new(format!("{server}/{from}/{fence}"))
    }

    pub fn is_open(&self) -> bool {
        self.booted.is_none()
    }
}

impl Kind for Failover {
    const NAME: &'static str = "failover";
    crate::meta_accessors!();

    /// Indexes: `server`; `open` by server until it runs again.
    fn derive(&self, d: &mut Derived) {
        d.index("server", &self.server);
        if self.is_open() {
            d.index("open", &self.server);
        }
    }
}
