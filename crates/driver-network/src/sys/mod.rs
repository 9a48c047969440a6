//! The kernel's interfaces, wrapped as narrowly as this crate needs them. Nothing here decides anything.

mod addresses;
pub mod conntrack;
mod fdb;
mod links;
mod neighbours;
pub mod packet;
mod routes;
pub mod sysctl;
pub mod tap;

pub use fdb::FdbEntry;
pub use links::{Link, Links, PortFlags, VethEnd, Vxlan};
pub use neighbours::Neighbour;
pub use routes::KernelRoute;
