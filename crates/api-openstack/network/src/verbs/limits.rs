//! Quotas: what a project may have of each resource.

use unkai_model::Id;
use unkai_model::identity::Project;
use unkai_openstack::quota_limit;
use unkai_store::{Tx, View};

/// A resource with a quota: its name in the API, the tally that counts it, and the limit where nobody set one.
pub struct Limit {
    pub resource: &'static str,
    pub tally: &'static str,
    pub default: i64,
}

const fn limit(resource: &'static str, tally: &'static str, default: i64) -> Limit {
    Limit { resource, tally, default }
}

/// All of them, in the order in which they are shown.
pub const LIMITS: [Limit; 9] = [
    limit("network", "network", 100),
    limit("subnet", "subnet", 100),
    limit("subnetpool", "subnet_pool", -1),
    limit("port", "port", 500),
    limit("router", "router", 10),
    limit("floatingip", "floating_ip", 50),
    limit("rbac_policy", "rbac_policy", 10),
    limit("security_group", "security_group", 10),
    limit("security_group_rule", "security_group_rule", 100),
];

pub fn limit_of(view: &View, project: &Id<Project>, limit: &Limit) -> i64 {
    quota_limit(view, "network", project, limit.resource, limit.default)
}

/// The transaction fails when the project ends up with more of `resource` than it may have.
pub fn hold(tx: &mut Tx, resource: &'static str, project: Option<&Id<Project>>) {
    let (Some(project), Some(limit)) = (project, LIMITS.iter().find(|l| l.resource == resource)) else { return };
    let most = limit_of(&tx.view(), project, limit);
    tx.limit(limit.resource, limit.tally, project.as_str(), most);
}
