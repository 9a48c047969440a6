//! Servers and the hosts that run them.

mod aggregate;
mod console_token;
mod failover;
mod flavor;
mod host;
mod host_token;
mod keypair;
mod migration;
mod server;
mod server_action;
mod server_group;

pub use aggregate::{Aggregate, DEFAULT_ZONE, RACK_KEY, ZONE_KEY};
pub use console_token::{ConsoleKind, ConsoleToken};
pub use failover::Failover;
pub use flavor::Flavor;
pub use host::{Admission, Capacity, Fence, FencedBy, Host, HostStatus, Reachability, Unmanaged};
pub use host_token::HostToken;
pub use keypair::{KeyPair, KeyType};
pub use migration::{Charge, DestinationWish, Endpoint, Growth, Method, Migration, MigrationKind, MigrationProgress, MigrationState};
pub use server::{
    Asked, Availability, BootDisk, Fault, FlavorCopy, LENT_MEMORY_MB, LENT_VCPU, Launch, Lock, Observed, Phase, PlacementWish, Preempted,
    Rescue, Reset, Resize, ResizeState, Run, SPARED_MEMORY_MB, Server, ServerSpec, ServerStatus, StopReason, Timeline, Verb, VmState,
};
pub use server_action::{ActionEvent, Outcome, ServerAction};
pub use server_group::{GroupPolicy, ServerGroup};
