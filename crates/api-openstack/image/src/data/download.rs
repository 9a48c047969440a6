//! `GET /v2/images/{id}/file`.

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use unkai_model::Id;
use unkai_model::image::{Image, ImageState};
use unkai_openstack::{Caller, Cloud};

use super::range;
use crate::access;
use crate::bytes::{FileStream, Images};
use crate::error::{ApiError, Result};

const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");

pub async fn download(
    caller: Caller,
    State(cloud): State<Cloud>,
    Extension(images): Extension<Images>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response> {
    let view = cloud.store.read().await?;
    let image = view.get::<Image>(&Id::new(id.as_str())).ok_or_else(|| ApiError::no_image(&id))?;
    access::see(&caller, &image)?;
    if image.status.state == ImageState::Deactivated && !caller.is_admin() {
        return Err(ApiError::forbidden("The requested image has been deactivated. Image data download is forbidden."));
    }
    access::download(&caller, &image)?;
    let Some(content) = image.status.content.clone() else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let part = range::wanted(&headers, content.size)?;
    let (start, end) = part.unwrap_or((0, content.size));
    let wanted = content.clone();
    let opened = tokio::task::spawn_blocking(move || images.open_content(&wanted)).await;
    let (file, length) = opened.map_err(|e| unkai_model::Error::caused(format!("opening image {id}"), e))??;
    if length != content.size {
        let text = format!("the file of image {id} has {length} bytes, not {}", content.size);
        return Err(unkai_model::Error::internal(text).into());
    }
    let mut response = Response::new(Body::from_stream(FileStream::new(file, start, end).into_stream()));
    let set = response.headers_mut();
    set.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    set.insert(CONTENT_LENGTH, HeaderValue::from(end - start));
    set.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    set.extend(HeaderValue::from_str(&content.md5).ok().map(|md5| (CONTENT_MD5, md5)));
    if part.is_some() {
        let range = format!("bytes {start}-{}/{}", end - 1, content.size);
        set.extend(HeaderValue::from_str(&range).ok().map(|range| (CONTENT_RANGE, range)));
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}
