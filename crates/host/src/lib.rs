//! The agent: makes a machine match what is assigned to it.
//!
//! What is wanted arrives over the link as items, is kept in the ledger (so that a restarted agent knows it before any controller answers),
//! and is handed to one worker per item. Workers converge with the drivers, are safe to run again from any step, and report. The agent
//! owns nothing that dies with it: QEMU processes, namespaces and taps outlive it and are adopted.

mod agent;
mod desired;
mod dial;
mod full;
mod images;
mod inventory;
mod lease;
mod ledger;
mod member;
mod metadata;
mod network;
mod prefetch;
mod server;
mod snapshot;
mod tunnel;
mod unmanaged;
mod volume;
mod worker;

pub use agent::{Agent, AgentConfig, External, host_id, stop_everything};
pub use dial::{Dial, Membership, connect};
pub use inventory::machine_name;
pub use lease::guard;
pub use member::Member;
