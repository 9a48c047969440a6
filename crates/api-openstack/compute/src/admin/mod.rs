//! What surrounds servers: flavors, key pairs, groups, hosts in their several guises, quotas, version documents.

mod aggregates;
mod audit_log;
mod extensions;
mod external_events;
mod flavors;
mod gone;
mod hypervisors;
mod keypairs;
mod keys;
mod limits;
pub mod migrations;
pub(crate) mod network;
mod os_hosts;
mod page;
pub mod quotas;
mod server_groups;
mod services;
mod tenant_usage;
#[cfg(test)]
mod tests;
mod versions;
pub mod zones;

use unkai_model::Error;
pub(crate) use unkai_openstack::web::policy;
use unkai_openstack::{Cloud, Routes};
use unkai_store::Store;

pub fn routes(_: &Cloud) -> Routes {
    Routes::new()
        .merge(versions::routes())
        .merge(extensions::routes())
        .merge(flavors::routes())
        .merge(keypairs::routes())
        .merge(server_groups::routes())
        .merge(aggregates::routes())
        .merge(zones::routes())
        .merge(services::routes())
        .merge(hypervisors::routes())
        .merge(os_hosts::routes())
        .merge(quotas::routes())
        .merge(limits::routes())
        .merge(tenant_usage::routes())
        .merge(audit_log::routes())
        .merge(migrations::routes())
        .merge(network::routes())
        .merge(external_events::routes())
        .merge(gone::routes())
}

/// Gives a new cloud what it starts with. Does nothing to a cloud that has flavors.
pub async fn bootstrap(store: &Store) -> Result<(), Error> {
    flavors::bootstrap(store).await
}
