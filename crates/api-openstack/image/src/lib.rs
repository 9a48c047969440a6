//! Images: the Glance v2 dialect, and the files behind it.
//!
//! [`routes`] speaks HTTP; [`bytes::Images`] is the way to the bytes for everyone, the link server included. The documents are kinds of
//! the model; this crate owns the files in the controller's `images` directory. Before serving, a controller calls
//! [`bytes::Images::recover`] (of [`images`]), which ends what its predecessor left half done.
//!
//! Not here: conversion (the hosts do it) and several stores (the API answers as a Glance with one store does).

mod access;
pub mod bytes;
mod data;
mod error;
mod image;
mod import;
mod info;
mod json;
mod members;
mod metadefs;
mod quota;
mod schemas;
mod settings;
mod versions;

use axum::Extension;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn;
use unkai_openstack::{Cloud, Routes};

pub use error::ApiError;
pub use settings::{Choices, Origin, Settings};

use bytes::Images;

/// The images of a cloud, with an operator's limits.
pub fn images(cloud: &Cloud, settings: &Settings) -> Images {
    Images::new(cloud.store.clone(), cloud.state_dir.join("images"), settings.limits.clone())
}

/// All routes, with the default settings.
pub fn routes(cloud: &Cloud) -> Routes {
    routes_with(cloud, Settings::default())
}

/// All routes.
pub fn routes_with(cloud: &Cloud, settings: Settings) -> Routes {
    let images = images(cloud, &settings);
    Routes::new()
        .public_get("/", versions::choices)
        .public_get("/versions", versions::versions)
        .public_get("/versions/", versions::versions)
        .merge(image_routes())
        .merge(member_routes())
        .merge(other_routes())
        .merge(metadefs::routes())
        .fallback(|| async { ApiError::not_found("The resource could not be found.") })
        .map(|router| {
            let router = router.method_not_allowed_fallback(|| async {
                ApiError::new(http::StatusCode::METHOD_NOT_ALLOWED, "The method is not allowed for this resource.")
            });
            let router = router.layer(Extension(images)).layer(Extension(settings));
            router.layer(DefaultBodyLimit::max(MAX_JSON)).layer(from_fn(error::render))
        })
        .of_service("image")
}

/// The longest body that is read as JSON; image data is a stream and has a limit of its own.
const MAX_JSON: usize = 1 << 20;

fn image_routes() -> Routes {
    Routes::new()
        .get("/v2/images", image::list::list)
        .post("/v2/images", image::create::create)
        .get("/v2/images/{id}", image::show::show)
        .patch("/v2/images/{id}", image::patch::patch)
        .delete("/v2/images/{id}", image::delete::delete)
        .put("/v2/images/{id}/tags/{tag}", image::tags::add)
        .delete("/v2/images/{id}/tags/{tag}", image::tags::remove)
        .post("/v2/images/{id}/actions/deactivate", image::actions::deactivate)
        .post("/v2/images/{id}/actions/reactivate", image::actions::reactivate)
        .get("/v2/images/{id}/file", data::download::download)
        .put("/v2/images/{id}/file", data::upload::file)
        .put("/v2/images/{id}/stage", data::upload::stage)
        .post("/v2/images/{id}/import", import::import)
        .get("/v2/images/{id}/tasks", import::tasks::of_image)
}

fn member_routes() -> Routes {
    Routes::new()
        .get("/v2/images/{id}/members", members::list)
        .post("/v2/images/{id}/members", members::create)
        .get("/v2/images/{id}/members/{member}", members::show)
        .put("/v2/images/{id}/members/{member}", members::update)
        .delete("/v2/images/{id}/members/{member}", members::delete)
}

fn other_routes() -> Routes {
    Routes::new()
        .get("/v2/tasks", import::tasks::list)
        .post("/v2/tasks", import::create_task::create)
        .get("/v2/tasks/{id}", import::tasks::show)
        .get("/v2/schemas/{name}", schemas::show)
        .get("/v2/schemas/metadefs/{name}", metadefs::schemas::show)
        .get("/v2/info/import", info::import)
        .get("/v2/info/stores", info::stores)
        .get("/v2/info/usage", info::usage)
}
