//! `DELETE /v2/images/{id}`. The document goes first, then its files; a crash between leaves files that the next start removes.

use axum::Extension;
use axum::extract::{Path, State};
use http::StatusCode;
use unkai_model::Id;
use unkai_model::image::Image;
use unkai_openstack::{Caller, Cloud};

use crate::access;
use crate::bytes::Images;
use crate::error::{ApiError, Result};

pub async fn delete(
    caller: Caller,
    State(cloud): State<Cloud>,
    Extension(images): Extension<Images>,
    Path(id): Path<String>,
) -> Result<StatusCode> {
    let remove = move |tx: &mut unkai_store::Tx| {
        let id = Id::<Image>::new(id.as_str());
        let image = tx.get(&id).ok_or_else(|| ApiError::not_found(format!("Failed to find image {id} to delete")))?;
        access::change(&caller, &image, "delete_image")?;
        if image.spec.protected {
            return Err(ApiError::forbidden(format!("Image {id} is protected and cannot be deleted.")));
        }
        Ok(tx.delete(&id)?)
    };
    let image = cloud.store.transact(remove).await?;
    // Detached: the document is gone, so the files have to go even if the caller does.
    tokio::task::spawn_blocking(move || images.discard(&image));
    Ok(StatusCode::NO_CONTENT)
}
