//! A project that a shared image is shared with.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::format::named;

/// Written by the image's owner (that it is there) and by the member project (its status).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Member {
    pub status: MemberStatus,
    pub created: Timestamp,
    pub updated: Timestamp,
}

named! {
    /// What the member project made of the offer. Only accepted images are in its lists.
    MemberStatus { Pending = "pending", Accepted = "accepted", Rejected = "rejected" }
}

impl Member {
    pub fn new(now: Timestamp) -> Self {
        Member { status: MemberStatus::Pending, created: now, updated: now }
    }
}
