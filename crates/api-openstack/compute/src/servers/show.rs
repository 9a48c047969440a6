//! One server.

use axum::Json;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::cx::Cx;
use super::perform::look;
use super::renderer::Renderer;
use super::view::{Body, Extent};
use crate::Fault;

/// `{"server": ...}`.
#[derive(Serialize)]
pub struct One<'a> {
    pub server: Body<'a>,
}

pub async fn show(cx: Cx, Path(id): Path<String>) -> Result<Response, Fault> {
    let (view, server, _) = look(&cx, &id).await?;
    let renderer = Renderer::new(&cx, &view);
    Ok(Json(One { server: renderer.body(&server, Extent::Full) }).into_response())
}
