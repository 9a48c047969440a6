//! `PUT /v2/images/{id}/file` and `PUT /v2/images/{id}/stage`.
//!
//! The image is `saving` (or `uploading`) while its bytes arrive. Whatever ends the request early queues it again.

use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::Path;
use futures_util::StreamExt;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use unkai_model::Id;
use unkai_model::image::{Image, ImageState};
use unkai_openstack::Caller;
use unkai_store::Tx;

use crate::bytes::{BytesError, Images, Receiving};
use crate::error::{ApiError, Result};
use crate::{access, quota};

/// A sender that is silent for this long is gone.
const SILENCE: Duration = Duration::from_secs(300);
/// How much of a refused body is read, so that small senders see the answer instead of a broken connection.
const DRAIN: usize = 4 << 20;

pub async fn file(
    caller: Caller,
    Extension(images): Extension<Images>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode> {
    upload(caller, images, id, headers, body, ImageState::Saving).await
}

pub async fn stage(
    caller: Caller,
    Extension(images): Extension<Images>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode> {
    upload(caller, images, id, headers, body, ImageState::Uploading).await
}

async fn upload(caller: Caller, images: Images, id: String, headers: HeaderMap, body: Body, state: ImageState) -> Result<StatusCode> {
    match begin(caller, &images, &id, &headers, state).await {
        Ok(receiving) => receive(receiving, body, &id).await,
        Err(refusal) => {
            drain(body).await;
            Err(refusal)
        }
    }
}

async fn begin(caller: Caller, images: &Images, id: &str, headers: &HeaderMap, state: ImageState) -> Result<Receiving> {
    check_content_type(headers)?;
    let length = announced(headers)?;
    let wanted = Id::<Image>::new(id);
    let allow = move |tx: &mut Tx, image: &Image| -> Result<()> { allow(tx, &caller, image, state) };
    let mut receiving = images.receive(&wanted, state, allow).await?;
    if let Some(length) = length {
        receiving.announce(length).await?;
    }
    Ok(receiving)
}

fn allow(tx: &mut Tx, caller: &Caller, image: &Image, state: ImageState) -> Result<()> {
    let rule = if state == ImageState::Saving { "upload_image" } else { "modify_image" };
    access::change(caller, image, rule)?;
    let known = image.status.state;
    if !known.leads_to(state) {
        return Err(ApiError::conflict(format!("Image status transition from {known} to {state} is not allowed")));
    }
    if state == ImageState::Saving {
        require_formats(image)?;
    }
    Ok(quota::limit_bytes(tx, image.meta.project.as_ref())?)
}

pub fn require_formats(image: &Image) -> Result<()> {
    match (image.spec.disk_format, image.spec.container_format) {
        (None, None) => Err(ApiError::bad_request("Properties disk_format, container_format must be set prior to saving data.")),
        (None, _) => Err(ApiError::bad_request("Property disk_format must be set prior to saving data.")),
        (_, None) => Err(ApiError::bad_request("Property container_format must be set prior to saving data.")),
        _ => Ok(()),
    }
}

async fn receive(mut receiving: Receiving, body: Body, id: &str) -> Result<StatusCode> {
    let mut chunks = body.into_data_stream();
    loop {
        let broken = match tokio::time::timeout(SILENCE, chunks.next()).await {
            Ok(Some(Ok(chunk))) => {
                receiving.write(chunk).await?;
                continue;
            }
            Ok(None) => break,
            Ok(Some(Err(e))) => BytesError::Broken(e.to_string()),
            Err(_) => BytesError::Broken(format!("nothing arrived for {} seconds", SILENCE.as_secs())),
        };
        return Err(receiving.fail(broken).await.into());
    }
    match receiving.finish().await {
        Ok(_) => Ok(StatusCode::NO_CONTENT),
        // It was there when the upload began.
        Err(BytesError::Store(unkai_model::Error::NotFound { .. } | unkai_model::Error::Conflict(_))) => Err(ApiError::gone(format!(
            "Image {id} could not be found after upload. The image may have been deleted during the upload, cleaning up the chunks uploaded."
        ))),
        Err(error) => Err(error.into()),
    }
}

fn check_content_type(headers: &HeaderMap) -> Result<()> {
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    if given.split(';').next().is_some_and(|one| one.trim() == "application/octet-stream") {
        return Ok(());
    }
    Err(ApiError::unsupported(format!("The request media type {given:?} is not supported by this server. Invalid content type {given}")))
}

/// The length that the sender says the data has.
fn announced(headers: &HeaderMap) -> Result<Option<u64>> {
    let header = headers.get("x-openstack-image-size").or_else(|| headers.get(CONTENT_LENGTH));
    let parse = |value: &http::HeaderValue| {
        let length = value.to_str().ok().and_then(|text| text.trim().parse().ok());
        length.ok_or_else(|| ApiError::bad_request("Invalid or missing image size in request headers."))
    };
    header.map(parse).transpose()
}

async fn drain(body: Body) {
    let mut chunks = body.into_data_stream();
    let mut seen = 0;
    while let Ok(Some(Ok(chunk))) = tokio::time::timeout(Duration::from_secs(2), chunks.next()).await {
        seen += chunk.len();
        if seen > DRAIN {
            return;
        }
    }
}
