//! A move of a server between two hosts, as they are told of it and as they speak of it.
//!
//! The destination listens and says where; the source comes with what the controller told it. Both prove their hosts by certificates.
//! The destination starts the guest only when the source has let go of it: said on their connection, or by the controller (`released`).

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
pub use unkai_model::compute::{Method, MigrationProgress};

use crate::item::HostId;

/// The part of a server's item that says that it moves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MigrationItem {
    pub id: String,
    /// It is to be given up, unless it is too late.
    #[serde(default)]
    pub abort: bool,
    pub role: Role,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It comes here.
    Arrive {
        from: Partner,
        /// The source has let go of it.
        released: bool,
        /// It is off: its disks come as files.
        #[serde(default)]
        cold: bool,
    },
    /// It leaves.
    Leave {
        to: Partner,
        address: SocketAddr,
        token: String,
        method: Method,
        /// The guest is to stand still so that it comes to an end.
        finish: bool,
    },
    /// It has left, and may come back: its disks stay, and nothing of it runs.
    Keep,
}

/// A host by what its certificate says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partner {
    pub host: HostId,
    pub enrolment: u64,
}

/// How far a host is with its part of a move.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MigrationReport {
    pub migration: String,
    pub stage: Stage,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The destination waits for the source.
    Listening { port: u16, token: String },
    /// The destination will not start it, ever, in this move.
    GaveUp(String),
    /// It is the destination's: it runs there, or stands still as it did before.
    Arrived,
    /// The source is at it.
    Moving(MigrationProgress),
    /// The source has let go of it, for good unless it is told that the destination gave up.
    HandedOver(MigrationProgress),
    /// The source keeps it.
    Failed(String),
}
