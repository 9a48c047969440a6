//! The compute dialect: Nova's API, version 2.1 with microversions.
//!
//! A handler parses (strictly: [`unkai_openstack::web::schema`]), authorises, runs one store transaction and renders for the microversion of the
//! request. What is wanted of a server is written to its `spec`; placing it and making it so is the work of others. What Nova
//! calls status, task state and vm state is never stored: it is derived from a server's document.
//!
//! When the controller dies half way, a transaction either happened or not; there is nothing here to repair.

pub mod admin;
pub mod servers;

use axum::middleware;
use unkai_openstack::web::{Dialect, no_such_method, no_such_resource};
pub(crate) use unkai_openstack::web::{body, query, schema};
use unkai_openstack::{Cloud, Routes};

pub use admin::bootstrap;
pub use unkai_openstack::web::{Fault, Microversion};

pub static DIALECT: Dialect = Dialect {
    service: "compute",
    major: 2,
    minimum: Microversion(1),
    maximum: Microversion(100),
    older: Some(("x-openstack-nova-api-version", "X-OpenStack-Nova-API-Version")),
    request_id: "x-compute-request-id",
};

/// The consoles, without their prefix: a page, and the websocket that it opens.
pub fn console_routes(_: &Cloud) -> Routes {
    servers::console_routes()
}

/// All routes of the dialect, without the service's prefix.
pub fn routes(cloud: &Cloud) -> Routes {
    servers::routes(cloud)
        .merge(admin::routes(cloud))
        .fallback(no_such_resource)
        .map(|router| {
            let negotiate = |request, next| DIALECT.negotiate(request, next);
            router.method_not_allowed_fallback(no_such_method).layer(middleware::from_fn(negotiate))
        })
        .of_service("compute")
}
