//! The data plane of tenant networks on one host.
//!
//! # What it is for
//! Given plain specs ([`spec`]) of networks, ports, security groups and routers, make this machine carry them: by
//! netlink and nftables, without asking anybody else anything. It knows no store and no controller.
//!
//! # What it makes
//! ```text
//!  data-plane namespace            network's namespace uk-n-…               router's namespace uk-r-…
//!  ┌───────────────────┐          ┌──────────────────────────────┐         ┌───────────────────────┐
//!  │ underlay (VXLAN)◄─┼──────────┼─vx0─┐                        │         │  forwarding, NAT,     │
//!  │                   │          │    br0 (DHCP, DNS, metadata, │         │  advertisements       │
//!  │ uk-ext-PHYSICAL   │          │     │   advertisements)      │         │                       │
//!  │  └─ukg… ◄─────────┼───┐      │     ├─t-…  guests            │  veth   │                       │
//!  └───────────────────┘   │      │     └─r-… ◄──────────────────┼─────────┼─q-…                   │
//!                          │      └──────────────────────────────┘         │                       │
//!                          └───────────────────────────────────────────────┼─gw0                   │
//!                                                                          └───────────────────────┘
//! ```
//! Tenants may use the same addresses, because nothing is shared between namespaces: not routes, not tracked
//! connections, not firewall tables.
//!
//! # What happens when it dies
//! Nothing: the kernel goes on. DHCP, DNS, metadata and advertisements pause until a driver runs again. A new driver
//! is told everything anew and converges; what is right already is not interrupted. [`Driver::inventory`] tells what
//! exists, so that what nobody wants any more can be removed.
//!
//! # What is not here
//! Deciding what should exist, DHCPv6, and learning: addresses of other hosts' ports come with the specs.

mod driver;
mod error;
mod external;
mod flows;
mod group;
mod inventory;
mod mac;
mod names;
mod netns;
mod network;
mod nft;
mod policy;
mod port;
mod router;
mod service;
pub mod spec;
mod sweep;
mod sys;
mod translation;
mod wire;

pub use driver::{Config, Driver};
pub use error::{Error, Result};
pub use flows::TrackedFlow;
pub use inventory::{Found, FoundNetwork};
pub use mac::Mac;
pub use port::PortCounters;
pub use service::{MetadataConnection, Services, Share};
pub use spec::{
    AddressPair, Attach, DhcpOpt, Direction, DnsSpec, Ethertype, ExternalSpec, FixedIp, FloatingIp, GroupSpec, Ipv6Mode, NetworkSpec, Peer,
    PortSpec, Route, RouterGateway, RouterInterface, RouterSpec, Rule, ServiceSpec, SubnetSpec,
};

#[cfg(test)]
#[path = "../../../tests/corpus/format.rs"]
mod corpus;
