//! What compute passed on to the network service until 2.35: networks, floating IPs, security groups. The documents are the network
//! service's own; only the old forms are here.

mod floating;
mod groups;
mod networks;
mod rules;

use unkai_openstack::Routes;

use super::cx::Cx;
use crate::Fault;
use crate::schema::is_uuid;

pub use floating::{add as add_floating_ip, remove as remove_floating_ip};
pub use groups::body as group_body;

pub fn routes() -> Routes {
    Routes::new()
        .get("/v2.1/os-networks", networks::index)
        .get("/v2.1/os-networks/{id}", networks::show)
        .get("/v2.1/os-tenant-networks", networks::tenant_index)
        .get("/v2.1/os-tenant-networks/{id}", networks::tenant_show)
        .get("/v2.1/os-floating-ip-pools", floating::pools)
        .get("/v2.1/os-floating-ips", floating::index)
        .post("/v2.1/os-floating-ips", floating::create)
        .get("/v2.1/os-floating-ips/{id}", floating::show)
        .delete("/v2.1/os-floating-ips/{id}", floating::delete)
        .get("/v2.1/os-security-groups", groups::index)
        .post("/v2.1/os-security-groups", groups::create)
        .get("/v2.1/os-security-groups/{id}", groups::show)
        .put("/v2.1/os-security-groups/{id}", groups::update)
        .delete("/v2.1/os-security-groups/{id}", groups::delete)
        .post("/v2.1/os-security-group-rules", rules::create)
        .delete("/v2.1/os-security-group-rules/{id}", rules::delete)
}

/// These resources are gone from 2.36 on.
fn still_there(cx: &Cx) -> Result<(), Fault> {
    cx.version.require(..=35)
}

/// A project that may change what is its own.
fn writer(cx: &Cx, rule: &str) -> Result<unkai_model::Id<unkai_model::identity::Project>, Fault> {
    let project = cx.caller.require_project()?.clone();
    if cx.caller.may_write(Some(&project)) { Ok(project) } else { Err(Fault::policy(rule)) }
}

fn uuid(what: &str, id: &str) -> Result<(), Fault> {
    if is_uuid(id) { Ok(()) } else { Err(Fault::bad_request(format!("{what} id should be uuid"))) }
}
