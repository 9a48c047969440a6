//! `/v2/metadefs/namespaces`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde_json::{Map, Value, json};
use unkai_model::image::MetadefNamespace;
use unkai_model::{Id, Meta, Timestamp};
use unkai_openstack::{Caller, CallerName, Cloud};
use unkai_store::Tx;

use super::definitions::{Sort, find_to_change, missing, newest, read, refuse_kept, sees, timed, view};
use super::{objects, properties, schemas, validate};
use crate::error::{ApiError, Result};
use crate::image::view::time;
use crate::json;

const PATH: &str = "/v2/metadefs/namespaces";

pub async fn list(caller: Caller, State(cloud): State<Cloud>, Query(query): Query<BTreeMap<String, String>>) -> Result<Json<Value>> {
    let store = cloud.store.read().await?;
    let wanted = |namespace: &MetadefNamespace| {
        sees(&caller, namespace)
            && query.get("visibility").is_none_or(|wanted| wanted == visibility(namespace))
            && query.get("resource_types").is_none_or(|types| types.split(',').any(|one| namespace.resource_types.contains_key(one)))
    };
    let mut found: Vec<_> = store.all::<MetadefNamespace>().filter(|namespace| wanted(namespace)).collect();
    sort(&mut found, &query)?;
    let start = match query.get("marker") {
        Some(marker) => 1 + found.iter().position(|namespace| namespace.meta.name == *marker).ok_or_else(|| missing(marker))?,
        None => 0,
    };
    let limit = match query.get("limit").map(|limit| limit.parse::<usize>()) {
        None => usize::MAX,
        Some(Ok(limit)) => limit,
        Some(Err(_)) => return Err(ApiError::bad_request("limit param must be an integer")),
    };
    let more = found.len() - start > limit;
    let page: Vec<_> = found.into_iter().skip(start).take(limit).collect();
    let mut body = json!({ "first": PATH, "schema": "/v2/schemas/metadefs/namespaces" });
    if let Some(last) = page.last().filter(|_| more) {
        body["next"] = json!(format!("{PATH}?limit={limit}&marker={}", last.meta.name));
    }
    body["namespaces"] = page.iter().map(|namespace| Value::Object(head(namespace))).collect();
    Ok(Json(body))
}

fn sort(found: &mut [Arc<MetadefNamespace>], query: &BTreeMap<String, String>) -> Result<()> {
    match query.get("sort_key").map_or("created_at", String::as_str) {
        "created_at" => found.sort_by_key(|one| one.meta.created),
        "updated_at" => found.sort_by_key(|one| one.meta.updated),
        "namespace" => found.sort_by(|a, b| a.meta.name.cmp(&b.meta.name)),
        other => return Err(ApiError::bad_request(format!("Invalid sort key: {other}."))),
    }
    match query.get("sort_dir").map_or("desc", String::as_str) {
        "asc" => Ok(()),
        "desc" => {
            found.reverse();
            Ok(())
        }
        other => Err(ApiError::bad_request(format!("Invalid sort direction: {other}"))),
    }
}

pub async fn create(caller: Caller, State(cloud): State<Cloud>, body: Bytes) -> Result<Response> {
    let body = json::parse(&body)?;
    let body = validate::object("namespace", &schemas::namespace(), &body)?.clone();
    refuse_kept(&body)?;
    let make = move |tx: &mut Tx| {
        if !caller.is_admin() {
            return Err(ApiError::policy("add_metadef_namespace"));
        }
        let name = body["namespace"].as_str().unwrap_or_default();
        if tx.is_claimed(MetadefNamespace::NAMES, name) {
            return Err(ApiError::conflict(format!("The metadata definition namespace={name} already exists.")));
        }
        let mut namespace = empty(&caller, tx.new_id());
        set(&mut namespace, &body, &caller);
        add_nested(&mut namespace, &body, tx.now())?;
        Ok(tx.insert(namespace)?)
    };
    let namespace = cloud.store.transact(make).await?;
    let location = format!("{PATH}/{}", namespace.meta.name);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(whole(&namespace, None))).into_response())
}

fn empty(caller: &CallerName, id: Id<MetadefNamespace>) -> MetadefNamespace {
    let mut meta = Meta::new(id);
    meta.project = caller.project.clone();
    MetadefNamespace {
        meta,
        display_name: None,
        description: None,
        public: false,
        protected: false,
        objects: BTreeMap::new(),
        properties: BTreeMap::new(),
        tags: BTreeMap::new(),
        resource_types: BTreeMap::new(),
    }
}

