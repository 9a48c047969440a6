//! `PUT` and `DELETE /v2/images/{id}/tags/{tag}`.

use axum::extract::{Path, State};
use http::StatusCode;
use serde_json::json;
use unkai_model::Id;
use unkai_model::image::Image;
use unkai_openstack::{Caller, Cloud};

use super::fields;
use crate::access;
use crate::error::{ApiError, Result};

pub async fn add(caller: Caller, State(cloud): State<Cloud>, Path((id, tag)): Path<(String, String)>) -> Result<StatusCode> {
    fields::check_value("tags", &json!([tag]))?;
    change(caller, cloud, id, move |image| {
        image.spec.tags.insert(tag.clone());
        fields::check_counts(&image.spec)
    })
    .await
}

pub async fn remove(caller: Caller, State(cloud): State<Cloud>, Path((id, tag)): Path<(String, String)>) -> Result<StatusCode> {
    change(caller, cloud, id, move |image| match image.spec.tags.remove(&tag) {
        true => Ok(()),
        false => Err(ApiError::not_found("The resource could not be found.")),
    })
    .await
}

async fn change(
    caller: Caller,
    cloud: Cloud,
    id: String,
    change: impl Fn(&mut Image) -> Result<()> + Send + 'static,
) -> Result<StatusCode> {
    let apply = move |tx: &mut unkai_store::Tx| {
        let id = Id::<Image>::new(id.as_str());
        let image = tx.get(&id).ok_or_else(|| ApiError::not_found(format!("Image {id} not found.")))?;
        access::change(&caller, &image, "modify_image")?;
        tx.update(&id, &change).map(drop)
    };
    cloud.store.transact(apply).await?;
    Ok(StatusCode::NO_CONTENT)
}
