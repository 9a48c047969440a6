//! Servers and the hosts that run them.

mod host;
mod server;

pub use host::{Capacity, Host, HostStatus, Reachability};
pub use server::{
    Availability, BootDisk, Fault, FlavorCopy, Launch, Lock, Observed, Phase, PlacementWish, Rescue, Resize, ResizeState, Run, Server,
    ServerSpec, ServerStatus, StopReason, Timeline,
};
