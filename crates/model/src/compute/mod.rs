//! Servers and the hosts that run them.

mod aggregate;
mod flavor;
mod host;
mod keypair;
mod server;
mod server_group;

pub use aggregate::{Aggregate, DEFAULT_ZONE, ZONE_KEY};
pub use flavor::Flavor;
pub use host::{Capacity, Host, HostStatus, Reachability};
pub use keypair::{KeyPair, KeyType};
pub use server::{
    Availability, BootDisk, Fault, FlavorCopy, Launch, Lock, Observed, Phase, PlacementWish, Rescue, Resize, ResizeState, Run, Server,
    ServerSpec, ServerStatus, StopReason, Timeline,
};
pub use server_group::{GroupPolicy, ServerGroup};
