//! What surrounds servers: flavors, key pairs, aggregates, zones, hypervisors, services, quotas, groups, version documents.

use unkai_openstack::{Cloud, Routes};

pub fn routes(_: &Cloud) -> Routes {
    Routes::new()
}
