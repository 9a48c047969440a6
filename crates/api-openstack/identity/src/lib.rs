//! Keystone v3: who may ask, with which roles, and where the services are.
//!
//! All state is documents of `unkai_model::identity`; this crate alone writes them. Tokens are not state: each carries what it says,
//! sealed under keys that are documents too, and is judged against the present documents at every use, so that disabling a user or
//! taking a role away works at once. [`Identity`] does the judging for all dialects; [`routes`] is the API; [`bootstrap`] makes the
//! first administrator. Out of scope: trusts, federation, OAuth, unified limits; their paths do not exist here.

mod api;
mod bootstrap;
mod cascade;
mod catalog;
mod identity;
mod passwords;
mod render;
mod tokens;
mod web;

use std::sync::Arc;

use axum::Extension;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, Uri};
use unkai_openstack::{Cloud, Routes};

pub use bootstrap::{BootstrapOptions, Bootstrapped, bootstrap, bootstrap_at};
pub use identity::{Identity, Settings};
pub use passwords::Cost;

/// The routes of identity, without the prefix. `Routes::nest("/identity", ...)` them.
pub fn routes(cloud: &Cloud) -> Routes {
    routes_with(Arc::new(Identity::new(&cloud.store)))
}

/// The same with a service that others use too, so that they share what it remembers of tokens.
pub fn routes_with(identity: Arc<Identity>) -> Routes {
    api::routes()
        .fallback(not_found)
        .map(|router| router.method_not_allowed_fallback(not_allowed).layer(Extension(identity)))
        .of_service("identity")
}

async fn not_found(uri: Uri) -> Response {
    web::Refusal::new(StatusCode::NOT_FOUND, format!("({}): The resource could not be found.", uri.path())).into_response()
}

async fn not_allowed() -> Response {
    web::Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "The method is not allowed for the requested URL.").into_response()
}

/// Where identity answers, without a slash at the end.
pub(crate) fn base(cloud: &Cloud) -> String {
    format!("{}/identity", cloud.url)
}
