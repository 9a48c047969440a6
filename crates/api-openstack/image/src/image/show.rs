//! `GET /v2/images/{id}`.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use unkai_model::Id;
use unkai_model::image::Image;
use unkai_openstack::{Caller, Cloud};

use super::view::ImageView;
use crate::access;
use crate::error::{ApiError, Result};

pub async fn show(caller: Caller, State(cloud): State<Cloud>, Path(id): Path<String>) -> Result<Response> {
    let view = cloud.store.read().await?;
    let image = view.get::<Image>(&Id::new(id.as_str())).ok_or_else(|| ApiError::no_image(&id))?;
    access::see(&caller, &image)?;
    Ok(Json(ImageView(&image)).into_response())
}
