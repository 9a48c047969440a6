//! The version documents, for anybody: what there is at `/`, and what `/v2.1` is. Version 2.0 is listed because clients look for it
//! first; it has no routes of its own.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use unkai_openstack::{Cloud, Routes};

use crate::DIALECT;

pub fn routes() -> Routes {
    Routes::new()
        .public_get("/", list)
        .public_get("/v2", legacy)
        .public_get("/v2/", legacy)
        .public_get("/v2.1", current)
        .public_get("/v2.1/", current)
}

struct Version {
    id: &'static str,
    path: &'static str,
    status: &'static str,
    updated: &'static str,
    media_type: &'static str,
    has_microversions: bool,
}

const LEGACY: Version = Version {
    id: "v2.0",
    path: "v2",
    status: "SUPPORTED",
    updated: "2011-01-21T11:33:21Z",
    media_type: "application/vnd.openstack.compute+json;version=2",
    has_microversions: false,
};
const CURRENT: Version = Version {
    id: "v2.1",
    path: "v2.1",
    status: "CURRENT",
    updated: "2013-07-23T11:33:21Z",
    media_type: "application/vnd.openstack.compute+json;version=2.1",
    has_microversions: true,
};

impl Version {
    fn brief(&self, cloud: &Cloud) -> Value {
        let bound = |number: crate::Microversion| if self.has_microversions { DIALECT.text(number) } else { String::new() };
        json!({
            "id": self.id,
            "status": self.status,
            "version": bound(DIALECT.maximum),
            "min_version": bound(DIALECT.minimum),
            "updated": self.updated,
            "links": [{ "rel": "self", "href": format!("{}/compute/{}/", cloud.url, self.path) }],
        })
    }

    fn full(&self, cloud: &Cloud) -> Json<Value> {
        let mut shown = self.brief(cloud);
        let manual = json!({ "rel": "describedby", "type": "text/html", "href": "http://docs.openstack.org/" });
        shown["links"].as_array_mut().expect("links are a list").push(manual);
        shown["media-types"] = json!([{ "base": "application/json", "type": self.media_type }]);
        Json(json!({ "version": shown }))
    }
}

async fn list(State(cloud): State<Cloud>) -> Json<Value> {
    Json(json!({ "versions": [LEGACY.brief(&cloud), CURRENT.brief(&cloud)] }))
}

async fn legacy(State(cloud): State<Cloud>) -> Json<Value> {
    LEGACY.full(&cloud)
}

async fn current(State(cloud): State<Cloud>) -> Json<Value> {
    CURRENT.full(&cloud)
}
