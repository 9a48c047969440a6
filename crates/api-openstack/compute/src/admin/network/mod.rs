//! What compute once answered about networks, up to version 2.35: security groups and their rules, floating IPs, networks.
//!
//! Everything is done with the network service's verbs and documents; only the words are compute's.

mod floating_ips;
mod networks;
mod rules;
pub(crate) mod security_groups;

use http::StatusCode;
use unkai_network::Refusal;
use unkai_openstack::Routes;

use crate::Fault;

pub fn routes() -> Routes {
    Routes::new().merge(security_groups::routes()).merge(rules::routes()).merge(floating_ips::routes()).merge(networks::routes())
}

/// What the network service calls a conflict (the same rule again, a group in use) is a bad request in compute's words.
fn refused(refusal: Refusal) -> Fault {
    match refusal.status {
        StatusCode::CONFLICT if refusal.kind == "OverQuota" => Fault::forbidden(refusal.message),
        StatusCode::CONFLICT => Fault::bad_request(refusal.message),
        status => Fault::new(status, refusal.message),
    }
}
