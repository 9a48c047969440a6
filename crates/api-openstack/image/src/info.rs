//! What this service offers: `/v2/info/...`.

use axum::extract::State;
use axum::{Extension, Json};
use serde_json::{Map, Value, json};
use unkai_openstack::{Caller, Cloud, quota_limit};

use crate::error::{ApiError, Result};
use crate::quota::{NONE, RESOURCES, SERVICE};
use crate::settings::Settings;

pub async fn import(_: Caller, Extension(settings): Extension<Settings>) -> Json<Value> {
    Json(json!({
        "import-methods": { "description": "Import methods available.", "type": "array", "value": settings.import_methods() },
    }))
}

/// There is one store, and it has no name.
pub async fn stores(_: Caller) -> ApiError {
    ApiError::not_found("Multi backend is not supported at this site.")
}

/// How much of its quotas the caller's project uses.
pub async fn usage(caller: Caller, State(cloud): State<Cloud>) -> Result<Json<Value>> {
    let project = caller.require_project()?;
    let view = cloud.store.read().await?;
    let usage = RESOURCES.into_iter().map(|resource| {
        let limit = quota_limit(&view, SERVICE, project, resource, NONE);
        (resource.to_owned(), json!({ "usage": view.tally(resource, project.as_str()), "limit": limit }))
    });
    Ok(Json(json!({ "usage": usage.collect::<Map<_, _>>() })))
}
