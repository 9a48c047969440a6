//! Servers that move between hosts: what this host does of it.
//!
//! The destination ([`arrive`]) listens; the source ([`leave`]) comes and describes the machine; the destination makes one like it, whose
//! processors stand still; the source sends disks and memory, writes down that it has let go of the guest, and says so; the destination
//! writes down that the guest is its own, and starts it.
//!
//! What is written down decides, whoever dies: a source that has let go takes the guest back only when it is told that the move is over
//! without success, or by the destination that it gave up; a destination that has given up never starts it, and one that has not heard that the
//! source let go does not either. [`plan`] is what follows from the notes. Pure.

mod arrive;
pub mod channel;
mod connections;
mod files;
mod leave;
pub mod plan;
mod portrait;

pub use arrive::Arriving;
