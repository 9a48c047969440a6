//! What operators of other clouds look at: services, hosts, pools and what they can, and what there is of the API.
//!
//! A pool is one place, whoever works on it: it is shown as one back end, `unkai@POOL#POOL`, and its service as `unkai@POOL`.

mod about;
mod hosts;
mod messages;
mod pools;
mod services;

use unkai_model::volume::Pool;
use unkai_openstack::Routes;

pub fn routes() -> Routes {
    Routes::new().merge(about::routes()).merge(hosts::routes()).merge(messages::routes()).merge(pools::routes()).merge(services::routes())
}

/// The cloud, where others name a machine.
pub const HOST: &str = "unkai";

/// `unkai@POOL`
pub fn backend(pool: &Pool) -> String {
    format!("{HOST}@{}", pool.meta.name)
}

/// `unkai@POOL#POOL`
pub fn full_name(pool: &Pool) -> String {
    format!("{}#{}", backend(pool), pool.meta.name)
}
