//! `PATCH /v2/images/{id}`: changes in the two drafts of JSON patch that Glance speaks.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};
use unkai_model::Id;
use unkai_model::image::{Image, ImageState, Visibility};
use unkai_openstack::{Caller, CallerName, Cloud};

use super::view::ImageView;
use super::{fields, pointer};
use crate::error::{ApiError, Result};
use crate::{access, json};

/// How operations are written, and whether `add` may replace.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Draft {
    /// `{"replace": "/name", "value": "x"}`; `add` is for what is not there.
    Four,
    /// `{"op": "replace", "path": "/name", "value": "x"}`.
    Ten,
}

const DRAFTS: [(&str, Draft); 2] =
    [("application/openstack-images-v2.0-json-patch", Draft::Four), ("application/openstack-images-v2.1-json-patch", Draft::Ten)];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Op {
    Add,
    Remove,
    Replace,
}

const OPS: [(&str, Op); 3] = [("add", Op::Add), ("remove", Op::Remove), ("replace", Op::Replace)];

#[derive(Debug, Clone, PartialEq)]
struct Change {
    op: Op,
    name: String,
    /// Null for `remove`.
    value: Value,
    draft: Draft,
}

pub async fn patch(
    caller: Caller,
    State(cloud): State<Cloud>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response> {
    let changes = read(&headers, &body)?;
    let apply = move |tx: &mut unkai_store::Tx| {
        let id = Id::<Image>::new(id.as_str());
        let image = tx.get(&id).ok_or_else(|| ApiError::no_image(&id))?;
        access::see(&caller, &image)?;
        if changes.is_empty() {
            return Ok(image);
        }
        tx.update(&id, |image| {
            changes.iter().try_for_each(|change| apply(&caller, image, change))?;
            fields::check_counts(&image.spec)
        })
    };
    let image = cloud.store.transact(apply).await?;
    Ok(Json(ImageView(&image)).into_response())
}

fn read(headers: &HeaderMap, body: &Bytes) -> Result<Vec<Change>> {
    let draft = draft(headers)?;
    let Value::Array(operations) = json::parse(body)? else {
        return Err(ApiError::bad_request("Request body must be a JSON array of operation objects."));
    };
    operations.iter().map(|operation| read_change(operation, draft)).collect()
}

fn draft(headers: &HeaderMap) -> Result<Draft> {
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let kind = given.split(';').next().unwrap_or("").trim();
    DRAFTS.iter().find(|(name, _)| *name == kind).map(|(_, draft)| *draft).ok_or_else(|| {
        let allowed = DRAFTS.map(|(name, _)| name).join(", ");
        let header = HeaderValue::from_str(&allowed).expect("names of media types are a header value");
        ApiError::unsupported(format!("Image PATCH expects Content-Type one of: {allowed}"))
            .with_header(HeaderName::from_static("accept-patch"), header)
    })
}

fn read_change(operation: &Value, draft: Draft) -> Result<Change> {
    let operation = operation.as_object().ok_or_else(|| ApiError::bad_request("Operations must be JSON objects."))?;
    let (op, path) = match draft {
        Draft::Ten => (op_ten(operation)?, operation.get("path")),
        Draft::Four => op_four(operation)?,
    };
    let path = path.ok_or_else(|| ApiError::bad_request("Unable to find 'path' in JSON Schema change"))?;
    let path = path.as_str().ok_or_else(|| ApiError::bad_request(format!("Pointer `{path}` is not a string.")))?;
    let path = pointer::decode(path)?;
    let name = path[0].clone();
    let depth = if name == "locations" && op != Op::Replace { 2 } else { 1 };
    if path.len() != depth {
        return Err(ApiError::bad_request(format!("Invalid JSON pointer for this resource: '/{}'", path.join("/"))));
    }
    let value = match (op, operation.get("value")) {
        (Op::Remove, _) => Value::Null,
        (_, Some(value)) => value.clone(),
        (op, None) => {
            let op = OPS.iter().find(|(_, known)| *known == op).map_or("", |(name, _)| name);
            return Err(ApiError::bad_request(format!("Operation \"{op}\" requires a member named \"value\".")));
        }
    };
    fields::check_settable(&name, false)?;
    if op != Op::Remove && depth == 1 {
        fields::check_value(&name, &value)?;
    }
    Ok(Change { op, name, value, draft })
}

fn op_ten(operation: &Map<String, Value>) -> Result<Op> {
    let known = "It must be one of the following: add, remove, replace.";
    let given = operation.get("op").ok_or_else(|| ApiError::bad_request(format!("Unable to find `op` in JSON Schema change. {known}")))?;
    let found = OPS.iter().find(|(name, _)| given == name).map(|(_, op)| *op);
    found.ok_or_else(|| ApiError::bad_request(format!("Invalid operation: `{}`. {known}", given.as_str().unwrap_or_default())))
}

fn op_four(operation: &Map<String, Value>) -> Result<(Op, Option<&Value>)> {
    let mut found = OPS.iter().filter_map(|(name, op)| operation.get(*name).map(|path| (*op, Some(path))));
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        _ => Err(ApiError::bad_request("Operation objects must contain exactly one member named \"add\", \"remove\", or \"replace\".")),
    }
}

