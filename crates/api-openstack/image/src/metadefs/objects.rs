//! `/v2/metadefs/namespaces/{namespace}/objects`: groups of properties.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use http::StatusCode;
use serde_json::{Map, Value, json};
use unkai_model::image::{Definition, MetadefNamespace};
use unkai_openstack::{Caller, Cloud};

use super::definitions::{Sort, change, newest, read, refuse_kept, timed, view};
use super::{schemas, validate};
use crate::error::Result;
use crate::json;

pub fn view_of(namespace: &MetadefNamespace, name: &str, object: &Definition) -> Value {
    let mut body = timed(view(name, object), object);
    body.entry("required").or_insert_with(|| json!([]));
    body.entry("properties").or_insert_with(|| json!({}));
    body.insert("self".into(), json!(format!("/v2/metadefs/namespaces/{}/objects/{name}", namespace.meta.name)));
    body.insert("schema".into(), json!("/v2/schemas/metadefs/object"));
    Value::Object(body)
}

fn parse(body: &Bytes) -> Result<Map<String, Value>> {
    let body = json::parse(body)?;
    let body = validate::object("object", &schemas::object(), &body)?;
    refuse_kept(body)?;
    Ok(body.clone())
}

pub async fn list(caller: Caller, State(cloud): State<Cloud>, Path(namespace): Path<String>) -> Result<Json<Value>> {
    let namespace = read(&cloud, &caller, &namespace).await?;
    let objects: Vec<_> = newest(&namespace.objects).into_iter().map(|(name, one)| view_of(&namespace, name, one)).collect();
    let first = format!("/v2/metadefs/namespaces/{}/objects", namespace.meta.name);
    Ok(Json(json!({ "objects": objects, "first": first, "schema": "/v2/schemas/metadefs/objects" })))
}

pub async fn create(
    caller: Caller,
    State(cloud): State<Cloud>,
    Path(namespace): Path<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>)> {
    let body = parse(&body)?;
    let add = move |namespace: &mut MetadefNamespace, now| Sort::Object.add(namespace, body.clone(), now);
    let (namespace, name) = change(&cloud, caller, namespace, "add_metadef_object", add).await?;
    Ok((StatusCode::CREATED, Json(view_of(&namespace, &name, &namespace.objects[&name]))))
}

pub async fn show(caller: Caller, State(cloud): State<Cloud>, Path((namespace, name)): Path<(String, String)>) -> Result<Json<Value>> {
    let namespace = read(&cloud, &caller, &namespace).await?;
    Ok(Json(view_of(&namespace, &name, Sort::Object.get(&namespace, &name)?)))
}

pub async fn update(
    caller: Caller,
    State(cloud): State<Cloud>,
    Path((namespace, name)): Path<(String, String)>,
    body: Bytes,
) -> Result<Json<Value>> {
    let body = parse(&body)?;
    let set = move |namespace: &mut MetadefNamespace, now| Sort::Object.replace(namespace, &name, body.clone(), now);
    let (namespace, name) = change(&cloud, caller, namespace, "modify_metadef_object", set).await?;
    Ok(Json(view_of(&namespace, &name, &namespace.objects[&name])))
}

pub async fn delete(caller: Caller, State(cloud): State<Cloud>, Path((namespace, name)): Path<(String, String)>) -> Result<StatusCode> {
    let remove = move |namespace: &mut MetadefNamespace, _| Sort::Object.remove(namespace, &name);
    change(&cloud, caller, namespace, "delete_metadef_object", remove).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn delete_all(caller: Caller, State(cloud): State<Cloud>, Path(namespace): Path<String>) -> Result<StatusCode> {
    let clear = |namespace: &mut MetadefNamespace, _| {
        namespace.objects.clear();
        Ok(())
    };
    change(&cloud, caller, namespace, "delete_metadef_namespace", clear).await?;
    Ok(StatusCode::NO_CONTENT)
}
