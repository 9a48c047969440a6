//! Which versions there are: one.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde_json::{Value, json};
use unkai_openstack::{Cloud, Routes};

use crate::web::{ok, reply};

pub fn routes() -> Routes {
    Routes::new().public_get("/", versions).public_get("/v3", version)
}

fn v3(cloud: &Cloud) -> Value {
    json!({
        "id": "v3.14",
        "status": "stable",
        "updated": "2020-04-07T00:00:00Z",
        "links": [{"rel": "self", "href": format!("{}/v3/", crate::base(cloud))}],
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}],
    })
}

async fn versions(State(cloud): State<Cloud>) -> Response {
    let body = json!({"versions": {"values": [v3(&cloud)]}});
    let location = [(header::LOCATION, format!("{}/v3/", crate::base(&cloud)))];
    (location, reply(StatusCode::MULTIPLE_CHOICES, &body)).into_response()
}

async fn version(State(cloud): State<Cloud>) -> Response {
    ok(&json!({"version": v3(&cloud)}))
}