/// What a namespace says about itself. Not in the body: as in a new one.
fn set(namespace: &mut MetadefNamespace, body: &Map<String, Value>, caller: &CallerName) {
    let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
    namespace.meta.name = text("namespace").unwrap_or_default();
    namespace.display_name = text("display_name");
    namespace.description = text("description");
    namespace.public = text("visibility").as_deref() == Some("public");
    namespace.protected = body.get("protected").and_then(Value::as_bool).unwrap_or(false);
    namespace.meta.project = text("owner").map(Id::new).or_else(|| namespace.meta.project.take()).or_else(|| caller.project.clone());
}

fn add_nested(namespace: &mut MetadefNamespace, body: &Map<String, Value>, now: Timestamp) -> Result<()> {
    for (field, sort) in [("objects", Sort::Object), ("tags", Sort::Tag), ("resource_type_associations", Sort::ResourceType)] {
        for item in body.get(field).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object) {
            sort.add(namespace, item.clone(), now)?;
        }
    }
    for (name, property) in body.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let mut property = property.as_object().cloned().unwrap_or_default();
        property.insert("name".into(), json!(name));
        Sort::Property.add(namespace, property, now)?;
    }
    Ok(())
}

pub async fn show(
    caller: Caller,
    State(cloud): State<Cloud>,
    Path(name): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<Json<Value>> {
    let namespace = read(&cloud, &caller, &name).await?;
    Ok(Json(whole(&namespace, query.get("resource_type").map(String::as_str))))
}

pub async fn update(caller: Caller, State(cloud): State<Cloud>, Path(name): Path<String>, body: Bytes) -> Result<Json<Value>> {
    let body = json::parse(&body)?;
    let body = validate::object("namespace", &schemas::namespace(), &body)?.clone();
    refuse_kept(&body)?;
    let apply = move |tx: &mut Tx| {
        let namespace = find_to_change(tx, &caller, &name, "modify_metadef_namespace")?;
        let wanted = body["namespace"].as_str().unwrap_or_default();
        if wanted != name && tx.is_claimed(MetadefNamespace::NAMES, wanted) {
            return Err(ApiError::conflict(format!("The metadata definition namespace={wanted} already exists.")));
        }
        tx.update(&namespace.meta.id, |namespace| {
            set(namespace, &body, &caller);
            Ok(())
        })
    };
    let namespace = cloud.store.transact(apply).await?;
    Ok(Json(Value::Object(head(&namespace))))
}

pub async fn delete(caller: Caller, State(cloud): State<Cloud>, Path(name): Path<String>) -> Result<StatusCode> {
    let remove = move |tx: &mut Tx| {
        let namespace = find_to_change(tx, &caller, &name, "delete_metadef_namespace")?;
        if namespace.protected {
            return Err(ApiError::forbidden(format!("Metadata definition namespace={name} is protected and cannot be deleted.")));
        }
        Ok(tx.delete(&namespace.meta.id)?)
    };
    cloud.store.transact(remove).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn visibility(namespace: &MetadefNamespace) -> &'static str {
    if namespace.public { "public" } else { "private" }
}

/// A namespace in a list: with its resource types, without what is defined in it.
fn head(namespace: &MetadefNamespace) -> Map<String, Value> {
    let meta = &namespace.meta;
    let mut body = Map::new();
    let mut put = |name: &str, value: Value| body.insert(name.to_owned(), value);
    put("namespace", json!(meta.name));
    put("visibility", json!(visibility(namespace)));
    put("protected", json!(namespace.protected));
    put("owner", json!(meta.project));
    put("created_at", json!(time(meta.created)));
    put("updated_at", json!(time(meta.updated)));
    put("self", json!(format!("{PATH}/{}", meta.name)));
    put("schema", json!("/v2/schemas/metadefs/namespace"));
    for (name, value) in [("display_name", &namespace.display_name), ("description", &namespace.description)] {
        if let Some(value) = value {
            put(name, json!(value));
        }
    }
    let types: Vec<_> = newest(&namespace.resource_types).into_iter().map(|(name, one)| timed(view(name, one), one)).collect();
    if !types.is_empty() {
        put("resource_type_associations", json!(types));
    }
    body
}

/// With everything in it; names of properties as the given resource type has them.
fn whole(namespace: &MetadefNamespace, resource_type: Option<&str>) -> Value {
    let mut body = head(namespace);
    let mut put = |name: &str, value: Value| {
        if value.as_array().is_none_or(|list| !list.is_empty()) && value.as_object().is_none_or(|map| !map.is_empty()) {
            body.insert(name.to_owned(), value);
        }
    };
    put("objects", newest(&namespace.objects).into_iter().map(|(name, one)| objects::view_of(namespace, name, one)).collect());
    put("properties", Value::Object(properties::by_name(namespace, resource_type)));
    put("tags", newest(&namespace.tags).into_iter().map(|(name, _)| json!({ "name": name })).collect());
    Value::Object(body)
}
