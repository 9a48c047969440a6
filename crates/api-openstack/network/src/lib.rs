//! The network API, as Neutron v2.0 speaks it.
//!
//! ```text
//! verbs/         what can be done with networks, inside anybody's transaction (compute and control use them too)
//! resource       what all collections have in common: list, show, create, update, delete
//! networks ...   one file per collection: what it shows, what may be written, by whom
//! fields, query  reading bodies and queries;  object  writing answers;  refusal  saying no in Neutron's words
//! ```
//! Everything a request changes is one transaction: a port with its addresses, the DHCP port with the subnet it serves. When the
//! process dies half way, all of it happened or nothing.
//!
//! Not here: the data plane, which reads the documents; QoS, trunks, port forwarding, address groups and scopes, metering. Those
//! answer 404 and are not among the extensions, as in an original without them.

mod agents;
mod auto_topology;
mod extensions;
mod fields;
mod floating_ips;
mod ip_availability;
mod networks;
mod object;
mod port_bodies;
mod ports;
mod query;
mod quotas;
mod rbac_policies;
mod refusal;
mod resource;
mod routers;
mod security_group_rules;
mod security_groups;
mod subnet_pools;
mod subnets;
mod tags;
pub mod verbs;
mod versions;
mod zones;

use unkai_model::network::{FloatingIp, Network, Port, RbacPolicy, Router, SecurityGroup, SecurityGroupRule, Subnet, SubnetPool};
use unkai_openstack::{Caller, Cloud, Routes};

pub use refusal::Refusal;

/// All routes, without the service's prefix.
pub fn routes(_: &Cloud) -> Routes {
    versions::routes()
        .merge(extensions::routes())
        .merge(resource::crud::<Network>())
        .merge(resource::crud::<Subnet>())
        .merge(resource::crud::<Port>())
        .merge(resource::crud::<Router>())
        .merge(resource::crud::<FloatingIp>())
        .merge(resource::crud::<SecurityGroup>())
        .merge(resource::crud::<SecurityGroupRule>())
        .merge(resource::crud::<RbacPolicy>())
        .merge(resource::crud::<SubnetPool>())
        .merge(routers::routes())
        .merge(tags::routes())
        .merge(quotas::routes())
        .merge(agents::routes())
        .merge(zones::routes())
        .merge(ip_availability::routes())
        .merge(auto_topology::routes())
        .fallback(nothing)
        .of_service("network")
}

/// What is not there, told only to those with a token.
async fn nothing(_: Caller) -> Refusal {
    Refusal::no_resource()
}
