//! The versions of this API, for anybody.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde_json::{Value, json};
use unkai_openstack::Cloud;

/// Those of a Glance with one store, no image cache and no locations.
const NEWEST: &str = "2.15";
const OLDER: [&str; 9] = ["2.9", "2.7", "2.6", "2.5", "2.4", "2.3", "2.2", "2.1", "2.0"];

/// `/` asks the client to choose.
pub async fn choices(State(cloud): State<Cloud>) -> Response {
    answer(StatusCode::MULTIPLE_CHOICES, &cloud)
}

/// `/versions` was asked for the list itself.
pub async fn versions(State(cloud): State<Cloud>) -> Response {
    answer(StatusCode::OK, &cloud)
}

fn answer(status: StatusCode, cloud: &Cloud) -> Response {
    let href = format!("{}/image/v2/", cloud.url);
    let version = |number: &str, status: &str| -> Value {
        json!({ "id": format!("v{number}"), "status": status, "links": [{ "rel": "self", "href": href }] })
    };
    let older = OLDER.iter().map(|number| version(number, "SUPPORTED"));
    let versions: Vec<Value> = std::iter::once(version(NEWEST, "CURRENT")).chain(older).collect();
    (status, [(header::CONTENT_TYPE, "application/json")], json!({ "versions": versions }).to_string()).into_response()
}
