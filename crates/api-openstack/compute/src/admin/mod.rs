//! What surrounds servers: flavors, key pairs, aggregates, zones, hypervisors, services, quotas, groups, version documents.

mod flavors;
mod keypairs;
mod keys;
mod page;
mod policy;

#[cfg(test)]
mod tests;

use unkai_model::Error;
use unkai_openstack::{Cloud, Routes};
use unkai_store::Store;

pub fn routes(_: &Cloud) -> Routes {
    Routes::new().merge(flavors::routes()).merge(keypairs::routes())
}

/// Gives a new cloud what it starts with. Does nothing to a cloud that has flavors.
pub async fn bootstrap(store: &Store) -> Result<(), Error> {
    flavors::bootstrap(store).await
}
