//! The block storage dialect: Cinder's API, version 3 with microversions, and the verbs of volumes.
//!
//! A handler parses strictly, authorises, runs one store transaction of [`verbs`] and renders for the microversion of the request. What is
//! wanted of a volume is written to its `spec`; choosing a pool and making it so is the work of others.

mod actions;
mod admin;
mod attachments;
mod backups;
mod connection;
mod cx;
mod page;
mod quotas;
mod snapshots;
mod transfers;
mod types;
pub mod verbs;
mod versions;
mod volumes;
mod zones;

#[cfg(test)]
mod tests;

use axum::middleware;
use unkai_openstack::web::{Dialect, Microversion, no_such_method, no_such_resource};
use unkai_openstack::{Cloud, Routes};

pub static DIALECT: Dialect = Dialect {
    service: "volume",
    major: 3,
    minimum: Microversion(0),
    maximum: Microversion(70),
    older: None,
    request_id: "x-compute-request-id",
};

/// All routes of the dialect, without the service's prefix. A project in the path must be that of the token.
pub fn routes(_: &Cloud) -> Routes {
    Routes::new()
        .merge(versions::routes())
        .nest("/v3/{project_id}", resources())
        .nest("/v3", resources())
        .fallback(no_such_resource)
        .map(|router| {
            let negotiate = |request, next| DIALECT.negotiate(request, next);
            router.method_not_allowed_fallback(no_such_method).layer(middleware::from_fn(negotiate))
        })
        .of_service("block-storage")
}

fn resources() -> Routes {
    Routes::new()
        .merge(volumes::routes())
        .merge(actions::routes())
        .merge(snapshots::routes())
        .merge(types::routes())
        .merge(zones::routes())
        .merge(quotas::routes())
        .merge(backups::routes())
        .merge(transfers::routes())
        .merge(attachments::routes())
        .merge(admin::routes())
}