fn apply(caller: &CallerName, image: &mut Image, change: &Change) -> Result<()> {
    let Change { op, name, value, .. } = change;
    if name == "locations" {
        return locations(caller, image, change);
    }
    if name == "owner" && *op != Op::Remove && !caller.is_admin() {
        return Err(ApiError::forbidden("Owner can't be updated by non admin."));
    }
    if let ("visibility", Some(visibility)) = (name.as_str(), value.as_str().and_then(Visibility::named)) {
        access::set_visibility(caller, visibility)?;
    }
    access::change(caller, image, "modify_image")?;
    let known = fields::is_base(name);
    let present = known || image.spec.properties.contains_key(name);
    match op {
        Op::Replace if !present => Err(ApiError::conflict(format!("Property {name} does not exist."))),
        Op::Add if present && change.draft == Draft::Four => Err(ApiError::conflict(format!("Property {name} already present."))),
        Op::Remove if known => Err(ApiError::forbidden(format!("Property {name} may not be removed."))),
        Op::Remove if !present => Err(ApiError::conflict(format!("Property {name} does not exist."))),
        Op::Remove => {
            image.spec.properties.remove(name);
            Ok(())
        }
        Op::Add | Op::Replace => set(image, name, value),
    }
}

fn set(image: &mut Image, name: &str, value: &Value) -> Result<()> {
    match name {
        "name" => image.meta.name = value.as_str().unwrap_or_default().to_owned(),
        "owner" => image.meta.project = value.as_str().map(Id::new),
        // The bytes are judged by what was declared when they began to arrive.
        "disk_format" | "container_format" if image.status.state != ImageState::Queued => {
            return Err(ApiError::forbidden(format!("Attribute {name} can be only replaced for a queued image.")));
        }
        _ if !fields::is_base(name) && name.chars().count() > 255 => {
            return Err(ApiError::bad_request("Custom property should not be greater than 255 characters."));
        }
        _ => fields::set(&mut image.spec, name, value)?,
    }
    Ok(())
}

/// Where the bytes are is not shown, so it cannot be changed either.
fn locations(caller: &CallerName, image: &Image, change: &Change) -> Result<()> {
    if change.op == Op::Replace && change.value.as_array().is_some_and(Vec::is_empty) {
        return Err(ApiError::forbidden("Cannot set locations to empty list."));
    }
    access::change(caller, image, "set_image_location")?;
    let verb = match change.op {
        Op::Add => "add",
        Op::Remove => "remove",
        Op::Replace => "update",
    };
    Err(ApiError::forbidden(format!("It's not allowed to {verb} locations if locations are invisible.")))
}
