//! The kernel's interfaces, wrapped as narrowly as this crate needs them. Nothing here decides anything.

mod addresses;
pub mod conntrack;
mod fdb;
mod links;
pub mod packet;
mod routes;
pub mod sysctl;
pub mod tap;

pub use fdb::FdbEntry;
pub use links::{Link, Links, VethEnd, Vxlan};
pub use routes::KernelRoute;
