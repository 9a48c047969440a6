//! A token that opens one console of one server for a while. Only its hash is kept.
//!
//! Made by the API when a console is asked for; expired ones are removed when the next one is made.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Server;
use crate::{Derived, Id, Kind, Meta};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConsoleToken {
    /// The id is the SHA-256 of the token, in hex.
    pub meta: Meta<ConsoleToken>,
    pub server: Id<Server>,
    pub console: ConsoleKind,
    pub expires: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConsoleKind {
    Vnc,
    Serial,
}

impl Kind for ConsoleToken {
    const NAME: &'static str = "console_token";
    const NOUN: &'static str = "console token";
    crate::meta_accessors!();

    /// Index: `server`.
    fn derive(&self, d: &mut Derived) {
        d.index("server", &self.server);
    }
}
