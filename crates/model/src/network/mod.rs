//! Networks and what joins them: the nouns of the network API, and what its rules say about them without looking anything up.
//!
//! ```text
//! Network <── Subnet <── FixedIp of Port ──> SecurityGroup <── SecurityGroupRule
//!    ^                        ^   ^
//!    └── RbacPolicy    Router ┘   └── FloatingIp
//! ```
//! Arrows are references: the pointed-at document cannot go while the other one names it. Fields beside `status` are what is
//! wanted and are written by the APIs; `status` is written from the agents' reports and by control.

pub mod address;
mod auto_topology;
mod floating_ip;
mod mac;
#[allow(clippy::module_inception)]
mod network;
mod port;
mod rbac;
mod router;
mod security_group;
mod security_group_rule;
mod standard;
mod subnet;
mod subnet_pool;

pub use auto_topology::AutoAllocatedTopology;
pub use floating_ip::{FloatingIp, FloatingTarget};
pub use mac::{BadMac, MacAddr};
pub use network::{Network, Segment, VNI_FIRST, VNI_LAST};
pub use port::{AddressPair, DhcpOption, FixedIp, Port, PortStatus, owner};
pub use rbac::{RbacAction, RbacObject, RbacPolicy, RbacTarget};
pub use router::{Router, RouterGateway, RouterStatus};
pub use security_group::SecurityGroup;
pub use security_group_rule::{Direction, EtherType, Protocol, SecurityGroupRule};
pub use standard::Standard;
pub use subnet::{Ipv6Mode, Pool, Route, Subnet, default_pools};
pub use subnet_pool::SubnetPool;
