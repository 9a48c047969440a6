//! `/v2/metadefs/namespaces/{namespace}/properties`.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use http::StatusCode;
use serde_json::{Map, Value, json};
use unkai_model::image::MetadefNamespace;
use unkai_openstack::{Caller, Cloud};

use super::definitions::{Sort, change, read, view};
use super::{schemas, validate};
use crate::error::Result;
use crate::json;

/// What names of properties start with for a resource type.
fn prefix<'a>(namespace: &'a MetadefNamespace, resource_type: Option<&str>) -> &'a str {
    let association = resource_type.and_then(|name| namespace.resource_types.get(name));
    association.and_then(|one| one.body.get("prefix")).and_then(Value::as_str).unwrap_or("")
}

pub fn by_name(namespace: &MetadefNamespace, resource_type: Option<&str>) -> Map<String, Value> {
    let prefix = prefix(namespace, resource_type);
    let all = namespace.properties.iter();
    all.map(|(name, one)| (format!("{prefix}{name}"), Value::Object(one.body.clone()))).collect()
}

fn parse(body: &Bytes) -> Result<Map<String, Value>> {
    let body = json::parse(body)?;
    validate::object("property", &schemas::named_property(), &body).cloned()
}

pub async fn list(caller: Caller, State(cloud): State<Cloud>, Path(namespace): Path<String>) -> Result<Json<Value>> {
    let namespace = read(&cloud, &caller, &namespace).await?;
    Ok(Json(json!({ "properties": by_name(&namespace, None) })))
}

pub async fn create(
    caller: Caller,
    State(cloud): State<Cloud>,
    Path(namespace): Path<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>)> {
    let body = parse(&body)?;
    let add = move |namespace: &mut MetadefNamespace, now| Sort::Property.add(namespace, body.clone(), now);
    let (namespace, name) = change(&cloud, caller, namespace, "add_metadef_property", add).await?;
    Ok((StatusCode::CREATED, Json(Value::Object(view(&name, &namespace.properties[&name])))))
}

pub async fn show(
    caller: Caller,
    State(cloud): State<Cloud>,
    Path((namespace, wanted)): Path<(String, String)>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<Json<Value>> {
    let namespace = read(&cloud, &caller, &namespace).await?;
    let prefix = prefix(&namespace, query.get("resource_type").map(String::as_str));
    let name = wanted.strip_prefix(prefix).unwrap_or(&wanted);
    Ok(Json(Value::Object(view(&wanted, Sort::Property.get(&namespace, name)?))))
}

pub async fn update(
    caller: Caller,
    State(cloud): State<Cloud>,
    Path((namespace, name)): Path<(String, String)>,
    body: Bytes,
) -> Result<Json<Value>> {
    let body = parse(&body)?;
    let set = move |namespace: &mut MetadefNamespace, now| Sort::Property.replace(namespace, &name, body.clone(), now);
    let (namespace, name) = change(&cloud, caller, namespace, "modify_metadef_property", set).await?;
    Ok(Json(Value::Object(view(&name, &namespace.properties[&name]))))
}

pub async fn delete(caller: Caller, State(cloud): State<Cloud>, Path((namespace, name)): Path<(String, String)>) -> Result<StatusCode> {
    let remove = move |namespace: &mut MetadefNamespace, _| Sort::Property.remove(namespace, &name);
    change(&cloud, caller, namespace, "remove_metadef_property", remove).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn delete_all(caller: Caller, State(cloud): State<Cloud>, Path(namespace): Path<String>) -> Result<StatusCode> {
    let clear = |namespace: &mut MetadefNamespace, _| {
        namespace.properties.clear();
        Ok(())
    };
    change(&cloud, caller, namespace, "delete_metadef_namespace", clear).await?;
    Ok(StatusCode::NO_CONTENT)
}
