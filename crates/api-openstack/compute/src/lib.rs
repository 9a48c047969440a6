//! The compute dialect: Nova's API, version 2.1 with microversions.
//!
//! A handler parses (strictly: [`schema`]), authorises, runs one store transaction and renders for the microversion of the
//! request. What is wanted of a server is written to its `spec`; placing it and making it so is the work of others. What Nova
//! calls status, task state and vm state is never stored: it is derived from a server's document.
//!
//! When the controller dies half way, a transaction either happened or not; there is nothing here to repair.

pub mod admin;
mod body;
mod error;
mod microversion;
mod query;
mod schema;
pub mod servers;

use axum::middleware;
use unkai_openstack::{Cloud, Routes};

pub use admin::bootstrap;
pub use error::Fault;
pub use microversion::{MAXIMUM, MINIMUM, Microversion};

/// The consoles, without their prefix: a page, and the websocket that it opens.
pub fn console_routes(_: &Cloud) -> Routes {
    servers::console_routes()
}

/// All routes of the dialect, without the service's prefix.
pub fn routes(cloud: &Cloud) -> Routes {
    servers::routes(cloud)
        .merge(admin::routes(cloud))
        .fallback(error::no_such_resource)
        .map(|router| router.method_not_allowed_fallback(error::no_such_method).layer(middleware::from_fn(microversion::negotiate)))
        .of_service("compute")
}
