//! `/v2/metadefs/namespaces/{namespace}/tags`.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};
use unkai_model::image::MetadefNamespace;
use unkai_openstack::{Caller, Cloud};

use super::definitions::{Sort, change, newest, read, timed, view};
use super::{schemas, validate};
use crate::error::Result;
use crate::json;

fn whole(namespace: &MetadefNamespace, name: &str) -> Result<Json<Value>> {
    let tag = Sort::Tag.get(namespace, name)?;
    Ok(Json(Value::Object(timed(view(name, tag), tag))))
}

fn named(name: &str) -> Map<String, Value> {
    Map::from_iter([("name".to_owned(), json!(name))])
}

pub async fn list(caller: Caller, State(cloud): State<Cloud>, Path(namespace): Path<String>) -> Result<Json<Value>> {
    let namespace = read(&cloud, &caller, &namespace).await?;
    let tags: Vec<_> = newest(&namespace.tags).into_iter().map(|(name, _)| named(name)).collect();
    let first = format!("/v2/metadefs/namespaces/{}/tags", namespace.meta.name);
    Ok(Json(json!({ "tags": tags, "first": first, "schema": "/v2/schemas/metadefs/tags" })))
}

/// Replaces all tags, or adds to them when `X-Openstack-Append` says so.
pub async fn create_all(
    caller: Caller,
    State(cloud): State<Cloud>,
    Path(namespace): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>)> {
    let body = json::parse(&body)?;
    let body = validate::object("tags", &schemas::tag_list(), &body)?.clone();
    let append = headers.get("x-openstack-append").is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"));
    let tags: Vec<_> = body["tags"].as_array().into_iter().flatten().filter_map(Value::as_object).cloned().collect();
    let set = move |namespace: &mut MetadefNamespace, now| {
        if !append {
            namespace.tags.clear();
        }
        tags.iter().try_for_each(|tag| Sort::Tag.add(namespace, tag.clone(), now).map(drop))
    };
    change(&cloud, caller, namespace, "add_metadef_tags", set).await?;
    Ok((StatusCode::CREATED, Json(Value::Object(body))))
}

pub async fn create(
    caller: Caller,
    State(cloud): State<Cloud>,
    Path((namespace, name)): Path<(String, String)>,
) -> Result<(StatusCode, Json<Value>)> {
    validate::object("tag", &schemas::tag(), &json!({ "name": name }))?;
    let add = move |namespace: &mut MetadefNamespace, now| Sort::Tag.add(namespace, named(&name), now);
    let (namespace, name) = change(&cloud, caller, namespace, "add_metadef_tag", add).await?;
    Ok((StatusCode::CREATED, whole(&namespace, &name)?))
}

pub async fn show(caller: Caller, State(cloud): State<Cloud>, Path((namespace, name)): Path<(String, String)>) -> Result<Json<Value>> {
    whole(&*read(&cloud, &caller, &namespace).await?, &name)
}

pub async fn update(
    caller: Caller,
    State(cloud): State<Cloud>,
    Path((namespace, name)): Path<(String, String)>,
    body: Bytes,
) -> Result<Json<Value>> {
    let body = json::parse(&body)?;
    let body = validate::object("tag", &schemas::tag(), &body)?.clone();
    let set = move |namespace: &mut MetadefNamespace, now| Sort::Tag.replace(namespace, &name, body.clone(), now);
    let (namespace, name) = change(&cloud, caller, namespace, "modify_metadef_tag", set).await?;
    whole(&namespace, &name)
}

pub async fn delete(caller: Caller, State(cloud): State<Cloud>, Path((namespace, name)): Path<(String, String)>) -> Result<StatusCode> {
    let remove = move |namespace: &mut MetadefNamespace, _| Sort::Tag.remove(namespace, &name);
    change(&cloud, caller, namespace, "delete_metadef_tag", remove).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn delete_all(caller: Caller, State(cloud): State<Cloud>, Path(namespace): Path<String>) -> Result<StatusCode> {
    let clear = |namespace: &mut MetadefNamespace, _| {
        namespace.tags.clear();
        Ok(())
    };
    change(&cloud, caller, namespace, "delete_metadef_tags", clear).await?;
    Ok(StatusCode::NO_CONTENT)
}
