//! `/` and `/v2.0`: which versions there are, and which resources the version has.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};
use unkai_openstack::{Caller, Cloud, Routes};

use crate::Refusal;
use crate::resource::answer;

/// Singular and plural of what `/v2.0` lists.
const RESOURCES: [(&str, &str); 12] = [
    ("extension", "extensions"),
    ("network", "networks"),
    ("subnet", "subnets"),
    ("subnetpool", "subnetpools"),
    ("port", "ports"),
    ("router", "routers"),
    ("floatingip", "floatingips"),
    ("security_group", "security-groups"),
    ("security_group_rule", "security-group-rules"),
    ("rbac_policy", "rbac-policies"),
    ("quota", "quotas"),
    ("agent", "agents"),
];

pub fn routes() -> Routes {
    Routes::new()
        .public_get("/", versions)
        .public_get("/v2.0", resources)
        .public_get("/v2.0/", resources)
        .get("/v2.0/service-providers", service_providers)
}

async fn versions(State(cloud): State<Cloud>) -> Response {
    let href = format!("{}/network/v2.0/", cloud.url);
    let version = json!({"id": "v2.0", "status": "CURRENT", "links": [{"rel": "self", "href": href}]});
    answer(StatusCode::OK, &json!({"versions": [version]}))
}

async fn resources(State(cloud): State<Cloud>) -> Response {
    let one = |(name, collection): &(&str, &str)| {
        let href = format!("{}/network/v2.0/{collection}", cloud.url);
        json!({"name": name, "collection": collection.replace('-', "_"), "links": [{"rel": "self", "href": href}]})
    };
    let resources: Vec<Value> = RESOURCES.iter().map(one).collect();
    answer(StatusCode::OK, &json!({"resources": resources}))
}

/// Who does what: everything is done here.
async fn service_providers(_: Caller) -> Result<Response, Refusal> {
    let provider = json!({"service_type": "L3_ROUTER_NAT", "name": "unkai", "default": true});
    Ok(answer(StatusCode::OK, &json!({"service_providers": [provider]})))
}
