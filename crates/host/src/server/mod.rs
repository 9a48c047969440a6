//! The worker of a server: converges one virtual machine on its item.
//!
//! [`plan`] names the next step, purely; [`act`] carries it out; the worker alternates until nothing is left to do, then reports. Killed
//! between any two steps, the next agent finds the machine as it is and plans from there.

mod act;
mod define;
mod disks;
mod moving;
mod plan;
mod report;

pub use act::{Servers, chain};
pub use disks::storage;
pub use plan::arrives;
