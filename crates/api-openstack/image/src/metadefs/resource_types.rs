//! What definitions apply to: `/v2/metadefs/resource_types` and the associations of a namespace.

use std::collections::BTreeSet;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use http::StatusCode;
use serde_json::{Value, json};
use unkai_model::image::MetadefNamespace;
use unkai_openstack::{Caller, Cloud};

use super::definitions::{Sort, change, newest, read, timed, view};
use super::{schemas, validate};
use crate::error::{ApiError, Result};
use crate::json;

/// Those that every cloud knows; others appear when a namespace names them.
const KNOWN: [&str; 6] =
    ["OS::Cinder::Volume", "OS::Glance::Image", "OS::Nova::Aggregate", "OS::Nova::Flavor", "OS::Nova::Server", "OS::Trove::Instance"];

pub async fn known(caller: Caller, State(cloud): State<Cloud>) -> Result<Json<Value>> {
    if !caller.is_admin() && !caller.has_role("reader") && !caller.has_role("member") {
        return Err(ApiError::policy("list_metadef_resource_types"));
    }
    let store = cloud.store.read().await?;
    let mut names: BTreeSet<String> = KNOWN.map(str::to_owned).into();
    for namespace in store.all::<MetadefNamespace>() {
        names.extend(namespace.resource_types.keys().cloned());
    }
    let types: Vec<_> = names.into_iter().map(|name| json!({ "name": name })).collect();
    Ok(Json(json!({ "resource_types": types })))
}

pub async fn list(caller: Caller, State(cloud): State<Cloud>, Path(namespace): Path<String>) -> Result<Json<Value>> {
    let namespace = read(&cloud, &caller, &namespace).await?;
    let types: Vec<_> = newest(&namespace.resource_types).into_iter().map(|(name, one)| timed(view(name, one), one)).collect();
    Ok(Json(json!({ "resource_type_associations": types })))
}

pub async fn create(
    caller: Caller,
    State(cloud): State<Cloud>,
    Path(namespace): Path<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>)> {
    let body = json::parse(&body)?;
    let body = validate::object("resource_type_association", &schemas::resource_type(), &body)?.clone();
    let add = move |namespace: &mut MetadefNamespace, now| Sort::ResourceType.add(namespace, body.clone(), now);
    let (namespace, name) = change(&cloud, caller, namespace, "add_metadef_resource_type_association", add).await?;
    let one = &namespace.resource_types[&name];
    Ok((StatusCode::CREATED, Json(Value::Object(timed(view(&name, one), one)))))
}

pub async fn delete(caller: Caller, State(cloud): State<Cloud>, Path((namespace, name)): Path<(String, String)>) -> Result<StatusCode> {
    let remove = move |namespace: &mut MetadefNamespace, _| Sort::ResourceType.remove(namespace, &name);
    change(&cloud, caller, namespace, "remove_metadef_resource_type_association", remove).await?;
    Ok(StatusCode::NO_CONTENT)
}
