//! A token with which a machine becomes a host: short-lived, good for a few enrolments. Only its hash is kept.
//!
//! Made by an operator; spent by the enrolment itself, in the transaction that admits the host; expired ones go when the next is made.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Host;
use crate::{Id, Kind, Meta};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostToken {
    /// The id is the SHA-256 of the secret, in hex.
    pub meta: Meta<HostToken>,
    pub expires: Timestamp,
    /// How many more machines it admits.
    pub uses: u32,
    /// Only to admit this host again, whose earlier certificates are then void.
    #[serde(default)]
    pub host: Option<Id<Host>>,
}

impl Kind for HostToken {
    const NAME: &'static str = "host_token";
    const NOUN: &'static str = "host token";
    crate::meta_accessors!();
}
