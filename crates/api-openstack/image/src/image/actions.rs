//! `POST /v2/images/{id}/actions/{deactivate,reactivate}`.

use axum::extract::{Path, State};
use http::StatusCode;
use unkai_model::Id;
use unkai_model::image::{Image, ImageState};
use unkai_openstack::{Caller, Cloud};

use crate::access;
use crate::error::{ApiError, Result};

pub async fn deactivate(caller: Caller, State(cloud): State<Cloud>, Path(id): Path<String>) -> Result<StatusCode> {
    go(caller, cloud, id, ImageState::Deactivated, "deactivate").await
}

pub async fn reactivate(caller: Caller, State(cloud): State<Cloud>, Path(id): Path<String>) -> Result<StatusCode> {
    go(caller, cloud, id, ImageState::Active, "reactivate").await
}

/// Asking for the state it is in is fine.
async fn go(caller: Caller, cloud: Cloud, id: String, to: ImageState, action: &'static str) -> Result<StatusCode> {
    let apply = move |tx: &mut unkai_store::Tx| {
        let id = Id::<Image>::new(id.as_str());
        let image = tx.get(&id).ok_or_else(|| ApiError::no_image(&id))?;
        access::change(&caller, &image, action)?;
        match image.status.state {
            state if state == to => Ok(()),
            ImageState::Active | ImageState::Deactivated => tx.update(&id, |image| image.go(to).map_err(ApiError::from)).map(drop),
            state => Err(ApiError::forbidden(format!("Not allowed to {action} image in status '{state}'"))),
        }
    };
    cloud.store.transact(apply).await?;
    Ok(StatusCode::NO_CONTENT)
}
