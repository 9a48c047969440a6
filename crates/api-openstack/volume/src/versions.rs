//! The version documents, for anybody.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};
use unkai_openstack::{Cloud, Routes};

use crate::DIALECT;

pub fn routes() -> Routes {
    Routes::new().public_get("/", choices).public_get("/v3", current).public_get("/v3/", current)
}

fn version(cloud: &Cloud) -> Value {
    json!({
        "id": "v3.0",
        "status": "CURRENT",
        "version": DIALECT.text(DIALECT.maximum),
        "min_version": DIALECT.text(DIALECT.minimum),
        "updated": "2023-08-31T00:00:00Z",
        "links": [
            { "rel": "describedby", "type": "text/html", "href": "https://docs.openstack.org/" },
            { "rel": "self", "href": format!("{}/volume/v3/", cloud.url) },
        ],
        "media-types": [{ "base": "application/json", "type": "application/vnd.openstack.volume+json;version=3" }],
    })
}

async fn choices(State(cloud): State<Cloud>) -> Response {
    (StatusCode::MULTIPLE_CHOICES, Json(json!({ "versions": [version(&cloud)] }))).into_response()
}

async fn current(State(cloud): State<Cloud>) -> Json<Value> {
    Json(json!({ "versions": [version(&cloud)] }))
}
