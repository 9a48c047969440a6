//! What can be done with networks, inside a transaction of whoever does it.
//!
//! The handlers of this dialect, the compute dialect and control call these with their own [`Tx`]: nothing here goes through HTTP,
//! reads a token or waits. Either everything a verb did is committed with its transaction, or nothing is.
//!
//! [`Tx`]: unkai_store::Tx

mod access;
mod addresses;
mod allocate;
mod dhcp;
mod floating_ip;
mod limits;
mod network;
mod port;
mod port_update;
mod rbac;
mod router;
mod router_gateway;
mod security_group;
mod subnet;
mod subnet_pool;
mod topology;

pub use access::{candidate_networks, is_external_for, is_shared_with, may_see_group, may_see_network, may_see_pool};
pub use addresses::{PortAddresses, port_addresses, server_addresses};
pub use dhcp::refresh as refresh_dhcp;
pub use floating_ip::{FloatingRequest, TargetWish, associate, create_floating_ip, delete_floating_ip, dissociate};
pub use limits::{LIMITS, Limit, hold as hold_limit, limit_of};
pub use network::{NetworkRequest, SegmentWish, change_segment, create_network, delete_network, set_external, set_shared};
pub use port::{AddressWish, PortRequest, create_port, delete_port, delete_ports_of};
pub use port_update::{PortChange, update_port};
pub use rbac::{RbacRequest, create_rbac_policy, delete_all_of as delete_policies_of, delete_rbac_policy};
pub use router::{
    Interface, InterfaceWish, RouterRequest, add_interface, create_router, delete_router, interfaces, remove_interface, set_routes,
};
pub use router_gateway::{GatewayWish, set_gateway};
pub use security_group::{
    RuleRequest, create_rule, create_security_group, default_security_group, delete_rule, delete_security_group, find_security_group,
};
pub use subnet::{SubnetChange, SubnetRequest, create_subnet, delete_subnet, update_subnet};
pub use subnet_pool::{PoolRequest, allocate_prefix, check_pool};
pub use topology::{auto_allocated_topology, check_topology, delete_topology};

#[cfg(test)]
mod tests;
